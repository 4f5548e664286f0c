"""Turns the click logs of days into stored rows, several days at a time."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from ctypes import Array, c_int64
from multiprocessing.synchronize import Event
from pathlib import Path

from algoperf.data.preparation import DataError, Preparation, Report
from algoperf.data.processors import num_processors
from algoperf_criteo.click_log import read_click_log
from algoperf_criteo.published import Day
from algoperf_criteo.store import Block, is_written, write_divided

_REPORT_EVERY_PERCENT = 2
_LOOK_EVERY_S = 1.0


class _Stopped(Exception):
    """Another day failed, or the user interrupts."""


class _Progress:
    """Reports how many rows are done, once every few per cent."""

    def __init__(self, report: Report, total: int, done: int):
        self._report = report
        self._total = total
        self._done_before = done
        self._next_percent = 100 * done // total + _REPORT_EVERY_PERCENT

    def show(self, num_rows: int) -> None:
        """Takes the rows that this run has done."""
        done = self._done_before + num_rows
        percent = 100 * done // self._total
        if percent >= self._next_percent:
            self._next_percent = percent + _REPORT_EVERY_PERCENT
            self._report(f"{done:,} of {self._total:,} rows are done ({percent}%).")


def is_finished(folder: Path, day: Day) -> bool:
    """Whether all rows of a day are in the folder of the prepared data."""
    return all(is_written(folder / part) for part in day.parts)


def write_days(job: Preparation, source: Path, published: Sequence[Day]) -> None:
    """Writes the days that are not there yet.

    Args:
        job: says where to, and who is told how far it is.
        source: the folder of the click logs.
        published: all days.

    Raises:
        DataError: a click log is not as it should be, or there is no room.
    """
    missing = _missing(job, published)
    num_processes = min(num_processors(), len(missing))
    if num_processes > 1:
        try:
            _write_in_processes(job, source, missing, _progress(job, published), num_processes)
        except BrokenProcessPool:
            # Where the main program is no file (a notebook, standard input), fresh processes cannot start.
            job.report("Other processes cannot start or were killed; going on in this one.")
    progress, done = _progress(job, published), 0
    for day in _missing(job, published):

        def tell(num_rows: int, before: int = done) -> None:
            progress.show(before + num_rows)

        _write_day(source, job.folder, day, tell)
        done += day.num_rows
        _report_finished(job, day)


def _missing(job: Preparation, published: Sequence[Day]) -> list[Day]:
    return [day for day in published if not is_finished(job.folder, day)]


def _progress(job: Preparation, published: Sequence[Day]) -> _Progress:
    total = sum(day.num_rows for day in published)
    return _Progress(job.report, total, total - sum(day.num_rows for day in _missing(job, published)))


def _report_finished(job: Preparation, day: Day) -> None:
    job.report(f"{day.name} is done: {' and '.join(day.parts)}.")


def _write_day(source: Path, folder: Path, day: Day, tell: Callable[[int], None]) -> None:
    """Writes a day, whole or not at all; `tell` hears how many of its rows are done."""
    write_divided(
        {folder / part: num_rows for part, num_rows in day.parts.items()}, _rows(source / day.name, day, tell)
    )


def _rows(path: Path, day: Day, tell: Callable[[int], None]) -> Iterator[Block]:
    """The rows of a day. Raises DataError, at the end, if they are not as many as they should be."""
    done = 0
    for block in read_click_log(path):
        yield block
        done += len(block[1])
        tell(done)
    if done != day.num_rows:
        raise DataError(f"{path} has {done:,} rows and the published {day.name} has {day.num_rows:,}; {day.obtain}.")


def _write_in_processes(
    job: Preparation, source: Path, days: Sequence[Day], progress: _Progress, num_processes: int
) -> None:
    # Fresh processes: a copy of this one would also copy the locks of a framework's threads.
    context = multiprocessing.get_context("spawn")
    counts, stop = context.RawArray(c_int64, len(days)), context.Event()
    pool = ProcessPoolExecutor(num_processes, context, _begin, (counts, stop))
    try:
        futures = {
            pool.submit(_write_day_apart, source, job.folder, day, number): day for number, day in enumerate(days)
        }
        waiting = set(futures)
        while waiting:
            finished, waiting = wait(waiting, _LOOK_EVERY_S, FIRST_COMPLETED)
            for future in finished:
                future.result()
                _report_finished(job, futures[future])
            progress.show(sum(counts))
    finally:
        # Where one fails, or the user interrupts, the others are given up.
        stop.set()
        pool.shutdown(cancel_futures=True)


# In the processes.

_counts: Array[c_int64]
_stop: Event


def _begin(counts: Array[c_int64], stop: Event) -> None:
    """Makes a process one that writes days.

    Args:
        counts: of each day, how many of its rows are done.
        stop: is set if one fails.
    """
    global _counts, _stop
    _counts, _stop = counts, stop
    # An interrupt is the main process's to answer; and where that is killed, nobody may go on writing.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _write_day_apart(source: Path, folder: Path, day: Day, number: int) -> None:
    def tell(num_rows: int) -> None:
        _counts[number] = num_rows
        if _stop.is_set():
            raise _Stopped

    _write_day(source, folder, day, tell)
