"""Prepares ImageNet, the full-scale data, from the published files as they are (see `algoperf_imagenet.published`)."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from algoperf.data.preparation import DataError, Preparation
from algoperf.data.sources import check_contents, check_folder, check_space, forget_checks
from algoperf.data.tar_gz import stream_tar_gz
from algoperf_imagenet.devkit import Devkit, read_devkit
from algoperf_imagenet.published import COMMAND, PUBLISHED, ImageNetFiles
from algoperf_imagenet.shards import PublishedImage, Shard, make_shards
from algoperf_imagenet.store import (
    SKIPPED,
    discard_unfinished,
    finish_split,
    is_finished,
    num_skipped,
    num_written,
    split_files,
)
from algoperf_imagenet.tars import Member, list_members, read_members

# The small ones first: what is wrong with the files shows early.
SPLITS = ("test", "validation", "train")
_VALIDATION_SHARD = 1_000
_NAMED = 5


def prepare_full(job: Preparation) -> list[Path]:
    """Turns the published files into one folder of JPEG files per split; see `algoperf_imagenet.store`.

    An interrupted run goes on with the class it was at. Files whose splits are finished are not needed again.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: a file is missing, or is not the published one, or images are damaged, or the disk is too small.
    """
    return prepare_files(job, PUBLISHED)


def prepare_files(job: Preparation, published: ImageNetFiles) -> list[Path]:
    """`prepare_full` with any files of that layout."""
    unfinished = [split for split in SPLITS if not is_finished(job.folder / split)]
    if unfinished:
        archives = published.needed_for(unfinished)
        source = check_folder(job.source, archives, COMMAND)
        check_space(job.folder, _missing_bytes(job.folder, source, unfinished, published))
        check_contents(job, source, archives)
        for split in unfinished:
            _prepare_split(job, source, split, published)
    for split in SPLITS:
        # Again, in case a run was killed while it tidied up.
        finish_split(job.folder / split)
    forget_checks(job.folder)
    return [path for split in SPLITS for path in split_files(job.folder / split)]


def _prepare_split(job: Preparation, source: Path, split: str, published: ImageNetFiles) -> None:
    folder, total = job.folder / split, published.split_sizes[split]
    shards = {"train": _train_shards, "validation": _validation_shards, "test": _test_shards}[split](source, published)
    # Metrics of fewer images would be metrics of another set.
    skip_damaged = job.skip_damaged and split == "train"
    damaged = make_shards(folder, shards, job.report, total, skip_damaged=skip_damaged)
    if damaged:
        raise DataError(_complaint(split, damaged, published))
    if sum(num_written(folder)) != total:
        raise DataError(
            f"The {split} split came out with {sum(num_written(folder))} images instead of {total}; "
            f"delete {folder} and run the same command again."
        )
    finish_split(folder)
    if split == "train" and num_skipped(job.folder):
        job.report(f"Damaged images that were left out: {num_skipped(job.folder)}, named in {folder / SKIPPED}.")


def _complaint(split: str, damaged: Sequence[str], published: ImageNetFiles) -> str:
    names = ", ".join(damaged[:_NAMED]) + (", ..." if len(damaged) > _NAMED else "")
    if split == "train":
        remedy = "pass --skip-damaged to leave them out; what is finished is kept"
    else:
        archive = published.validation if split == "validation" else published.test
        remedy = f"evaluation images are never left out; check this machine's disk and memory, or {archive.obtain}"
    return f"Of the {split} images, {len(damaged)} cannot be read: {names}; {remedy}."


def _missing_bytes(folder: Path, source: Path, splits: Sequence[str], published: ImageNetFiles) -> int:
    """About how much is still to be written: images take as much as they do in the published files."""
    archives = {"train": published.train, "validation": published.validation, "test": published.test}
    missing = 0
    for split in splits:
        discard_unfinished(folder / split)
        written = sum(path.stat().st_size for path in split_files(folder / split))
        missing += max(0, (source / archives[split].name).stat().st_size - written)
    return missing


def _read_devkit(source: Path, published: ImageNetFiles) -> Devkit:
    devkit = read_devkit(source / published.devkit.name)
    # It has the published contents, so these would be mistakes of the reader.
    assert len(devkit.classes) == published.num_classes
    assert len(devkit.validation_labels) == published.split_sizes["validation"]
    return devkit


def _train_shards(source: Path, published: ImageNetFiles) -> list[Shard]:
    """A shard per class, from its tar in the tar."""
    path = source / published.train.name
    classes = _read_devkit(source, published).classes
    tars = {PurePosixPath(member.name).stem: member for member in list_members(path)}
    odd = sorted(tars.keys() ^ set(classes))
    if odd:
        state = "misses the class" if odd[0] in classes else "holds, beside the classes,"
        raise DataError(
            f"{path} {state} {odd[0]} ({len(tars)} are there, {len(classes)} should be); {published.train.obtain}."
        )
    return [Shard(name, partial(_class_images, path, tars[name], label)) for label, name in enumerate(classes)]


def _class_images(path: Path, tar: Member, label: int) -> Iterator[PublishedImage]:
    members = list_members(path, tar)
    for member, content in zip(members, read_members(path, members), strict=True):
        yield PublishedImage(member.name, content, label)


def _validation_shards(source: Path, published: ImageNetFiles) -> list[Shard]:
    """Shards of images in the order of their names, to which the development kit's labels belong."""
    path = source / published.validation.name
    labels = _read_devkit(source, published).validation_labels
    members = sorted(list_members(path))
    if len(members) != len(labels):
        raise DataError(
            f"{path} holds {len(members)} images, and {len(labels)} have labels; {published.validation.obtain}."
        )
    images = list(zip(members, labels))
    chunks = [images[start : start + _VALIDATION_SHARD] for start in range(0, len(images), _VALIDATION_SHARD)]
    return [Shard(f"{number:05}", partial(_validation_images, path, chunk)) for number, chunk in enumerate(chunks)]


def _validation_images(path: Path, images: Sequence[tuple[Member, int]]) -> Iterator[PublishedImage]:
    contents = read_members(path, [member for member, _ in images])
    for (member, label), content in zip(images, contents, strict=True):
        yield PublishedImage(member.name, content, label)


def _test_shards(source: Path, published: ImageNetFiles) -> list[Shard]:
    """One shard, since a tar.gz is read from its beginning."""
    return [Shard("imagenetv2", partial(_test_images, source / published.test.name, published))]


def _test_images(path: Path, published: ImageNetFiles) -> Iterator[PublishedImage]:
    for name, content in stream_tar_gz(path):
        # The folder's name is the label: a number, and no text to be sorted.
        folder = PurePosixPath(name).parent.name
        if not (folder.isdecimal() and int(folder) < published.num_classes):
            raise DataError(f"{name} in {path} is in no folder that is a class; {published.test.obtain}.")
        yield PublishedImage(name, content, int(folder))
