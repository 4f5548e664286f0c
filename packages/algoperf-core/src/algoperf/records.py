"""What a trial leaves on disk, written so that no crash can damage it, and read back exactly.

The layout is that of the public logs, `<experiment>/study_<k>/<workload>_<framework>/trial_<n>/`:

    eval_measurements.csv  one row per evaluation, columns sorted by name
    measurements.jsonl     what the submission logs, as it logs it; in the end also measurements.csv
    hparams.json           the hyperparameters, {} if there are none
    meta_data_<p>.json     hardware and versions of the run after restart p
    flags_<p>.json         its configuration
    trial.json             state, configuration and outcome; the public logs lack this one

Numbers are written with as many digits as give them back exactly. The JSON here may hold NaN,
Infinity and -Infinity, which Python reads and strict parsers do not; in CSV they are nan, inf and
-inf, and an empty cell among the evaluations is NaN, as in the public logs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algoperf.metrics_logger import MetricsLogger
from algoperf.record_files import (
    RecordsError,
    append_durably,
    csv_line,
    drop_torn_line,
    read_json,
    read_json_lines,
    read_table,
    to_json,
    write_atomic,
)

__all__ = [
    "MetricsLogger",
    "RecordsError",
    "TrialRecord",
    "TrialRecords",
    "check_same_config",
    "read_evaluations",
    "read_experiment",
    "read_trial",
    "trial_folder",
    "write_atomic",
]

EVALUATIONS = "eval_measurements.csv"
_LOGGED = "measurements.jsonl"
_LOGGED_TABLE = "measurements.csv"
_TRIAL = "trial.json"
_NUM_DIFFERENCES_NAMED = 3

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """A trial as its folder tells it.

    Attributes:
        folder: the trial's folder.
        config: its configuration; from the newest flags file where there is no `trial.json`.
        hparams: its hyperparameters.
        outcome: what `TrialRecords.finish` was given; empty while it runs and for public logs.
        evaluations: one row per evaluation, in order.
        measurements: what the submission logged, in order.
        metadata: one per start, in order.
    """

    folder: Path
    config: dict[str, Any]
    hparams: dict[str, Any]
    outcome: dict[str, Any]
    evaluations: list[dict[str, float | int]]
    measurements: list[dict[str, float | int]]
    metadata: list[dict[str, Any]]

    @property
    def end_reason(self) -> str | None:
        """Why the trial ended; None if it has not, or if nobody wrote it down."""
        return self.outcome.get("end_reason")


class TrialRecords:
    """Writes the records of one trial.

    Args:
        folder: the trial's folder, see `trial_folder`; made when there is something to write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.preemption_count = 0
        self._config: Row = {}
        self._columns: list[str] | None = None
        self._logger: MetricsLogger | None = None

    @property
    def num_starts(self) -> int:
        """How often the trial has been started: the number of restarts, seen by the next start."""
        return len(_numbered(self.folder, "meta_data"))

    def last_metadata(self) -> dict[str, Any]:
        """Hardware and versions of the newest run; empty if there was none."""
        starts = self.num_starts
        return read_json(self.folder / f"meta_data_{starts - 1}.json") if starts else {}

    def check_same_config(self, config: Row) -> None:
        """See the function of this name. The configuration is kept for `finish`."""
        check_same_config(self.folder, config)
        self._config = config

    def start(self, config: Row, metadata: Row, preemption_count: int, evaluations: Sequence[Row]) -> None:
        """Begins the records of a run, or continues them from a checkpoint.

        Args:
            config: everything that determines the trial, with the point under "hyperparameters".
            metadata: hardware and versions of this run.
            preemption_count: number of restarts before this run.
            evaluations: those that the checkpoint knows; rows after them were lost with the rest
                of the run and go. What the submission logged stays, told apart by its
                preemption_count.

        Raises:
            RecordsError: the folder belongs to another configuration.
            OSError: the disk is full or gone.
        """
        self.check_same_config(config)
        self.preemption_count = preemption_count
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_json(_TRIAL, {"state": "running", "config": config})
        if not (self.folder / "hparams.json").exists():
            self._write_json("hparams.json", config.get("hyperparameters") or {})
        self._write_json(f"meta_data_{preemption_count}.json", metadata)
        self._write_json(f"flags_{preemption_count}.json", config)
        self._columns = sorted(evaluations[0]) if evaluations else None
        if self._columns:
            lines = [self._evaluation_line(row, self._columns) for row in evaluations]
            write_atomic(self.folder / EVALUATIONS, csv_line(self._columns) + "".join(lines))
        else:
            (self.folder / EVALUATIONS).unlink(missing_ok=True)
        drop_torn_line(self.folder / _LOGGED)

    def take_back(self) -> None:
        """Undoes `start`, for a trial that was not evaluated."""
        numbered = [path for name in ("meta_data", "flags") for path in _numbered(self.folder, name)]
        for path in (*numbered, *(self.folder / name for name in (_TRIAL, "hparams.json", _LOGGED))):
            path.unlink(missing_ok=True)

    def append_evaluation(self, row: Row) -> None:
        """Adds an evaluation, and writes what the submission has logged before it.

        Raises:
            RecordsError: the row has other columns than the first.
            OSError: the disk is full or gone; the file is as it was before.
        """
        columns = self._columns or sorted(row)
        header = "" if self._columns else csv_line(columns)
        line = self._evaluation_line(row, columns)
        append_durably(self.folder / EVALUATIONS, (header + line).encode())
        self._columns = columns
        if self._logger is not None:
            self._logger.flush()

    def metrics_logger(self) -> MetricsLogger:
        """What the submission logs to, after `start`; `append_evaluation` and `finish` flush it."""
        self._logger = MetricsLogger(self.folder / _LOGGED, self.preemption_count)
        return self._logger

    def finish(self, outcome: Row) -> None:
        """Writes how the trial ended, after what the submission logged, as a table.

        Args:
            outcome: `end_reason`, seconds per account, error and whatever else is to be kept.

        Raises OSError if the disk is full or gone.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            if self._logger is not None:
                self._logger.flush()
            if logged := read_json_lines(self.folder / _LOGGED):
                columns = sorted(set().union(*logged))
                lines = [csv_line(row.get(key, "") for key in columns) for row in logged]
                write_atomic(self.folder / _LOGGED_TABLE, csv_line(columns) + "".join(lines))
        finally:
            # An outcome is worth more than what was logged on the way to it.
            self._write_json(_TRIAL, {**outcome, "state": "finished", "config": self._config})

    def _evaluation_line(self, row: Row, columns: Sequence[str]) -> str:
        if different := sorted(set(row) ^ set(columns)):
            raise RecordsError(
                f"An evaluation for {self.folder / EVALUATIONS} differs from the first in "
                f"{', '.join(different)}; return the same metrics from each evaluation."
            )
        return csv_line(row[key] for key in columns)

    def _write_json(self, name: str, data: Row) -> None:
        write_atomic(self.folder / name, to_json(data, indent=2) + "\n")


def trial_folder(experiment: Path, study: int, workload: str, framework: str, trial: int) -> Path:
    """Where a trial's records lie. Studies are numbered from 0, trials from 1."""
    if study < 0 or trial < 1:
        raise ValueError(f"There is no study {study} or trial {trial}; count from 0 and from 1.")
    return experiment / f"study_{study}" / f"{workload}_{framework}" / f"trial_{trial}"


def check_same_config(folder: Path, config: Row) -> None:
    """Raises RecordsError if a folder holds a trial of another configuration, or a damaged one."""
    if not (folder / _TRIAL).exists():
        return
    before, now = _config_of(folder), json.loads(to_json(config))
    # Compared as text, where NaN equals itself and 1 is not 1.0.
    changes = [
        f"{key} {_text(before, key)} there, {_text(now, key)} here"
        for key in sorted({*before, *now})
        if _text(before, key) != _text(now, key)
    ]
    if changes:
        named = "; ".join(changes[:_NUM_DIFFERENCES_NAMED])
        rest = len(changes) - _NUM_DIFFERENCES_NAMED
        more = f"; and {rest} more" if rest > 0 else ""
        raise RecordsError(
            f"{folder} holds a trial of another configuration ({named}{more}); choose another --experiment."
        )


def read_evaluations(path: Path) -> list[dict[str, float | int]]:
    """The rows of an evaluation file, exactly as they were written; none if there is no file.

    A last line without an end was being written when its process died, and is left out.

    Raises RecordsError if another line is damaged.
    """
    rows = read_table(path)
    return [{k: math.nan if v is None else v for k, v in row.items()} for row in rows]


def read_trial(folder: Path) -> TrialRecord:
    """The records of one trial, of our own or of the public logs. What is not there is empty.

    Raises:
        RecordsError: if there is no such folder, or one of its files is damaged.
    """
    if not folder.is_dir():
        raise RecordsError(f"There is no trial at {folder}; name a trial's folder.")
    has_trial = (folder / _TRIAL).exists()
    trial = read_json(folder / _TRIAL) if has_trial else {}
    flags = [read_json(path) for path in _numbered(folder, "flags")]
    hparams = folder / "hparams.json"
    return TrialRecord(
        folder=folder,
        config=_config_of(folder) if has_trial else [{}, *flags][-1],
        hparams=read_json(hparams) if hparams.exists() else {},
        outcome={key: trial[key] for key in trial if key not in ("state", "config")},
        evaluations=read_evaluations(folder / EVALUATIONS),
        measurements=_read_measurements(folder),
        metadata=[read_json(path) for path in _numbered(folder, "meta_data")],
    )


def read_experiment(folder: Path) -> list[TrialRecord]:
    """All trials, by study, workload, framework and trial number. Raises as `read_trial` does."""
    if not folder.is_dir():
        raise RecordsError(f"There is no experiment at {folder}; name an experiment's folder.")
    found = (
        (_number(trial.parent.parent), trial.parent.name, _number(trial), trial)
        for trial in folder.glob("study_*/*/trial_*")
        if trial.is_dir()
    )
    return [read_trial(trial) for *_, trial in sorted(found)]


def _read_measurements(folder: Path) -> list[dict[str, float | int]]:
    # The table is a copy, and cannot tell NaN from nothing in the public logs.
    if (folder / _LOGGED).exists():
        return read_json_lines(folder / _LOGGED)
    table = read_table(folder / _LOGGED_TABLE)
    return [{key: value for key, value in row.items() if value is not None} for row in table]


def _config_of(folder: Path) -> dict[str, Any]:
    config = read_json(folder / _TRIAL).get("config")
    if not isinstance(config, dict):
        raise RecordsError(f"{folder / _TRIAL} has no configuration; choose another --experiment.")
    return config


def _text(config: Row, key: str) -> str:
    return json.dumps(config[key], sort_keys=True) if key in config else "absent"


def _numbered(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}_*.json"), key=_number)


def _number(path: Path) -> int:
    match = re.fullmatch(r".*_(\d+)", path.name.removesuffix(".json"))
    if match is None:
        raise RecordsError(f"{path} has no number at the end of its name; rename or remove it.")
    return int(match[1])
