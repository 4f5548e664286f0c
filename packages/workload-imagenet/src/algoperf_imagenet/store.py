"""Images on disk: JPEG files as they were published, laid end to end, and their labels; numpy only.

A split is a folder of shards, `NAME.arrayrecord` (https://github.com/google/array_record), whose records are JPEG
files. Beside them lie `labels.npy`, the labels of all records in the order of the sorted shard names, and
`counts.npy`, how many records each shard has.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from algoperf.data import record_shards
from algoperf.data.files import writing
from algoperf.data.preparation import DataError
from algoperf.data.record_shards import RecordShards, shards_in

SUFFIX = record_shards.SUFFIX
# Names each damaged training image that was left out, one a line.
SKIPPED = "skipped.txt"
_LABELS = "labels.npy"
_COUNTS = "counts.npy"


def write_shard(path: Path, images: Iterable[tuple[bytes, int]], skipped: Sequence[str] = ()) -> None:
    """Writes a shard and its labels, which appear under the final name when they are complete, or not at all.

    Args:
        path: ends in `SUFFIX`.
        images: JPEG files and their labels.
        skipped: images that were left out; may grow while the images are read.

    Raises:
        DataError: there is no room, or something else is wrong with the disk.
    """
    labels = []

    def records() -> Iterator[bytes]:
        for jpeg, label in images:
            labels.append(label)
            yield jpeg

    def write_rest() -> None:
        _save(_labels_of(path), np.array(labels, np.uint16))
        _save_lines(_skipped_of(path), skipped)

    record_shards.write_shard(path, records(), write_rest)


def is_written(path: Path) -> bool:
    """Whether a shard of an unfinished split is complete."""
    return path.exists() and _labels_of(path).exists()


def num_written(folder: Path) -> tuple[int, int]:
    """Images in the shards of an unfinished split, and how many were left out of them."""
    shards = [path for path in shards_in(folder) if is_written(path)]
    return sum(len(np.load(_labels_of(path))) for path in shards), sum(
        len(_lines(_skipped_of(path))) for path in shards
    )


def finish_split(folder: Path) -> None:
    """Gathers what belongs to the shards; from then on the split is complete, and says so."""
    shards = shards_in(folder)
    if not is_finished(folder):
        labels = [np.load(_labels_of(path)) for path in shards]
        skipped = [line for path in shards for line in _lines(_skipped_of(path))]
        _save(folder / _COUNTS, np.array([len(part) for part in labels], np.int64))
        _save_lines(folder / SKIPPED, skipped)
        _save(folder / _LABELS, np.concatenate(labels))
    for path in shards:
        _labels_of(path).unlink(missing_ok=True)
        _skipped_of(path).unlink(missing_ok=True)
    discard_unfinished(folder)


def is_finished(folder: Path) -> bool:
    """Whether a split is complete."""
    return (folder / _LABELS).exists()


def discard_unfinished(folder: Path) -> None:
    """Removes the files that a killed run was about to write."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def split_files(folder: Path) -> list[Path]:
    """All files of a finished split."""
    return [*shards_in(folder), *(path for name in (_COUNTS, _LABELS, SKIPPED) if (path := folder / name).exists())]


def num_skipped(folder: Path) -> int:
    """How many damaged training images were left out of the data set in `folder`."""
    return len(_lines(folder / "train" / SKIPPED))


class StoredImages:
    """The images of a finished split, in any order. Threads may share one; a copy in another process opens files anew.

    Attributes:
        labels: of all images, uint16, on disk.
    """

    def __init__(self, folder: Path, max_open: int | None = None):
        """Opens a split.

        Args:
            folder: where it lies.
            max_open: shards that are kept open; by default half as many files as the process may open.
        """
        self._folder = folder
        self._max_open = max_open
        try:
            self.labels: np.ndarray = np.load(folder / _LABELS, mmap_mode="r")
            counts = np.load(folder / _COUNTS)
        except (OSError, ValueError) as error:
            raise DataError(f"{folder} holds no finished split ({error}); prepare the data again.") from error
        paths = shards_in(folder)
        if len(counts) != len(paths) or counts.sum() != len(self.labels):
            raise DataError(f"The shards in {folder} are not those it was written with; prepare the data again.")
        self._shards = RecordShards(paths, counts, max_open)

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._folder, self._max_open)

    def read(self, indices: np.ndarray) -> list[bytes]:
        """The JPEG files at `indices` [any number], in that order. Raises DataError if a shard is damaged."""
        return self._shards.read(indices)

    def place(self, index: int) -> str:
        """Where an image lies, for messages."""
        return f"Image {self._shards.place(index)}"


def _labels_of(shard: Path) -> Path:
    return shard.with_suffix(".labels.npy")


def _skipped_of(shard: Path) -> Path:
    return shard.with_suffix(".skipped.txt")


def _save(path: Path, array: np.ndarray) -> None:
    with writing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)


def _save_lines(path: Path, lines: Sequence[str]) -> None:
    """Writes lines; without any, there is no file."""
    if lines:
        with writing(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    else:
        path.unlink(missing_ok=True)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
