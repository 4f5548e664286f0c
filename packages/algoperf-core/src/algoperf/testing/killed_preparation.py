"""Preparation of data that is killed, fails or is interrupted: what tests of going on afterwards have in common."""

import os
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from algoperf.data.preparation import DataError, Preparation, Report

# Dies before it opens, renames or removes something in the folder for the n-th time.
_PROGRAM = """
import os, pickle, signal, sys
from pkgutil import resolve_name

left = int(sys.argv[1])
prepare, settings, job, published = pickle.load(sys.stdin.buffer)
for name, value in settings.items():
    module, _, attribute = name.partition(":")
    setattr(resolve_name(module), attribute, value)

events = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}

def count(event, arguments):
    global left
    if event in events and str(arguments[0]).startswith(str(job.folder)):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
resolve_name(prepare)(job, published)
"""


def killed_runs(
    prepare: Callable[[Preparation, Any], object],
    job: Preparation,
    published: Any,
    *,
    settings: Mapping[str, Any],
    seed: int,
    operations: tuple[int, int],
) -> Iterator[None]:
    """Prepares data in new processes, each of which is killed after a while, until one comes to the end.

    Args:
        prepare: a function of a module.
        job: its first argument; what it reports goes nowhere.
        published: its second argument.
        settings: "module:name" and value of what is set before.
        seed: of the moments.
        operations: how many files and folders a process may at least and at most open, rename or remove.

    Yields:
        None, after each run that was killed.

    Raises:
        AssertionError: a run ended of itself with an error; the message is what it wrote.
    """
    rng = random.Random(seed)
    name = f"{prepare.__module__}:{prepare.__qualname__}"
    arguments = pickle.dumps((name, dict(settings), replace(job, report=print), published))
    while True:
        command = [sys.executable, "-c", _PROGRAM, str(rng.randint(*operations))]
        result = subprocess.run(command, input=arguments, capture_output=True, check=False)
        if result.returncode != -signal.SIGKILL:
            assert result.returncode == 0, result.stderr.decode()
            return
        yield


def failed_runs(
    prepare: Callable[[], object], monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException
) -> Iterator[str]:
    """Prepares data until it succeeds, while in each run the `number`-th time that something is put on disk fails.

    The more an earlier run has finished, the later a run fails.

    Yields:
        What is said, after each run that failed.
    """
    while True:
        with monkeypatch.context() as patch:
            _fail_at(patch, number, error)
            try:
                prepare()
                return
            except (KeyboardInterrupt, DataError) as failure:
                said = str(failure)
        yield said


def _fail_at(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException) -> None:
    calls, fsync = 0, os.fsync

    def call(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            raise error
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", call)


def interrupt_at(prepare: Callable[[Report], object], beginning: str) -> None:
    """Prepares until a line is reported that begins like this, and there the user interrupts."""

    def report(line: str) -> None:
        if line.startswith(beginning):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(report)


def places(paths: Iterable[Path]) -> dict[Path, int]:
    """Where files lie on disk, by which one sees later whether they were written again."""
    return {path: path.stat().st_ino for path in paths}
