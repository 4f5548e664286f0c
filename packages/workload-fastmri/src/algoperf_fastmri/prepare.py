"""Prepares fastMRI, the full-scale data, from the published files as they are (see `algoperf_fastmri.published`)."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from algoperf.data.files import remove
from algoperf.data.preparation import DataError, Preparation
from algoperf.data.sources import check_folder, check_space
from algoperf_fastmri.archives import find
from algoperf_fastmri.published import COMMAND, PUBLISHED, Part, VolumeArchive, VolumeFiles
from algoperf_fastmri.unpacking import discard_unfinished, found_volumes, unpack, unpacked_to
from algoperf_fastmri.volumes import INDEX, DamagedVolume, Volume, describe, split_files, write_index


def prepare_full(job: Preparation) -> list[Path]:
    """Turns the published archives into a folder of volumes per split; see `algoperf_fastmri.volumes`.

    About 114 GB are written. In place of an archive the source may have the folder that it unpacks to. An interrupted
    run goes on with the volumes that it was at; an archive all of whose volumes are there is not needed again.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: a file is missing, or is not the published one, or volumes are damaged, or there is no room.
    """
    return prepare_files(job, PUBLISHED)


def prepare_files(job: Preparation, published: VolumeFiles) -> list[Path]:
    """`prepare_full` with any files of that layout."""
    unfinished = [archive for archive in published.archives if not _is_finished(job.folder, archive)]
    missing = [archive for archive in unfinished if len(found_volumes(job.folder, archive)) < archive.num_volumes]
    skipped: dict[str, list[str]] = {}
    if missing:
        source = _checked_source(job, missing)
        for archive in missing:
            discard_unfinished(job.folder, archive)
        check_space(job.folder, sum(_missing_bytes(job.folder, archive, published) for archive in missing))
        skipped = unpack(job, source, missing, published.image_size)
    for archive in unfinished:
        _divide(job, archive, skipped.get(archive.name, []))
    for archive in published.archives:
        # Again, in case a run was killed while it tidied up.
        remove(unpacked_to(job.folder, archive))
    return [path for archive in published.archives for part in archive.parts for path in split_files(job.folder / part)]


def _is_finished(folder: Path, archive: VolumeArchive) -> bool:
    return all((folder / part / INDEX).exists() for part in archive.parts)


def _checked_source(job: Preparation, archives: Sequence[VolumeArchive]) -> Path:
    """The source, if all is there that it should have."""
    packed = [archive for archive in archives if not (job.source and find(job.source, archive))]
    return check_folder(job.source, packed, COMMAND)


def _missing_bytes(folder: Path, archive: VolumeArchive, published: VolumeFiles) -> int:
    """About how much is still to be written."""
    written = sum(path.stat().st_size for path in found_volumes(folder, archive))
    return max(0, archive.num_slices * published.bytes_per_slice - written)


def _divide(job: Preparation, archive: VolumeArchive, skipped: Sequence[str]) -> None:
    """Moves an archive's volumes to its splits, and finishes these.

    A run that is killed here leaves each volume somewhere, and the next one puts it into the same place.
    """
    volumes = iter(found_volumes(job.folder, archive))
    for split, part in archive.parts.items():
        chosen = list(islice(volumes, part.num_volumes))
        if not (job.folder / split / INDEX).exists():
            _finish(job, split, part, chosen, skipped)


def _finish(job: Preparation, split: str, part: Part, paths: Sequence[Path], skipped: Sequence[str]) -> None:
    """Moves volumes to a split, and writes its index."""
    folder = job.folder / split
    folder.mkdir(exist_ok=True)
    volumes = list(_placed(folder, paths))
    num_slices = sum(volume.num_slices for volume in volumes)
    if num_slices != part.num_slices and not skipped:
        raise DataError(
            f"The {split} split came out with {num_slices:,} slices instead of {part.num_slices:,}; delete "
            f"{job.folder} and run the same command again with the published files."
        )
    write_index(folder, volumes, skipped)
    job.report(f"{split}: {num_slices:,} slices of {len(volumes)} volumes.")
    if skipped:
        job.report(f"Damaged volumes that were left out: {len(skipped)}, named in {folder / INDEX}.")


def _placed(folder: Path, paths: Sequence[Path]) -> Iterator[Volume]:
    for path in paths:
        try:
            volume = describe(path)
        except DamagedVolume as error:
            raise DataError(f"{path} is damaged ({error}); delete it and run the same command again.") from error
        path.rename(folder / path.name)
        yield volume
