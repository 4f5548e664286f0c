"""A trial's process: started in a session of its own, listened to, watched, and stopped."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from algoperf import registry
from algoperf.records import RecordsError, trial_folder
from algoperf.spec import Framework, Target
from algoperf.trial_config import TrialConfig
from algoperf_orchestrator import processes, telemetry, verdict
from algoperf_orchestrator.attempt import Attempt
from algoperf_orchestrator.environment import Devices, process_settings
from algoperf_orchestrator.sinks import SinkName, Sinks, Source
from algoperf_orchestrator.verdict import Cause, Verdict

STDERR = "stderr.log"
EVENT = '{"event"'
_LOCK = ".lock"
# What a process that is to stop is sent, and how long it then has.
_GRACE_S = ((signal.SIGINT, 15.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 60.0))
_TICK_S = 0.5
_HEARTBEAT_S = 1.0
_TELEMETRY_S = 5.0
_KEPT_STDERR = 64 * 1024

Listener = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a trial may not do.

    Attributes:
        memory_bytes: memory of the machine that its processes may hold together; None: no limit.
        silence_s: how long it may neither step nor evaluate, in seconds; None: for ever.
    """

    memory_bytes: int | None = None
    silence_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a trial's process is started with.

    Attributes:
        config: the trial.
        experiment: the folder that its records go to.
        data_dir: the folder below which prepared data lies.
        devices: what it trains on.
        cores: which of the CPU's cores it may use; empty: all.
        limits: what it may not do.
        number: which attempt at the trial this is, from 1.
        locks: open files that its process inherits, see `algoperf_orchestrator.leases`.
        command: what is run instead of a trial, for tests and measurements; it gets the same arguments.
        options: further arguments of `run-trial`.
        telemetry: where figures go while it runs, besides its logs.
    """

    config: TrialConfig
    experiment: Path
    data_dir: Path
    devices: Devices
    cores: tuple[int, ...] = ()
    limits: Limits = field(default_factory=Limits)
    number: int = 1
    locks: tuple[int, ...] = ()
    command: Sequence[str] = ()
    options: Sequence[str] = ()
    telemetry: Sequence[SinkName] = ()

    @property
    def folder(self) -> Path:
        """The trial's folder."""
        config = self.config
        return trial_folder(self.experiment, config.study, config.workload, config.framework.value, config.trial)


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
            watched = _Watch(what, process, listener, target, stop or threading.Event(), sinks)
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


@dataclass
class _Watch:
    """Follows one process: its events, its memory, its silence, and whether it is to stop."""

    what: Launch
    process: subprocess.Popen[bytes]
    listener: Listener
    target: Target
    stop: threading.Event
    sinks: Sinks
    is_told: bool = False
    cause: Cause | None = None
    detail: str = ""
    _has_stopped: bool = False
    _outcome: dict[str, Any] = field(default_factory=dict)
    _refusal: str | None = None
    _tail: bytes = b""
    _next_signal: int = 0
    _signal_due: float = 0.0
    _last_event: float = field(default_factory=time.monotonic)
    _last_beat: float = 0.0
    _last_telemetry: float = 0.0

    def __post_init__(self) -> None:
        devices = self.what.devices.ids or tuple(f"core {core}" for core in self.what.cores)
        self.attempt = Attempt(number=self.what.number, devices=devices)

    def follow(self) -> None:
        """Returns when the process has ended."""
        stdout = self.process.stdout
        assert stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            is_open = True
            while is_open:
                if selector.select(_TICK_S):
                    is_open = self._read(stdout)
                # A process that left a child behind has ended, although its stdout has not.
                elif self.process.poll() is not None:
                    break
                self._tick()
        while self.process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_TICK_S)
            self._tick()

    def judge(self, code: int, stderr: str) -> Verdict:
        """What came of it."""
        if self.cause in (Cause.MEMORY, Cause.HUNG):
            in_submission = self.attempt.phase == "submission"
            return verdict.of_cause(self.cause, self.detail, in_submission=in_submission)
        if self._outcome:
            return verdict.of_outcome(self._outcome)
        if self._refusal is not None:
            return verdict.of_cause(Cause.REFUSED, self._refusal)
        # One process of several may have written the outcome, and another have said nothing.
        if (found := verdict.of_folder(self.what.folder)) is not None:
            return found
        if self._has_stopped or self.stop.is_set():
            where = f"at step {self.attempt.step}" + ("" if self._has_stopped else ", without a checkpoint of its own")
            return verdict.of_cause(Cause.STOPPED, where)
        return verdict.of_exit(code, stderr)

    def beat(self) -> None:
        """Says that the trial lives, and how far it is."""
        self.attempt.heartbeat = time.time()
        # Where nothing can be written the trial itself fails, and says why.
        with suppress(OSError):
            self.attempt.write(self.what.folder)

    def _read(self, stdout: IO[bytes]) -> bool:
        data = os.read(stdout.fileno(), 1 << 16)
        *lines, self._tail = (self._tail + data).split(b"\n")
        for line in lines:
            # torchrun may write here too.
            if line.startswith(EVENT.encode()):
                facts = json.loads(line)
                self._take(facts.pop("event"), facts)
        return bool(data)

    def _take(self, event: str, facts: dict[str, Any]) -> None:
        self._last_event = time.monotonic()
        if event == "ended":
            self.is_told, self._outcome = True, facts
        elif event == "stopped":
            self._has_stopped = True
        elif event == "refused":
            self._refusal = str(facts["message"])
        self.attempt.see(event, facts, self.target)
        self.sinks.see(event, facts)
        self.listener(event, facts)

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._last_beat >= _HEARTBEAT_S:
            self._last_beat = now
            self._check_memory()
            if now - self._last_telemetry >= _TELEMETRY_S:
                self._last_telemetry = now
                self.attempt.telemetry = telemetry.sample(self.what.devices.ids)
                self.sinks.sample(self.attempt.telemetry, self.attempt.peak_memory_bytes)
            self.beat()
        silence_s = now - self._last_event
        limit_s = self.what.limits.silence_s
        if limit_s is not None and silence_s > limit_s and self.cause is None:
            self._end(Cause.HUNG, f"neither a step nor an evaluation for {silence_s:.0f} s, in {self.attempt.phase}")
        if self.stop.is_set() and now >= self._signal_due and self._next_signal < len(_GRACE_S):
            number, grace_s = _GRACE_S[self._next_signal]
            processes.signal_group(self.process.pid, number)
            self._next_signal, self._signal_due = self._next_signal + 1, now + grace_s

    def _check_memory(self) -> None:
        used = processes.memory_bytes(self.process.pid)
        self.attempt.peak_memory_bytes = max(self.attempt.peak_memory_bytes, used)
        limit = self.what.limits.memory_bytes
        if limit is not None and used > limit and self.cause is None:
            self._end(Cause.MEMORY, f"{used / 2**30:.1f} GiB used, {limit / 2**30:.1f} GiB allowed")

    def _end(self, cause: Cause, detail: str) -> None:
        self.cause, self.detail = cause, detail
        processes.signal_group(self.process.pid, signal.SIGKILL)
        processes.kill_strays(self.what.folder)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number, grace_s in _GRACE_S:
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
