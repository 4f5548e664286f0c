"""Makes shards of published images, many at a time, and goes on where an interrupted run stopped."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from algoperf.data.preparation import Report
from algoperf.data.processors import num_processors
from algoperf_imagenet.jpegs import DamagedImage, normalise
from algoperf_imagenet.store import SUFFIX, is_written, num_written, write_shard

_REPORT_EVERY_PERCENT = 5


class PublishedImage(NamedTuple):
    """An image as it was published.

    Attributes:
        name: its file's name, for messages.
        content: its file.
        label: class.
    """

    name: str
    content: bytes
    label: int


@dataclass(frozen=True)
class Shard:
    """A shard to make.

    Attributes:
        name: of its file, without suffix.
        images: reads them.
    """

    name: str
    images: Callable[[], Iterator[PublishedImage]]


class _Made(NamedTuple):
    """What came of a shard.

    Attributes:
        num_seen: images that were looked at.
        num_converted: those of them that were no plain JPEG.
        damaged: damaged images that kept the shard from being written.
    """

    num_seen: int
    num_converted: int
    damaged: list[str]


class _NotWritten(Exception):
    """A shard that is given up: images that belong to it are damaged, or everything stops."""


class Progress:
    """Reports how far a split is, once every few per cent."""

    def __init__(self, report: Report, split: str, total: int, done: int):
        self._report = report
        self._split = split
        self._total = total
        self._done = self._done_before = done
        self._start = time.monotonic()
        self._next_percent = _REPORT_EVERY_PERCENT

    def add(self, number: int) -> None:
        """Counts images that are done."""
        self._done += number
        percent = 100 * self._done // self._total
        if percent >= self._next_percent:
            self._next_percent = percent + _REPORT_EVERY_PERCENT
            rate = (self._done - self._done_before) / max(1e-6, time.monotonic() - self._start)
            left_min = max(0, self._total - self._done) / rate / 60 if rate else 0.0
            self._report(
                f"{self._split}: {self._done:,} of {self._total:,} images ({percent}%), {rate:,.0f}/s, "
                f"{left_min:.0f} min left."
            )


def make_shards(folder: Path, shards: Sequence[Shard], report: Report, total: int, *, skip_damaged: bool) -> list[str]:
    """Writes the shards of a split that are not there yet.

    Args:
        folder: the split's.
        shards: all of its shards.
        report: is told how far it is.
        total: images of the split.
        skip_damaged: leave damaged images out; otherwise a shard that has any is not written.

    Returns:
        Names of damaged images, each with the reason, that kept their shards from being written.
    """
    missing = [shard for shard in shards if not is_written(_path(folder, shard))]
    report(f"Writing the {folder.name} split: {len(missing)} of {len(shards)} shards.")
    progress = Progress(report, folder.name, total, sum(num_written(folder)))
    damaged: list[str] = []
    num_converted = 0
    stop = threading.Event()
    # Threads do: decoding, reading and writing leave Python's lock alone, and Python's own part is a few per cent.
    pool = ThreadPoolExecutor(num_processors())
    try:
        for future in as_completed([pool.submit(_make, folder, shard, skip_damaged, stop) for shard in missing]):
            made = future.result()
            progress.add(made.num_seen)
            num_converted += made.num_converted
            damaged += made.damaged
    finally:
        # Where one fails, or the user interrupts, the others are given up.
        stop.set()
        pool.shutdown(cancel_futures=True)
    if num_converted:
        report(f"{folder.name}: {num_converted} images were no plain JPEG (CMYK, PNG, stray bytes) and were converted.")
    return sorted(damaged)


def _path(folder: Path, shard: Shard) -> Path:
    return folder / f"{shard.name}{SUFFIX}"


def _make(folder: Path, shard: Shard, skip_damaged: bool, stop: threading.Event) -> _Made:
    """Writes a shard, unless damaged images keep it from being written."""
    num_seen = num_converted = 0
    damaged: list[str] = []

    def images() -> Iterator[tuple[bytes, int]]:
        nonlocal num_seen, num_converted
        for name, content, label in shard.images():
            if stop.is_set():
                raise _NotWritten
            num_seen += 1
            try:
                jpeg = normalise(content)
            except DamagedImage as error:
                damaged.append(f"{name} ({error})")
                continue
            num_converted += jpeg is not content
            yield jpeg, label
        if damaged and not skip_damaged:
            raise _NotWritten

    try:
        write_shard(_path(folder, shard), images(), skipped=damaged)
    except _NotWritten:
        return _Made(num_seen, 0, damaged)
    return _Made(num_seen, num_converted, [])
