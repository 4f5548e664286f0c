"""Follows a trial's process: what it says, what it uses, how long it is silent, and whether it is to stop."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from algoperf.spec import Target
from algoperf_orchestrator import attempt, processes, telemetry, verdict
from algoperf_orchestrator.attempt import Attempt
from algoperf_orchestrator.launch_options import Launch
from algoperf_orchestrator.sinks import Sinks
from algoperf_orchestrator.verdict import Cause, Verdict

EVENT = '{"event"'
# What a process that is to stop is sent, and how long it then has.
GRACE_S = ((signal.SIGINT, 15.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 60.0))
_TICK_S = 0.5
_HEARTBEAT_S = 1.0
_TELEMETRY_S = 5.0
# Who has said how it ended may need so long to leave.
_LEAVE_S = 60.0

Listener = Callable[[str, Mapping[str, Any]], None]


@dataclass
class Watch:
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
        before = attempt.read(self.what.folder)
        self.attempt = Attempt(number=self.what.number, devices=devices, best=None if before is None else before.best)

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
        if self._outcome:
            return verdict.of_outcome(self._outcome)
        if self.cause in (Cause.MEMORY, Cause.HUNG):
            in_submission = self.attempt.phase == "submission"
            return verdict.of_cause(self.cause, self.detail, in_submission=in_submission)
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
        if self.is_told:
            if silence_s > _LEAVE_S:
                self._kill()
        elif limit_s is not None and silence_s > limit_s and self.cause is None:
            self._end(Cause.HUNG, f"neither a step nor an evaluation for {silence_s:.0f} s, in {self.attempt.phase}")
        if self.stop.is_set() and now >= self._signal_due and self._next_signal < len(GRACE_S):
            number, grace_s = GRACE_S[self._next_signal]
            processes.signal_group(self.process.pid, number)
            self._next_signal, self._signal_due = self._next_signal + 1, now + grace_s

    def _check_memory(self) -> None:
        used, limit = processes.memory_bytes(self.process.pid), self.what.limits.memory_bytes
        if limit is not None and used > limit:
            used = processes.own_memory_bytes(self.process.pid)
        self.attempt.peak_memory_bytes = max(self.attempt.peak_memory_bytes, used)
        if limit is not None and used > limit and self.cause is None:
            self._end(Cause.MEMORY, f"{used / 2**30:.1f} GiB used, {limit / 2**30:.1f} GiB allowed")

    def _end(self, cause: Cause, detail: str) -> None:
        self.cause, self.detail = cause, detail
        self._kill()

    def _kill(self) -> None:
        processes.signal_group(self.process.pid, signal.SIGKILL)
        processes.kill_strays(self.what.folder)
