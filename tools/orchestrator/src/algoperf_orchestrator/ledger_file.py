"""The file of a ledger: its tables, and how they are read and written. SQLite's errors become sentences here."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

NAME = "ledger.sqlite"
_VERSION = 1
# How long to wait for others that write.
_BUSY_S = 30.0
_SCHEMA = """
CREATE TABLE trials (
    id INTEGER PRIMARY KEY,
    submission TEXT NOT NULL, workload TEXT NOT NULL, framework TEXT NOT NULL,
    study INTEGER NOT NULL, trial INTEGER NOT NULL,
    config TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'planned', reason TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0,
    owner INTEGER, handle TEXT NOT NULL DEFAULT '', host TEXT NOT NULL DEFAULT '', devices TEXT NOT NULL DEFAULT '[]',
    started REAL, heartbeat REAL, ended REAL,
    phase TEXT NOT NULL DEFAULT '', step INTEGER NOT NULL DEFAULT 0, submission_s REAL NOT NULL DEFAULT 0,
    best REAL, wall_s REAL NOT NULL DEFAULT 0, peak_memory_bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (submission, workload, framework, study, trial)
);
CREATE INDEX trials_by_state ON trials (state);
CREATE TABLE attempts (
    trial INTEGER NOT NULL REFERENCES trials (id), number INTEGER NOT NULL,
    host TEXT NOT NULL, devices TEXT NOT NULL, started REAL NOT NULL, ended REAL, reason TEXT, detail TEXT,
    PRIMARY KEY (trial, number)
);
CREATE TABLE owners (
    id INTEGER PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, created REAL NOT NULL,
    executor TEXT NOT NULL, started REAL NOT NULL, heartbeat REAL NOT NULL
);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class LedgerError(ValueError):
    """A ledger that is missing, damaged or another version's; the message says what to do."""


class LedgerFile:
    """One connection to the ledger of an experiment. A context manager; of one thread.

    Args:
        experiment: its folder.
        create: make the ledger if there is none.

    Raises:
        LedgerError: there is none, or it cannot be read.
    """

    def __init__(self, experiment: Path, *, create: bool = False) -> None:
        self.path = experiment / NAME
        if not create and not self.path.is_file():
            raise LedgerError(
                f"There is no experiment in {experiment}; name a folder that `full-suite` made, "
                f"or run `algoperf-orchestrate ledger rebuild {experiment}` if its {NAME} was lost."
            )
        self._db = sqlite3.connect(self.path, isolation_level=None, timeout=_BUSY_S)
        self._db.row_factory = sqlite3.Row
        try:
            with self._explained():
                # Who only looks may not be allowed to write.
                if self._version() == 0:
                    self._log_ahead()
                    self._make_tables()
                self._db.execute("PRAGMA synchronous = NORMAL")
            if (version := self._version()) != _VERSION:
                raise LedgerError(
                    f"{self.path} is of version {version}, not {_VERSION}; use the AlgoPerf it came from."
                )
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._db.close()

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _log_ahead(self) -> None:
        """Turns on the write-ahead log. Here alone SQLite does not wait for others that do so just now."""
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def _make_tables(self) -> None:
        with self.transaction():
            # Somebody else may have made them meanwhile.
            if self._version() == 0:
                for statement in _SCHEMA.split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of SQLite in our own terms."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(None, str(error), str(self.path)) from error
        except sqlite3.DatabaseError as error:
            raise LedgerError(
                f"{self.path} is damaged ({error}); remove it and run "
                f"`algoperf-orchestrate ledger rebuild {self.path.parent}`."
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is done within happens at once, or not at all, and nobody else writes meanwhile.

        Raises OSError if the disk is full or the file may not be written, LedgerError if it is damaged.
        """
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # After some errors SQLite has done so itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Rows of a SELECT; see the tables above."""
        with self._explained():
            return self._db.execute(statement, values).fetchall()

    def fact(self, name: str) -> Any:
        """What was stored under a name; None if nothing was."""
        row = next(iter(self.query("SELECT value FROM facts WHERE name = ?", (name,))), None)
        return None if row is None else json.loads(row[0])

    def set_fact(self, name: str, value: Any) -> None:
        """Stores plain data under a name."""
        with self.transaction():
            self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))
