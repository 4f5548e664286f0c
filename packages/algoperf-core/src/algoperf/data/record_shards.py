"""Files laid end to end in shards (https://github.com/google/array_record), from which each can be read on its own.

Needs the extra `records` of this package.
"""

import resource
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from algoperf.data.files import writing
from algoperf.data.preparation import DataError
from algoperf.data.ragged import offsets

SUFFIX = ".arrayrecord"
# A record on its own can be read on its own; and JPEG or FLAC do not compress any further.
_WRITER_OPTIONS = "group_size:1,uncompressed"
# No reading ahead: whoever shuffles never wants the next record. And no threads, so that a fork is safe.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


def write_shard(path: Path, records: Iterable[bytes], write_rest: Callable[[], None] | None = None) -> None:
    """Writes a shard, which appears when it is complete, or not at all.

    Args:
        path: ends in `SUFFIX`.
        records: what is in it.
        write_rest: writes what belongs to it: called behind the last record, before the shard appears.

    Raises:
        DataError: there is no room, or something else is wrong with the disk.
    """
    with writing(path) as temporary:
        with _disk_errors():
            writer = ArrayRecordWriter(str(temporary), _WRITER_OPTIONS)
        for record in records:
            with _disk_errors():
                writer.write(record)
        with _disk_errors():
            writer.close()
        if write_rest:
            write_rest()


@contextmanager
def _disk_errors() -> Iterator[None]:
    """What a writer says in a RuntimeError: that the disk is full, most likely when it closes."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(error) from error


def shards_in(folder: Path) -> list[Path]:
    """The complete shards in a folder, by name."""
    return sorted(folder.glob(f"[!.]*{SUFFIX}"))


class RecordShards:
    """The records of shards, in any order. Threads may share one; a copy in another process opens files anew."""

    def __init__(self, paths: Sequence[Path], counts: np.ndarray, max_open: int | None = None):
        """Opens nothing yet.

        Args:
            paths: the shards.
            counts: how many records each has.
            max_open: shards that are kept open; by default half as many files as the process may open.
        """
        self._paths = list(paths)
        self._counts = np.asarray(counts)
        self._max_open = max_open or _max_open_files() // 2
        self._starts = offsets(self._counts)
        self._readers: OrderedDict[int, ArrayRecordReader] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._counts.sum())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._paths, self._counts, self._max_open)

    def read(self, indices: np.ndarray) -> list[bytes]:
        """The records at `indices` [any number], in that order. Raises DataError if a shard is damaged."""
        indices = np.asarray(indices, np.int64)
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"There are {len(self)} records; the indices are {indices.min()} ... {indices.max()}.")
        shards = self._shards_of(indices)
        # Each shard is visited once.
        order = np.argsort(shards, kind="stable")
        runs = np.split(order, np.flatnonzero(np.diff(shards[order])) + 1) if len(order) else []
        found = [b""] * len(indices)
        for run in runs:
            shard = int(shards[run[0]])
            records = self._read_shard(shard, (indices[run] - self._starts[shard]).tolist())
            for place, record in zip(run.tolist(), records, strict=True):
                found[place] = record
        return found

    def place(self, index: int) -> str:
        """Where a record lies, for messages: "3 of SHARD"."""
        shard = int(self._shards_of(np.array(index)))
        return f"{index - self._starts[shard]} of {self._paths[shard]}"

    def _shards_of(self, indices: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._starts, indices, side="right") - 1

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


def _max_open_files() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit if limit != resource.RLIM_INFINITY else 2**20
