"""A trial's process: started in a session of its own, listened to, watched, and stopped."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from algoperf import registry
from algoperf.records import RecordsError
from algoperf.spec import Framework
from algoperf_orchestrator import processes
from algoperf_orchestrator.environment import process_settings
from algoperf_orchestrator.launch_options import Launch
from algoperf_orchestrator.sinks import Sinks, Source
from algoperf_orchestrator.verdict import Verdict
from algoperf_orchestrator.watch import GRACE_S, Listener, Watch

STDERR = "stderr.log"
_LOCK = ".lock"
_KEPT_STDERR = 64 * 1024


@dataclass(frozen=True)
class Ended:
    """How a trial's process ended.

    Attributes:
        code: its exit code; negative for the number of the signal that killed it.
        is_told: whether the trial itself said how it ended, so that its records hold the outcome.
        stderr: the end of what it wrote to stderr.
        verdict: what came of it.
    """

    code: int
    is_told: bool
    stderr: str
    verdict: Verdict


def launch(what: Launch, listener: Listener, stop: threading.Event | None = None) -> Ended:
    """Runs a trial's process to its end. However this function is left, the process and its children are gone.

    Args:
        what: what to start.
        listener: is told the trial's events as they happen.
        stop: when set, the trial is asked to save a checkpoint and leave, and is killed if it does not.

    Raises:
        RecordsError: another process runs the same trial.
        OSError: the trial's folder cannot be written.
    """
    target = registry.workload_spec(what.config.workload).at(what.config.scale).target
    what.folder.mkdir(parents=True, exist_ok=True)
    with (
        _sinks(what) as sinks,
        _lock(what.folder) as lock,
        (what.folder / STDERR).open("a+b") as log,
        tempfile.NamedTemporaryFile("w", suffix=".json") as config,
    ):
        start = log.seek(0, os.SEEK_END)
        json.dump(what.config.as_json(), config)
        config.flush()
        with _process(what, config.name, log, lock) as process:
            watched = Watch(what, process, listener, target, stop or threading.Event(), sinks)
            watched.follow()
        end = log.seek(0, os.SEEK_END)
        log.seek(max(start, end - _KEPT_STDERR))
        stderr = log.read().decode(errors="replace")
        ended = Ended(process.returncode, watched.is_told, stderr, watched.judge(process.returncode, stderr))
        watched.attempt.verdict = ended.verdict
        watched.beat()
        return ended


@contextmanager
def _process(what: Launch, config: str, log: IO[bytes], lock: int) -> Iterator[subprocess.Popen[bytes]]:
    settings = process_settings(what.config.framework, what.config.rules, what.devices)
    # What an orchestrator that was killed has left must not write beside the new process.
    processes.kill_strays(what.folder)
    before = os.sched_getaffinity(0)
    if what.cores:
        # Of this thread alone; the process inherits it, and with it the frameworks' number of threads.
        os.sched_setaffinity(0, what.cores)
    try:
        process = subprocess.Popen(
            _command(what, config, settings.name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=settings.environment(os.environ) | {processes.MARK: str(what.folder.resolve())},
            start_new_session=True,
            # Whoever outlives whom, trial and devices are locked as long as one of the two lives.
            pass_fds=(lock, *what.locks),
        )
    finally:
        os.sched_setaffinity(0, before)
    try:
        yield process
    finally:
        _stop(process)
        processes.signal_group(process.pid, signal.SIGKILL)
        processes.kill_strays(what.folder)
        assert process.stdout is not None
        process.stdout.close()


def _sinks(what: Launch) -> Sinks:
    name = what.folder.resolve().relative_to(what.experiment.resolve().parent).as_posix()
    return Sinks(what.telemetry, Source(folder=what.folder, name=name, config=what.config.as_json()))


def _command(what: Launch, config: str, settings: str) -> list[str]:
    arguments = ["run-trial", "--config", config, "--experiment", str(what.experiment.resolve())]
    arguments += ["--data-dir", str(what.data_dir.resolve()), "--settings", settings, *what.options]
    if what.command:
        return [*what.command, *arguments]
    module = "algoperf_orchestrator"
    if what.config.framework is Framework.PYTORCH and what.devices.count > 1:
        torchrun = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            str(what.devices.count),
        ]
        return [sys.executable, *torchrun, "-m", module, *arguments]
    return [sys.executable, "-m", module, *arguments]


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number, grace_s in GRACE_S:
        if process.poll() is not None:
            return
        processes.signal_group(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)


@contextmanager
def _lock(folder: Path) -> Iterator[int]:
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise RecordsError(
                f"Another process runs the trial in {folder}; wait for its end or choose another --experiment."
            ) from None
        yield file.fileno()
