"""Preparation that is killed, interrupted, or for which there is no room: it goes on with what is finished."""

import errno
import gzip
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
from click_logs import ClickLogs, contents_of, job, rows, text

from algoperf.testing.killed_preparation import failed_runs, interrupt_at, killed_runs, places
from algoperf_criteo import click_log, days
from algoperf_criteo.days import is_finished
from algoperf_criteo.prepare import prepare_files

# In the one process in which what is opened and renamed is counted.
ALONE = {"algoperf_criteo.click_log:_BLOCK_BYTES": 1_500, "algoperf_criteo.days:num_processors": partial(int, 1)}


@pytest.fixture
def logs(tmp_path):
    return ClickLogs(tmp_path / "downloads")


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(click_log, "_BLOCK_BYTES", 1_500)
    monkeypatch.setattr(days, "num_processors", lambda: 1)


@pytest.fixture
def straight(logs, tmp_path, alone):
    """What comes of the click logs."""
    prepare_files(job(tmp_path / "straight", logs.folder), logs.published)
    return contents_of(tmp_path / "straight")


def finished(logs, folder):
    """What no later run makes again, by its place on disk."""
    done = [day for day in logs.published if is_finished(folder, day)]
    return places(path for day in done for part in day.parts for path in (folder / part).iterdir())


def keeps(logs, folder, before):
    now = finished(logs, folder)
    return all(now.get(path) == inode for path, inode in before.items())


@pytest.mark.parametrize("seed", range(2))
def test_a_preparation_that_is_killed_again_and_again_comes_to_the_same(logs, straight, tmp_path, seed):
    folder, kills = tmp_path / "killed", 0
    runs = killed_runs(
        prepare_files,
        job(folder, logs.folder),
        logs.published,
        settings=ALONE,
        seed=seed,
        operations=(4, 24),
    )
    before = finished(logs, folder)
    for _ in runs:
        assert keeps(logs, folder, before)
        before = finished(logs, folder)
        kills += 1
    assert keeps(logs, folder, before)
    assert kills >= 4
    assert contents_of(folder) == straight


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_preparation_that_fails_anywhere_leaves_what_is_finished(logs, straight, tmp_path, monkeypatch, error):
    folder, said = tmp_path / "failed", []

    def prepare():
        prepare_files(job(folder, logs.folder), logs.published)

    before = finished(logs, folder)
    # A day is there at the 4th time, the last one, which makes two folders, at the 8th.
    for number in range(1, 8):
        said.append(next(failed_runs(prepare, monkeypatch, number, error)))
        assert not list(folder.rglob(".*"))
        assert keeps(logs, folder, before)
        before = finished(logs, folder)
    assert len(before) == 2 * 3
    prepare()
    assert keeps(logs, folder, before)
    if isinstance(error, OSError):
        assert all("cannot be written ([Errno 28] No space left on device); mend that" in line for line in said)
    assert contents_of(folder) == straight


@pytest.mark.parametrize("moment", ["day_0.gz is done", "day_2.gz is done", "180 of 180"])
def test_finished_days_need_no_files(logs, straight, tmp_path, moment):
    folder, said = tmp_path / "cut", []
    interrupt_at(lambda report: prepare_files(job(folder, logs.folder, report), logs.published), moment)
    for day in logs.published:
        if is_finished(folder, day):
            (logs.folder / day.name).unlink()
    before = finished(logs, folder)
    prepare_files(job(folder, logs.folder, said.append), logs.published)
    assert keeps(logs, folder, before)
    assert contents_of(folder) == straight
    assert before


# Several processes.

_PROGRAM = """
import pickle, signal, sys
from pathlib import Path
from algoperf_criteo import days
from algoperf_criteo.prepare import prepare_files

# A shell's background jobs ignore interrupts, and so do the tests of one that runs there.
signal.signal(signal.SIGINT, signal.default_int_handler)
days.num_processors = lambda: 2

prepare_files(*pickle.loads(Path(sys.argv[1]).read_bytes()))
"""


@pytest.fixture
def slow_logs(logs):
    """Of which two days take some seconds, and the others next to nothing."""
    content = text(rows(50)) * 10_000
    for number in (1, 2):
        (logs.folder / f"day_{number}.gz").write_bytes(gzip.compress(content, 1))
        logs.published[number] = replace(logs.published[number], parts={f"day_0{number}": 500_000})
    return logs


def is_begun(path):
    return path.exists() and path.stat().st_size > 10**6


def ignores_interrupts(process):
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        # Not on Linux.
        return True
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return bool(int(fields["SigIgn"], 16) >> (signal.SIGINT - 1) & 1)


def stopped(logs, folder, stop):
    """Prepares in processes until a slow day is written to, then stops it; returns what it says at its end.

    Args:
        logs: what is prepared.
        folder: where to.
        stop: takes the ID of the main process, which is also that of the group of all.
    """
    arguments = logs.folder / "arguments"
    arguments.write_bytes(pickle.dumps((replace(job(folder, logs.folder), report=print), logs.published)))
    command = [sys.executable, "-c", _PROGRAM, str(arguments)]
    slow = [part for day in logs.published for part, num_rows in day.parts.items() if num_rows == 500_000]
    unfinished = [folder / f".{part}.tmp" / "inputs.npy" for part in slow]
    said = logs.folder / "said"
    with (
        said.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True) as process,
    ):
        try:
            deadline = time.monotonic() + 60
            while not (is_finished(folder, logs.published[0]) and any(map(is_begun, unfinished))):
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.01)
            # The two, and the one that Python has for what they share.
            workers = psutil.Process(process.pid).children(recursive=True)
            assert len(workers) >= 2
            # One that is still importing answers an interrupt itself.
            while not all(map(ignores_interrupts, workers)):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            stop(process.pid)
            assert process.wait(60) != 0
            _, alive = psutil.wait_procs(workers, 5)
            assert not alive
        finally:
            process.kill()
    return said.read_text()


def test_where_the_main_process_is_killed_nobody_goes_on(slow_logs, tmp_path):
    logs, folder = slow_logs, tmp_path / "killed"
    stopped(logs, folder, lambda main: os.kill(main, signal.SIGKILL))
    before = finished(logs, folder)
    assert {path.parent.name for path in before} == {"day_00"}
    for name in ("killed", "straight"):
        prepare_files(job(tmp_path / name, logs.folder), logs.published)
    assert keeps(logs, folder, before)
    assert contents_of(folder) == contents_of(tmp_path / "straight")
    # They are of some size.
    for name in ("killed", "straight"):
        shutil.rmtree(tmp_path / name)


@pytest.mark.parametrize("num_slow", [1, 2])
def test_where_the_user_interrupts_all_stop_and_tidy_up(slow_logs, tmp_path, num_slow):
    """Also a process that has nothing to do."""
    folder = tmp_path / "interrupted"
    slow_logs.published = slow_logs.published[: 1 + num_slow]
    # As a terminal does it, which tells all processes.
    said = stopped(slow_logs, folder, lambda main: os.killpg(main, signal.SIGINT))
    assert said.count("Traceback") == 1, said
    assert said.endswith("KeyboardInterrupt\n")
    assert [path.name for path in folder.iterdir()] == ["day_00"]
