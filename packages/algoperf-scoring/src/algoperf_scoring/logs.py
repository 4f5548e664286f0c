"""Reads the logs of many submissions into arrays."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from algoperf_scoring import evaluations, find
from algoperf_scoring.anomalies import Anomaly, Kind
from algoperf_scoring.evaluations import Evaluations
from algoperf_scoring.rules import Rules

# How a trial ends when it was not the algorithm's doing or the algorithm failed; see the logs' layout.
FAILURES = ("error", "oom", "infrastructure")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial.

    Attributes:
        folder: where it lies.
        rows: where its evaluations are in the logs' arrays.
        end_reason: as trial.json says; None in logs that have none.
    """

    folder: find.TrialFolder
    rows: slice
    end_reason: str | None = None

    @property
    def num_evaluations(self) -> int:
        """Number of evaluations that could be read."""
        return int(self.rows.stop - self.rows.start)

    @property
    def has_crashed(self) -> bool:
        """Whether it failed; without trial.json, whether it ended at or before its first evaluation."""
        if self.end_reason is not None:
            return self.end_reason in FAILURES or self.num_evaluations == 0
        return self.num_evaluations <= 1


@dataclass(frozen=True, kw_only=True)
class Logs:
    """Everything that was read.

    Attributes:
        rules: by which it was read.
        ruleset: "external" or "self".
        submissions: folders by name, sorted by name; one may have no trials.
        trials: sorted.
        evaluations: of all trials.
        anomalies: sorted.
        sha256: of the trials' paths and files: the same logs have the same, wherever they lie.
    """

    rules: Rules
    ruleset: str
    submissions: Mapping[str, Path]
    trials: Sequence[Trial]
    evaluations: Evaluations
    anomalies: Sequence[Anomaly]
    sha256: str


def read(folders: Sequence[Path], rules: Rules, ruleset: str, framework: str | None = None) -> Logs:
    """Reads all that the rules score.

    Args:
        folders: each holds submissions, or is one.
        rules: say which workloads there are, and their metrics.
        ruleset: "external" or "self".
        framework: leave out the other one.

    Raises:
        ValueError: a folder does not exist, or holds no logs.
    """
    submissions, anomalies = find.submission_folders(folders)
    trial_folders: list[find.TrialFolder] = []
    for name, folder in submissions.items():
        found, odd = find.trial_folders(name, folder, rules, framework)
        trial_folders += found
        anomalies += odd
    parts, digests, odd = evaluations.read(
        [folder.path for folder in trial_folders],
        [rules.workloads[folder.workload].metric for folder in trial_folders],
    )
    anomalies += odd
    stops = np.cumsum([0, *(len(rows) for rows in parts)]).tolist()
    trials = [
        Trial(folder=folder, rows=slice(start, stop), end_reason=_end_reason(folder.path))
        for folder, (start, stop) in zip(trial_folders, pairwise(stops), strict=True)
    ]
    rows = evaluations.concatenate(parts)
    anomalies += _numbers(submissions, trials, rules, ruleset)
    anomalies += _after_budget(trials, rows, rules, ruleset)
    return Logs(
        rules=rules,
        ruleset=ruleset,
        submissions=submissions,
        trials=trials,
        evaluations=rows,
        anomalies=sorted(anomalies),
        sha256=_digest(trial_folders, digests),
    )


def _digest(folders: Sequence[find.TrialFolder], digests: Sequence[str]) -> str:
    lines = [
        f"{folder.submission}/{'/'.join(folder.path.parts[-3:])} {digest}\n"
        for folder, digest in zip(folders, digests, strict=True)
    ]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _end_reason(folder: Path) -> str | None:
    """What trial.json says; None for a trial that runs, was killed, or was written by others."""
    try:
        reason = json.loads((folder / "trial.json").read_bytes()).get("end_reason")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return reason if isinstance(reason, str) else None


def _numbers(submissions: Mapping[str, Path], trials: Sequence[Trial], rules: Rules, ruleset: str) -> Iterator[Anomaly]:
    """Studies and trials that are missing, or more than asked for."""
    expected = rules.rulesets[ruleset]
    studies: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for trial in trials:
        found = studies[trial.folder.submission, trial.folder.workload]
        found[trial.folder.study] += trial.num_evaluations > 0
    for (submission, workload), found in studies.items():
        folder = submissions[submission]
        if len(found) < expected.studies:
            yield Anomaly(folder, Kind.MISSING_STUDY, f"{workload}: {len(found)} of {expected.studies} studies")
        elif len(found) > expected.studies:
            yield Anomaly(folder, Kind.EXTRA_STUDY, f"{workload}: {len(found)} of {expected.studies} studies")
        for study, number in found.items():
            kind = Kind.MISSING_TRIAL if number < expected.trials else Kind.EXTRA_TRIAL
            if number != expected.trials:
                yield Anomaly(folder, kind, f"{workload}, study {study}: {number} of {expected.trials} trials")


def _after_budget(trials: Sequence[Trial], rows: Evaluations, rules: Rules, ruleset: str) -> Iterator[Anomaly]:
    for trial in trials:
        late = int((rows.time_s[trial.rows] > rules.budget_s(trial.folder.workload, ruleset)).sum())
        if late:
            yield Anomaly(trial.folder.path, Kind.AFTER_BUDGET, f"{late} evaluations")
