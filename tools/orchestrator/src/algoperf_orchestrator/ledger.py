"""The ledger of an experiment: where each of its trials stands, in an SQLite file beside the logs.

What a trial has achieved is in its folder; the ledger says who works on it. It is written on the
orchestrator's machine alone: SQLite's write-ahead log needs memory that its users share. A commit
survives the death of any process; after a power cut the newest may be missing, and is found again in
the trials' folders.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from algoperf.trial_config import TrialConfig
from algoperf_orchestrator import attempt
from algoperf_orchestrator.attempt import Attempt
from algoperf_orchestrator.ledger_file import LedgerError, LedgerFile
from algoperf_orchestrator.planned import Key, PlannedTrial
from algoperf_orchestrator.verdict import State, Verdict

# An orchestrator on another machine beats every second; a minute bridges a slow network.
OWNER_SILENCE_S = 60.0
# The phase of a trial that was handed to an executor, and of which nothing has been heard.
STARTING = "starting"
_STOP = "stop requested"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A trial as the ledger has it; see the table."""

    id: int
    key: Key
    config: TrialConfig
    state: State
    reason: str
    attempts: int
    failures: int
    owner: int | None
    handle: str
    host: str
    started: float | None
    heartbeat: float | None

    def folder(self, experiment: Path) -> Path:
        """Where its records lie."""
        return self.key.folder(experiment)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """An orchestrator that works, or worked, on the experiment."""

    id: int
    host: str
    pid: int
    created: float
    executor: str
    heartbeat: float

    @property
    def lives(self) -> bool:
        """Whether it still works; on another machine, whether its heart has beaten lately."""
        lives = attempt.is_alive(self.host, self.pid, self.created)
        return time.time() - self.heartbeat < OWNER_SILENCE_S if lives is None else lives


class Ledger(LedgerFile):
    """Where the trials of an experiment stand; see `LedgerFile` for its arguments."""

    # Planning.

    def add(self, trials: Iterable[PlannedTrial]) -> int:
        """Enters planned trials; those that are there already stay as they are. Returns how many were new.

        Raises:
            LedgerError: a trial is there with another configuration.
        """
        rows = [(*trial.key, json.dumps(trial.config.as_json())) for trial in trials]
        with self.transaction():
            known = {tuple(row)[:5]: row[5] for row in self._db.execute(f"SELECT {_KEY}, config FROM trials")}
            for row in rows:
                if (before := known.get(row[:5])) is not None and before != row[5]:
                    _check_same(Key(*row[:5]), json.loads(before), json.loads(row[5]))
            new = [row for row in rows if row[:5] not in known]
            self._db.executemany(f"INSERT INTO trials ({_KEY}, config) VALUES (?, ?, ?, ?, ?, ?)", new)
        return len(new)

    # Who works here.

    def register(self, executor: str) -> int:
        """Enters this process as one that works on the experiment. Returns its number as an owner."""
        process, now = psutil.Process(), time.time()
        with self.transaction():
            cursor = self._db.execute(
                "INSERT INTO owners (host, pid, created, executor, started, heartbeat) VALUES (?, ?, ?, ?, ?, ?)",
                (socket.gethostname(), os.getpid(), process.create_time(), executor, now, now),
            )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def owners(self) -> dict[int, Owner]:
        """All that have worked here, by number."""
        rows = self.query("SELECT id, host, pid, created, executor, heartbeat FROM owners")
        return {row["id"]: Owner(**dict(row)) for row in rows}

    def ask_to_stop(self) -> None:
        """Asks all that work here now."""
        self.set_fact(_STOP, time.time())

    def is_asked_to_stop(self, owner: int) -> bool:
        """Whether somebody has asked since this owner began."""
        ((started,),) = self.query("SELECT started FROM owners WHERE id = ?", (owner,))
        return (self.fact(_STOP) or 0.0) > started

    # A trial's way through the states.

    def claim(self, row: Row, owner: int, handle: str = "") -> int | None:
        """Takes a planned trial to run it. Returns the number of the attempt; None if somebody else was faster."""
        now = time.time()
        with self.transaction():
            changed = self._db.execute(
                "UPDATE trials SET state = 'running', reason = '', detail = '', owner = ?, handle = ?, "
                f"attempts = attempts + 1, started = ?, heartbeat = ?, ended = NULL, phase = '{STARTING}' "
                "WHERE id = ? AND state = 'planned' AND attempts = ?",
                (owner, handle, now, now, row.id, row.attempts),
            ).rowcount
            if not changed:
                return None
            number = row.attempts + 1
            self._db.execute(
                "INSERT INTO attempts (trial, number, host, devices, started) VALUES (?, ?, '', '[]', ?)",
                (row.id, number, now),
            )
        return number

    def set_handle(self, trial: int, number: int, handle: str) -> None:
        """Notes under which name an executor knows an attempt."""
        with self.transaction():
            self._db.execute("UPDATE trials SET handle = ? WHERE id = ? AND attempts = ?", (handle, trial, number))

    def adopt(self, row: Row, owner: int) -> bool:
        """Takes over a running trial whose orchestrator is gone, without a new attempt."""
        with self.transaction():
            changed = self._db.execute(
                "UPDATE trials SET owner = ? WHERE id = ? AND state = 'running' AND owner IS ? AND attempts = ?",
                (owner, row.id, row.owner, row.attempts),
            ).rowcount
        return bool(changed)

    def beat(self, owner: int, running: Mapping[int, Attempt | None]) -> list[int]:
        """Says that an owner lives, and how far its trials are. Returns those that are its own no longer."""
        now, lost = time.time(), []
        with self.transaction():
            self._db.execute("UPDATE owners SET heartbeat = ? WHERE id = ?", (now, owner))
            for trial, newest in running.items():
                if not self._beat(owner, trial, newest):
                    lost.append(trial)
        return lost

    def _beat(self, owner: int, trial: int, newest: Attempt | None) -> int:
        if newest is not None:
            return self._see(trial, newest, "owner = :owner", owner=owner)
        statement = "UPDATE trials SET id = id WHERE id = ? AND state = 'running' AND owner = ?"
        return self._db.execute(statement, (trial, owner)).rowcount

    def _see(self, trial: int, newest: Attempt, guard: str, **more: Any) -> int:
        """Takes over how far a running trial is, if the guard holds."""
        values = {**vars(newest), "devices": json.dumps(newest.devices), "id": trial, **more}
        values = {name: value for name, value in values.items() if isinstance(value, (int, float, str, type(None)))}
        self._db.execute(
            "UPDATE attempts SET host = :host, devices = :devices WHERE trial = :id AND number = :number", values
        )
        return self._db.execute(
            "UPDATE trials SET host = :host, devices = :devices, started = :started, heartbeat = :heartbeat, "
            "phase = :phase, step = :step, submission_s = :submission_s, best = :best, "
            f"peak_memory_bytes = :peak_memory_bytes WHERE id = :id AND state = 'running' AND {guard}",
            values,
        ).rowcount

    def end(
        self,
        trial: int,
        number: int,
        verdict: Verdict,
        retry_in_s: float | None = None,
        newest: Attempt | None = None,
    ) -> bool:
        """Writes what came of an attempt. Returns whether it was still the trial's newest one.

        Args:
            trial: whose.
            number: of the attempt.
            verdict: what came of it.
            retry_in_s: plan it again, not before so many seconds have passed.
            newest: the last that it said of itself.
        """
        now = time.time()
        is_retry = retry_in_s is not None
        state = State.PLANNED if is_retry else verdict.state
        with self.transaction():
            if newest is not None and newest.number == number:
                self._see(trial, newest, "attempts = :number")
            self._db.execute(
                "UPDATE attempts SET ended = ?, reason = ?, detail = ? "
                "WHERE trial = ? AND number = ? AND ended IS NULL",
                (now, verdict.reason, verdict.detail, trial, number),
            )
            changed = self._db.execute(
                "UPDATE trials SET state = ?, reason = ?, detail = ?, failures = failures + ?, not_before = ?, "
                # To the last heartbeat: what came after was nobody's work.
                "owner = NULL, handle = '', ended = ?, wall_s = wall_s + max(heartbeat - started, 0), phase = '' "
                "WHERE id = ? AND state = 'running' AND attempts = ?",
                (
                    state.value,
                    verdict.reason,
                    verdict.detail,
                    verdict.state is State.FAILED_INFRASTRUCTURE,
                    now + retry_in_s if retry_in_s is not None else 0,
                    now,
                    trial,
                    number,
                ),
            ).rowcount
        return bool(changed)

    def settle(self, trial: int, verdict: Verdict, folder: Path) -> None:
        """Writes what was found in a trial's folder, whatever the ledger said."""
        found = attempt.read(folder)
        facts = {} if found is None else {name: getattr(found, name) for name in _ATTEMPT_FACTS}
        assignments = "".join(f", {name} = :{name}" for name in facts)
        number = 0 if found is None else found.number
        with self.transaction():
            self._db.execute(
                "UPDATE trials SET state = :state, reason = :reason, detail = :detail, owner = NULL, handle = '', "
                f"phase = '', attempts = max(attempts, :number){assignments} WHERE id = :id",
                {**verdict.as_json(), **facts, "state": verdict.state.value, "id": trial, "number": number},
            )

    def forget(self, trial: int) -> None:
        """Forgets what a trial has achieved: its logs are gone."""
        with self.transaction():
            self._db.execute(
                "UPDATE trials SET best = NULL, step = 0, submission_s = 0, wall_s = 0, peak_memory_bytes = 0 "
                "WHERE id = ?",
                (trial,),
            )

    def plan_again(self, trials: Sequence[int]) -> None:
        """Lets failed trials be run anew, with all attempts that are allowed."""
        with self.transaction():
            self._db.executemany(
                "UPDATE trials SET state = 'planned', failures = 0, not_before = 0, ended = NULL WHERE id = ?",
                [(trial,) for trial in trials],
            )

    # Reading.

    def restrict(self, trials: Iterable[PlannedTrial]) -> None:
        """Lets `next_planned` and `num_due` see these trials alone: an experiment may hold those of other suites."""
        self._db.execute("CREATE TEMP TABLE IF NOT EXISTS mine (id INTEGER PRIMARY KEY)")
        with self.transaction():
            self._db.execute("DELETE FROM mine")
            self._db.executemany(
                f"INSERT INTO mine SELECT id FROM trials WHERE ({_KEY}) = (?, ?, ?, ?, ?)",
                [trial.key for trial in trials],
            )

    def next_planned(self) -> Row | None:
        """The first planned trial whose time has come."""
        where = "state = 'planned' AND not_before <= ? AND id IN (SELECT id FROM mine) ORDER BY id LIMIT 1"
        return next(self._rows(where, (time.time(),)), None)

    def num_due(self) -> int:
        """Planned trials whose time has come."""
        return self._count("state = 'planned' AND not_before <= ?", (time.time(),))

    def num_open(self) -> int:
        """Trials that are planned or running, whoever runs them."""
        return self._count("state IN ('planned', 'running')", ())

    def _count(self, where: str, values: Sequence[Any]) -> int:
        statement = f"SELECT count(*) FROM trials WHERE {where} AND id IN (SELECT id FROM mine)"
        return int(self.query(statement, values)[0][0])

    def running(self) -> list[Row]:
        """All running trials, whoever runs them."""
        return list(self._rows("state = 'running' ORDER BY id", ()))

    def rows(self) -> list[Row]:
        """All trials, in the order of the plan."""
        return list(self._rows("1 ORDER BY id", ()))

    def _rows(self, where: str, values: Sequence[Any]) -> Iterator[Row]:
        for row in self.query(f"SELECT {_ROW} FROM trials WHERE {where}", values):
            facts = dict(row)
            key = Key(*(facts.pop(name) for name in Key._fields))
            config = TrialConfig.from_json(json.loads(facts.pop("config")))
            yield Row(key=key, config=config, **{**facts, "state": State(facts["state"])})


# What the ledger takes from an attempt that it did not see.
_ATTEMPT_FACTS = ("step", "submission_s", "best", "host", "peak_memory_bytes", "started")
_KEY = ", ".join(Key._fields)
_ROW = f"id, {_KEY}, config, state, reason, attempts, failures, owner, handle, host, started, heartbeat"


def _check_same(key: Key, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in {**before, **now}:
        # As text, where 1 is not 1.0: it is another value to a submission.
        if json.dumps(before.get(name), sort_keys=True) != json.dumps(now.get(name), sort_keys=True):
            raise LedgerError(
                f"The experiment has {key} with {name} {before.get(name)!r}, now asked for with {now.get(name)!r}; "
                "choose another --experiment, or run it as it was."
            )
