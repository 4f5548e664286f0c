"""What comes of one attempt at a trial: a result, or a failure and whose it is."""

from __future__ import annotations

import enum
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from algoperf.trial_config import EndReason
from algoperf_orchestrator.errors import BAD_INPUT, INFRASTRUCTURE


class State(enum.StrEnum):
    """Where a trial stands."""

    PLANNED = "planned"  # To be run, or to be gone on with.
    RUNNING = "running"
    DONE = "done"  # The algorithm has a result.
    FAILED_ALGORITHM = "failed(algorithm)"  # So has this: it is a result, and never repeated.
    FAILED_INFRASTRUCTURE = "failed(infrastructure)"  # No result; it was tried as often as allowed.

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to the trial by itself."""
        return self not in (State.PLANNED, State.RUNNING)

    @property
    def is_result(self) -> bool:
        """Whether the algorithm has achieved or failed something."""
        return self in (State.DONE, State.FAILED_ALGORITHM)


class Cause(enum.StrEnum):
    """Why an attempt ended without the trial saying how it ended."""

    STOPPED = "stopped"  # A person or a scheduler asked it to, and it saved what it had.
    REFUSED = "refused"  # The submission cannot be loaded.
    MEMORY = "memory"  # Its processes used more memory than one trial may.
    HUNG = "hung"  # Nothing happened for too long.
    KILLED = "killed"  # A signal ended its process.
    DIED = "died"  # Its process ended without a word.
    BAD_INPUT = "bad input"  # What it was started with cannot be run here.
    NOT_STARTED = "not started"  # Its process or its job could not be started.
    NO_HEARTBEAT = "no heartbeat"  # Its host or its orchestrator is gone.
    LEASE_LOST = "lease lost"  # Another orchestrator has taken it over.
    CANCELLED = "cancelled"  # A person took its job out of the queue.
    PREEMPTED = "preempted"  # The scheduler did.
    TIME_LIMIT = "time limit"  # The scheduler's, which is wider than the budget.
    LOCKED = "locked"  # Another process runs it.


# Failures of the algorithm: it is what it is, however often one tries.
_BY_ALGORITHM = (Cause.REFUSED, Cause.MEMORY)
# Nobody's failure: the trial goes on when somebody runs it.
_RESUMABLE = (Cause.STOPPED, Cause.LEASE_LOST, Cause.LOCKED)
_FAILED_RESULTS = (EndReason.ERROR, EndReason.OOM)
# What a machine does not mend by waiting.
_NOT_RETRIED = (Cause.BAD_INPUT, Cause.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of an attempt.

    Attributes:
        state: the trial's state after it; `FAILED_INFRASTRUCTURE` may be retried.
        reason: an `EndReason` that the trial gave, or a `Cause`.
        detail: one line more, for people.
    """

    state: State
    reason: str
    detail: str = ""

    @property
    def may_be_retried(self) -> bool:
        """Whether trying again can help."""
        return self.state is State.FAILED_INFRASTRUCTURE and self.reason not in _NOT_RETRIED

    def as_json(self) -> dict[str, Any]:
        """Plain data, the inverse of `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """From what `as_json` returned."""
        return cls(state=State(data["state"]), reason=str(data["reason"]), detail=str(data["detail"]))


def of_outcome(outcome: Mapping[str, Any]) -> Verdict:
    """Of a trial that said how it ended, as its records hold it."""
    reason = EndReason(outcome["end_reason"])
    error = outcome.get("error") or {}
    detail = f"{error['type']}: {_one_line(error['message'])}" if error else ""
    if reason is EndReason.INFRASTRUCTURE:
        return Verdict(state=State.FAILED_INFRASTRUCTURE, reason=reason.value, detail=detail)
    state = State.FAILED_ALGORITHM if reason in _FAILED_RESULTS else State.DONE
    return Verdict(state=state, reason=reason.value, detail=detail)


def of_cause(cause: Cause, detail: str = "", *, in_submission: bool = False) -> Verdict:
    """Of an attempt that ended otherwise.

    A process that hangs while the submission is charged for the time is the algorithm's failure: it
    would use up the budget without another step. Elsewhere it is the machine's.
    """
    if cause in _RESUMABLE:
        state = State.PLANNED
    elif cause in _BY_ALGORITHM or (cause is Cause.HUNG and in_submission):
        state = State.FAILED_ALGORITHM
    else:
        state = State.FAILED_INFRASTRUCTURE
    return Verdict(state=state, reason=cause.value, detail=_one_line(detail))


def of_exit(code: int, stderr: str) -> Verdict:
    """Of a process that ended without a word: its exit code, negative for a signal, and what it wrote."""
    last = (stderr.strip().splitlines() or [""])[-1]
    if code == BAD_INPUT:
        return of_cause(Cause.BAD_INPUT, last)
    if code == INFRASTRUCTURE:
        return Verdict(state=State.FAILED_INFRASTRUCTURE, reason=EndReason.INFRASTRUCTURE.value, detail=_one_line(last))
    if code < 0:
        return of_cause(Cause.KILLED, f"by {_signal_name(-code)}")
    return of_cause(Cause.DIED, f"exit code {code}" + (f": {last}" if last else ""))


def of_folder(folder: Path) -> Verdict | None:
    """Of a trial's records: its result; None if it has none yet. Damaged records are bad input: a person is to look."""
    if not (folder / "trial.json").is_file():
        return None
    from algoperf import records  # `status` needs no records, and is to be quick.

    try:
        outcome = records.read_trial(folder).outcome
    except records.RecordsError as error:
        return of_cause(Cause.BAD_INPUT, str(error))
    verdict = of_outcome(outcome) if "end_reason" in outcome else None
    return verdict if verdict is not None and verdict.state is not State.FAILED_INFRASTRUCTURE else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _one_line(text: str) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= 300 else line[:297] + "…"
