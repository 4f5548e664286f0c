"""Images on disk: JPEG files as they were published, laid end to end, and their labels; numpy only.

A split is a folder of shards, `NAME.arrayrecord` (https://github.com/google/array_record), whose records are JPEG
files. Beside them lie `labels.npy`, the labels of all records in the order of the sorted shard names, and
`counts.npy`, how many records each shard has.
"""

import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from algoperf.data.files import sync
from algoperf.data.preparation import DataError

SUFFIX = ".arrayrecord"
# Names each damaged training image that was left out, one a line.
SKIPPED = "skipped.txt"
_LABELS = "labels.npy"
_COUNTS = "counts.npy"
# A record on its own can be read on its own; and JPEG does not compress any further.
_WRITER_OPTIONS = "group_size:1,uncompressed"
# No reading ahead: whoever shuffles never wants the next record. And no threads, so that a fork is safe.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


def write_shard(path: Path, images: Iterable[tuple[bytes, int]], skipped: Sequence[str] = ()) -> None:
    """Writes a shard and its labels, which appear under the final name when they are complete, or not at all.

    Args:
        path: ends in `SUFFIX`.
        images: JPEG files and their labels.
        skipped: images that were left out; may grow while the images are read.

    Raises:
        DataError: there is no room, or something else is wrong with the disk.
    """
    temporary = _temporary(path)
    labels = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = ArrayRecordWriter(str(temporary), _WRITER_OPTIONS)
        for jpeg, label in images:
            writer.write(jpeg)
            labels.append(label)
        writer.close()
        # What belongs to it comes first: a shard under its final name has it.
        _save(_labels_of(path), np.array(labels, np.uint16))
        _save_lines(_skipped_of(path), skipped)
        _publish(temporary, path)
    except (RuntimeError, OSError) as error:
        # A full disk is noticed when the writer closes; it says so in a RuntimeError.
        raise DataError(f"{path} cannot be written ({error}); mend that and run the same command again.") from error
    finally:
        temporary.unlink(missing_ok=True)


def is_written(path: Path) -> bool:
    """Whether a shard of an unfinished split is complete."""
    return path.exists() and _labels_of(path).exists()


def num_written(folder: Path) -> tuple[int, int]:
    """Images in the shards of an unfinished split, and how many were left out of them."""
    shards = [path for path in _shards(folder) if is_written(path)]
    return sum(len(np.load(_labels_of(path))) for path in shards), sum(
        len(_lines(_skipped_of(path))) for path in shards
    )


def finish_split(folder: Path) -> None:
    """Gathers what belongs to the shards; from then on the split is complete, and says so."""
    shards = _shards(folder)
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
    return [*_shards(folder), *(path for name in (_COUNTS, _LABELS, SKIPPED) if (path := folder / name).exists())]


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
        self._max_open = max_open or _max_open_files() // 2
        try:
            self.labels: np.ndarray = np.load(folder / _LABELS, mmap_mode="r")
            counts = np.load(folder / _COUNTS)
        except (OSError, ValueError) as error:
            raise DataError(f"{folder} holds no finished split ({error}); prepare the data again.") from error
        self._paths = _shards(folder)
        self._starts = np.cumsum(counts) - counts
        if len(counts) != len(self._paths) or counts.sum() != len(self.labels):
            raise DataError(f"The shards in {folder} are not those it was written with; prepare the data again.")
        self._readers: OrderedDict[int, ArrayRecordReader] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._folder, self._max_open)

    def read(self, indices: np.ndarray) -> list[bytes]:
        """The JPEG files at `indices` [any number], in that order. Raises DataError if a shard is damaged."""
        indices = np.asarray(indices, np.int64)
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(
                f"{self._folder} has {len(self)} images; the indices are {indices.min()} ... {indices.max()}."
            )
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        # Each shard is visited once.
        order = np.argsort(shards, kind="stable")
        runs = np.split(order, np.flatnonzero(np.diff(shards[order])) + 1) if len(order) else []
        images = [b""] * len(indices)
        for run in runs:
            shard = int(shards[run[0]])
            records = self._read_shard(shard, (indices[run] - self._starts[shard]).tolist())
            for place, record in zip(run.tolist(), records, strict=True):
                images[place] = record
        return images

    def place(self, index: int) -> str:
        """Where an image lies, for messages."""
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        return f"Image {index - self._starts[shard]} of {self._paths[shard]}"

    def _read_shard(self, shard: int, rows: list[int]) -> list[bytes]:
        try:
            return self._reader(shard).read(rows)
        except RuntimeError as error:
            raise DataError(
                f"{self._paths[shard]} cannot be read ({error}); if it is damaged, delete the folder of the "
                "prepared data and prepare it again."
            ) from error

    def _reader(self, shard: int) -> ArrayRecordReader:
        with self._lock:
            reader = self._readers.get(shard)
            if reader is None:
                reader = ArrayRecordReader(str(self._paths[shard]), _READER_OPTIONS)
                self._readers[shard] = reader
                if len(self._readers) > self._max_open:
                    # Another thread may be reading from it; it closes when nobody holds it.
                    self._readers.popitem(last=False)
            self._readers.move_to_end(shard)
            return reader


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"[!.]*{SUFFIX}"))


def _labels_of(shard: Path) -> Path:
    return shard.with_suffix(".labels.npy")


def _skipped_of(shard: Path) -> Path:
    return shard.with_suffix(".skipped.txt")


def _temporary(path: Path) -> Path:
    # Of this process alone, so that two that prepare the same folder do not write into one file.
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _save(path: Path, array: np.ndarray) -> None:
    temporary = _temporary(path)
    with temporary.open("wb") as file:
        np.save(file, array)
    _publish(temporary, path)


def _save_lines(path: Path, lines: Sequence[str]) -> None:
    """Writes lines; without any, there is no file."""
    if lines:
        temporary = _temporary(path)
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        _publish(temporary, path)
    else:
        path.unlink(missing_ok=True)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _publish(temporary: Path, path: Path) -> None:
    """Renames a complete file; afterwards not even a power cut takes it back."""
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def _max_open_files() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit if limit != resource.RLIM_INFINITY else 2**20
