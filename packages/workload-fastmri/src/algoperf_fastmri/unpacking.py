"""Copies published volumes to the folder of the prepared data, several archives at a time, and reads each once."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from algoperf.data.files import remove, writing
from algoperf.data.preparation import DataError, Preparation
from algoperf_fastmri.archives import find, read_volumes
from algoperf_fastmri.published import VolumeArchive
from algoperf_fastmri.volumes import DamagedVolume, check_volume, volumes_in

_REPORTS = 20
_NAMED = 5


class _Stopped(Exception):
    """Another archive failed, or the user interrupts."""


def unpacked_to(folder: Path, archive: VolumeArchive) -> Path:
    """Where, in the folder of the prepared data, an archive's volumes are until all are there."""
    return folder / archive.label


def found_volumes(folder: Path, archive: VolumeArchive) -> list[Path]:
    """The volumes of an archive that are there, by name, wherever they are now."""
    folders = [unpacked_to(folder, archive), *(folder / part for part in archive.parts)]
    return sorted((path for some in folders for path in volumes_in(some)), key=lambda path: path.name)


def discard_unfinished(folder: Path, archive: VolumeArchive) -> None:
    """Removes what a killed run was about to write."""
    for path in unpacked_to(folder, archive).glob(".*.tmp"):
        remove(path)


def unpack(job: Preparation, source: Path, archives: Sequence[VolumeArchive], image_size: int) -> dict[str, list[str]]:
    """Writes the volumes that are not there yet to the folders of their archives.

    Args:
        job: says where to, and who is told how far it is.
        source: the folder of the archives.
        archives: those that are not all there.
        image_size: of the volumes' images.

    Returns:
        By archive, damaged volumes that were left out.

    Raises:
        DataError: an archive is not as it should be, or has damaged volumes, or there is no room.
    """
    # Threads do: unpacking leaves Python's lock alone, and it takes nearly all of the time.
    pool = ThreadPoolExecutor(len(archives))
    work = _Work(job, source, image_size)
    try:
        futures = {pool.submit(work.write, archive): archive for archive in archives}
        return {futures[future].name: future.result() for future in as_completed(futures)}
    finally:
        # Where one fails, or the user interrupts, the others are given up.
        work.stop.set()
        pool.shutdown()


@dataclass(frozen=True)
class _Work:
    """What the archives have in common.

    Attributes:
        job: says where to.
        source: the folder of the archives.
        image_size: of the volumes' images.
        stop: is set if one fails.
        reporting: held while a line is reported.
    """

    job: Preparation
    source: Path
    image_size: int
    stop: threading.Event = field(default_factory=threading.Event)
    reporting: threading.Lock = field(default_factory=threading.Lock)

    def write(self, archive: VolumeArchive) -> list[str]:
        """Writes the volumes of an archive that are not there yet. Returns those that are left out, and why."""
        path = find(self.source, archive)
        assert path is not None
        damaged = list(self._damaged(path, archive))
        if damaged and not (self.job.skip_damaged and "train" in archive.parts):
            names = ", ".join(damaged[:_NAMED]) + (", ..." if len(damaged) > _NAMED else "")
            raise DataError(f"Of the volumes in {path}, {len(damaged)} cannot be used: {names}; {_remedy(archive)}.")
        return damaged

    def _damaged(self, path: Path, archive: VolumeArchive) -> Iterator[str]:
        """Writes the volumes of an archive, and yields the names of those that it does not write."""
        done = {volume.name for volume in found_volumes(self.job.folder, archive)}
        number = 0
        for number, (name, read) in enumerate(read_volumes(path), start=1):
            if self.stop.is_set():
                raise _Stopped
            if name not in done:
                try:
                    self._write_volume(unpacked_to(self.job.folder, archive) / name, read())
                except DamagedVolume as error:
                    yield f"{name} ({error})"
            self._report(archive, number)
        if number != archive.num_volumes:
            raise DataError(f"{path} holds {number} volumes and should hold {archive.num_volumes}; {archive.obtain}.")

    def _write_volume(self, path: Path, content: bytes) -> None:
        """Writes a volume, if there is nothing wrong with it. Raises DamagedVolume."""
        with writing(path) as temporary:
            temporary.write_bytes(content)
            check_volume(temporary, self.image_size)

    def _report(self, archive: VolumeArchive, number: int) -> None:
        total = archive.num_volumes
        if number * _REPORTS // total > (number - 1) * _REPORTS // total:
            with self.reporting:
                self.job.report(f"{archive.label}: {number:,} of {total:,} volumes are done.")


def _remedy(archive: VolumeArchive) -> str:
    if "train" in archive.parts:
        return "pass --skip-damaged to leave them out; the others are kept"
    # Metrics of fewer volumes would be metrics of another set.
    return f"evaluated volumes are never left out; check this machine's disk and memory, or {archive.obtain}"
