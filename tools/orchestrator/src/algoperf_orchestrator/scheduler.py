"""Runs what the ledger says is still to be run, whatever happens meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from algoperf_orchestrator import attempt, processes, verdict
from algoperf_orchestrator.attempt import Attempt
from algoperf_orchestrator.executors import Executor, Finished, Task
from algoperf_orchestrator.ledger import OWNER_SILENCE_S, Ledger, Owner, Row
from algoperf_orchestrator.verdict import Cause, State, Verdict

_POLL_S = 0.5
_BEAT_S = 1.0
_RECOVER_S = 5.0
# A trial whose folder another process has locked is looked at again after this time.
_LOCKED_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How infrastructure failures are retried; failures of the algorithm never are.

    Attributes:
        retries: how often a trial may fail so and be tried again.
        backoff_s: how long to wait before the first retry, in seconds; each one waits four times as long.
    """

    retries: int = 2
    backoff_s: float = 30.0

    def retry_in_s(self, verdict: Verdict, failures: int) -> float | None:
        """When to try again after a verdict and `failures` such failures before it; None: not."""
        if verdict.reason == Cause.LOCKED:
            return _LOCKED_S
        if not verdict.may_be_retried or failures >= self.retries:
            return None
        return self.backoff_s * float(4**failures)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a suite lives.

    Attributes:
        experiment: its folder.
        data_dir: the folder below which prepared data lies.
        command: what is run instead of trials, for tests and measurements.
    """

    experiment: Path
    data_dir: Path
    command: Sequence[str] = ()

    def task(self, row: Row, number: int) -> Task:
        """An attempt at a trial of the ledger."""
        return Task(
            trial=row.id,
            number=number,
            key=row.key,
            config=row.config,
            experiment=self.experiment / row.key.submission,
            data_dir=self.data_dir,
            command=self.command,
        )


@dataclass
class _Followed:
    """A running trial, and when something was last heard of it."""

    row: Row
    number: int
    heartbeat: float = 0.0
    heard: float = 0.0


Listener = Callable[[Row, str, Verdict | None], None]


class Scheduler:
    """Works through the planned trials of a ledger, as the only one or beside others.

    Args:
        place: where.
        ledger: which; see `Ledger.restrict`.
        owner: as whom; see `Ledger.register`.
        executor: who runs the trials.
        policy: of retries.
        listener: is told `(trial, "started" | "continued" | "ended" | "retry", what came of it)`,
            and once what a trial waits for.
        tick: is called every second or so.
    """

    def __init__(
        self,
        place: Place,
        ledger: Ledger,
        owner: int,
        executor: Executor,
        policy: Policy,
        listener: Listener = lambda row, event, verdict: None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._place, self._ledger, self._owner = place, ledger, owner
        self._executor, self._policy = executor, policy
        self._listener, self._tick = listener, tick
        self._running: dict[int, _Followed] = {}
        self._is_waiting = False

    def run(self, stop: Callable[[], bool]) -> bool:
        """Runs until all is done, or until it is asked to stop and all trials have left. Returns whether all is done.

        Args:
            stop: whether to stop; see also `Ledger.is_asked_to_stop`.

        Raises:
            OSError: the ledger cannot be written. Running trials are stopped, and can be continued.
            ValueError: trials are in the hands of another executor.
        """
        try:
            next_beat = next_recovery = time.monotonic()
            is_stopping = False
            while True:
                now = time.monotonic()
                if now >= next_recovery:
                    self._recover()
                    next_recovery = now + _RECOVER_S
                if now >= next_beat:
                    self._beat()
                    is_stopping = is_stopping or stop() or self._ledger.is_asked_to_stop(self._owner)
                    if is_stopping:
                        self._executor.stop(list(self._running))
                    next_beat = now + _BEAT_S
                if not is_stopping:
                    self._start()
                if not self._running and (is_stopping or not self._ledger.num_open()):
                    return not self._ledger.num_open()
                self._end_all(self._executor.wait(_POLL_S))
        finally:
            self._executor.close()

    def _start(self) -> None:
        due = self._ledger.num_due()
        if not due:
            return
        room = self._executor.room(due)
        if not room and not self._running:
            self._say_waiting()
        tasks: list[Task] = []
        while len(tasks) < room and (row := self._ledger.next_planned()) is not None:
            # What was finished by somebody who died before he could say so is not run again.
            if (found := verdict.of_folder(row.folder(self._place.experiment))) is not None:
                self._ledger.settle(row.id, found, row.folder(self._place.experiment))
                self._listener(row, "ended", found)
            elif (number := self._ledger.claim(row, self._owner)) is not None:
                self._running[row.id] = _Followed(row, number, heard=time.monotonic())
                tasks.append(self._place.task(row, number))
                self._listener(row, "continued" if row.attempts else "started", None)
        for trial, handle in self._executor.start(tasks).items():
            self._ledger.set_handle(trial, self._running[trial].number, handle)

    def _say_waiting(self) -> None:
        row = None if self._is_waiting else self._ledger.next_planned()
        if row is not None:
            self._is_waiting = True
            self._listener(row, f"waits for {self._executor.waits_for}", None)

    def _end_all(self, finished: Sequence[Finished]) -> None:
        for one in finished:
            followed = self._running.get(one.trial)
            if followed is not None and followed.number == one.number:
                del self._running[one.trial]
                self._end(followed.row, one.number, one.verdict)

    def _end(self, row: Row, number: int, found: Verdict) -> None:
        retry_in_s = self._policy.retry_in_s(found, row.failures)
        newest = attempt.read(row.folder(self._place.experiment))
        if self._ledger.end(row.id, number, found, retry_in_s, newest):
            self._listener(row, "ended" if retry_in_s is None else "retry", found)

    # Heartbeats.

    def _beat(self) -> None:
        attempts = {trial: self._heard(followed) for trial, followed in self._running.items()}
        lost = self._ledger.beat(self._owner, attempts)
        # Another orchestrator thought this one dead, and has them now.
        self._executor.release(lost)
        for trial in lost:
            del self._running[trial]
        self._end_silent()
        self._tick()

    def _heard(self, followed: _Followed) -> Attempt | None:
        found = attempt.read(followed.row.folder(self._place.experiment))
        if found is None or found.number != followed.number:
            return None
        if found.heartbeat != followed.heartbeat:
            followed.heartbeat, followed.heard = found.heartbeat, time.monotonic()
        return found

    def _end_silent(self) -> None:
        limit_s = self._executor.silence_s
        if limit_s is None:
            return
        for trial, followed in list(self._running.items()):
            silence_s = time.monotonic() - followed.heard
            # A trial that waits in a queue has no heartbeat yet.
            if followed.heartbeat and silence_s > limit_s:
                self._executor.stop([trial])
                del self._running[trial]
                self._end(followed.row, followed.number, _no_heartbeat(f"for {silence_s:.0f} s"))

    # What others have left.

    def _recover(self) -> None:
        """Takes over what orchestrators that are gone have left running."""
        others = [row for row in self._ledger.running() if row.id not in self._running]
        owners = self._ledger.owners() if others else {}
        for row in others:
            owner = None if row.owner is None else owners.get(row.owner)
            if owner is None or not owner.lives:
                self._take_over(row, owner)

    def _take_over(self, row: Row, owner: Owner | None) -> None:
        folder = row.folder(self._place.experiment)
        newest = attempt.read(folder)
        if (found := verdict.of_folder(folder)) is not None:
            self._end(row, row.attempts, found)
        elif row.handle:
            self._take_over_job(row, owner)
        elif newest is not None and newest.number == row.attempts and newest.verdict is not None:
            self._end(row, row.attempts, newest.verdict)
        elif newest is None or newest.number != row.attempts or _is_over(newest):
            # First of all others that look: they must not kill what is started next.
            if not self._ledger.adopt(row, self._owner):
                return
            processes.kill_strays(folder)
            # It may have got its result just before it was killed.
            found = verdict.of_folder(folder)
            gone = Verdict(state=State.PLANNED, reason=Cause.NO_HEARTBEAT, detail="its orchestrator is gone")
            self._end(row, row.attempts, found or gone)

    def _take_over_job(self, row: Row, owner: Owner | None) -> None:
        if owner is not None and owner.executor != self._executor.name:
            raise ValueError(
                f"{row.key} is in the hands of {owner.executor} (job {row.handle}); "
                f"continue with --executor {owner.executor}, or run `stop {self._place.experiment}` first."
            )
        if not self._executor.adopt(self._place.task(row, row.attempts), row.handle):
            self._end(row, row.attempts, _no_heartbeat(f"job {row.handle} is gone"))
        elif self._ledger.adopt(row, self._owner):
            self._running[row.id] = _Followed(row, row.attempts, heard=time.monotonic())
            self._listener(row, "continued", None)


def _is_over(newest: Attempt) -> bool:
    lives = attempt.is_alive(newest.host, newest.pid, newest.created)
    return not (time.time() - newest.heartbeat < OWNER_SILENCE_S if lives is None else lives)


def _no_heartbeat(detail: str) -> Verdict:
    return verdict.of_cause(Cause.NO_HEARTBEAT, detail)
