"""What SLURM's commands say about jobs: which state they are in, why they wait, and how they ended."""

from __future__ import annotations

import math
import os
import re
import subprocess
import time
from dataclasses import dataclass

from algoperf_orchestrator import verdict
from algoperf_orchestrator.verdict import Cause, Verdict

_COMMAND_S = 30.0

_ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL",
    "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT",
}  # fmt: skip
_GONE = "GONE"
_CAUSES = {
    "CANCELLED": Cause.CANCELLED,
    "DEADLINE": Cause.TIME_LIMIT,
    "NODE_FAIL": Cause.NO_HEARTBEAT,
    "PREEMPTED": Cause.PREEMPTED,
    "TIMEOUT": Cause.TIME_LIMIT,
}
# Why a job waits, where waiting does not help.
_HOPELESS = (
    "AssocMaxWallDurationPerJobLimit",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "PartitionTimeLimit",
    "QOSMaxWallDurationPerJobLimit",
    "launch failed requeued held",
)


@dataclass(frozen=True)
class Listed:
    """A job as `squeue` has it: its state, and why it waits."""

    state: str
    reason: str = ""

    @property
    def is_hopeless(self) -> bool:
        """Whether it will not start unless somebody helps."""
        return self.state in ("REQUEUE_HOLD", "SPECIAL_EXIT") or any(reason in self.reason for reason in _HOPELESS)

    @property
    def is_gone(self) -> bool:
        """Whether SLURM does not know it, or not any more."""
        return self.state == _GONE

    @property
    def has_ended(self) -> bool:
        """Whether it neither runs nor waits."""
        return self.is_gone or self.state in _ENDED

    def verdict(self, handle: str) -> Verdict | None:
        """What its state alone says of its trial; None if that is nothing."""
        cause = _CAUSES.get(self.state)
        return None if cause is None else verdict.of_cause(cause, f"job {handle} is {self.state}")


def parse_queue(text: str) -> dict[str, Listed]:
    """What `squeue -o '%i|%T|%r'` has printed, by job; array jobs are called 12_0."""
    rows = [line.split("|", 2) for line in text.splitlines()]
    return {row[0]: Listed(row[1], row[2]) for row in rows if len(row) == 3}


class Queue:
    """What SLURM knows about this user's jobs, asked for all at once.

    Attributes:
        taken: when it was last asked, on the monotonic clock.
        answers: whether it answered then. The controller may be down for a while; jobs go on meanwhile.
    """

    def __init__(self, poll_s: float) -> None:
        self._poll_s = poll_s
        self._due = -math.inf
        self._jobs: dict[str, Listed] = {}
        self.taken = -math.inf
        self.answers = False

    def hurry(self) -> None:
        """Asks again at the next opportunity."""
        self._due = -math.inf

    def refresh(self, *, now: bool = False) -> None:
        """Asks again, if it is time to or if it has to be now. Takes ten seconds if nobody answers."""
        if not now and time.monotonic() < self._due:
            return
        self.taken = time.monotonic()
        answer = call("squeue", "-h", "-r", "-t", "all", "-u", str(os.getuid()), "-o", "%i|%T|%r")
        self.answers = answer is not None
        if answer is not None:
            self._jobs = parse_queue(answer)
        self._due = time.monotonic() + self._poll_s

    def find(self, handle: str) -> Listed:
        """A job; SLURM forgets those that have ended some minutes ago."""
        return self._jobs.get(handle, Listed(_GONE))


def call(*command: str) -> str | None:
    """What a command of SLURM prints; None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_COMMAND_S)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None


def exit_status(handle: str) -> tuple[int | None, int]:
    """Exit code and signal of a job that has ended, as far as SLURM still knows."""
    found = re.search(r"\bExitCode=(\d+):(\d+)", call("scontrol", "show", "job", "-o", handle) or "")
    return (None, 0) if found is None else (int(found[1]), int(found[2]))
