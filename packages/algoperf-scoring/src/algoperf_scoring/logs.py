"""Reads the logs of many submissions into arrays."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from algoperf_scoring import evaluations, find
from algoperf_scoring.anomalies import Anomaly, Kind
from algoperf_scoring.evaluations import Evaluations
from algoperf_scoring.json_files import read_object
from algoperf_scoring.rules import Rules

# How a trial ends when the submission failed, and when the machine did: then it has no result yet.
_FAILURES = ("error", "oom")
_INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial.

    Attributes:
        folder: where it lies.
        rows: where its evaluations are in the logs' arrays.
        end_reason: as trial.json says; None in logs that have none.
        is_running: whether trial.json says that it has not ended.
    """

    folder: find.TrialFolder
    rows: slice
    end_reason: str | None = None
    is_running: bool = False

    @property
    def num_evaluations(self) -> int:
        """Number of evaluations that could be read."""
        return int(self.rows.stop - self.rows.start)

    @property
    def is_unfinished(self) -> bool:
        """Whether it may still reach what it has not reached: it runs, was killed, or was stopped by the machine."""
        return self.is_running or self.end_reason == _INFRASTRUCTURE

    @property
    def has_crashed(self) -> bool:
        """Whether it failed; without trial.json, whether it ended at or before its first evaluation."""
        if self.is_unfinished:
            return False
        if self.end_reason is not None:
            return self.end_reason in _FAILURES or self.num_evaluations == 0
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
        sha256: of the trials' paths, from the submission on, and of their evaluations.
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
        Trial(folder=folder, rows=slice(start, stop), **_ending(folder.path))
        for folder, (start, stop) in zip(trial_folders, pairwise(stops), strict=True)
    ]
    rows = evaluations.concatenate(parts)
    anomalies += _numbers(submissions, trials, rules, ruleset)
    anomalies += _after_budget(trials, rows, rules, ruleset)
    anomalies += _copies(trials, digests)
    anomalies += (Anomaly(trial.folder.path, Kind.UNFINISHED) for trial in trials if trial.is_unfinished)
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


def _ending(folder: Path) -> dict[str, Any]:
    """What trial.json says of the end; nothing in the logs of others, and if it is damaged."""
    record = read_object(folder / "trial.json")
    reason = record.get("end_reason")
    return {"end_reason": reason if isinstance(reason, str) else None, "is_running": record.get("state") == "running"}


def _numbers(submissions: Mapping[str, Path], trials: Sequence[Trial], rules: Rules, ruleset: str) -> Iterator[Anomaly]:
    """Workloads, studies and trials that are missing, or more than asked for."""
    found: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for trial in trials:
        found[trial.folder.submission, trial.folder.workload][trial.folder.study] += trial.num_evaluations > 0
    for submission, folder in submissions.items():
        missing = [workload for workload in rules.scored if (submission, workload) not in found]
        if len(missing) == len(rules.scored):
            yield Anomaly(folder, Kind.NOTHING_SCORED)
            continue
        yield from (Anomaly(folder, Kind.MISSING_WORKLOAD, workload) for workload in missing)
        for workload in rules.scored:
            yield from _number_of_studies(
                folder, workload, found.get((submission, workload), Counter()), rules, ruleset
            )


def _number_of_studies(
    folder: Path, workload: str, studies: Counter[int], rules: Rules, ruleset: str
) -> Iterator[Anomaly]:
    expected = rules.rulesets[ruleset]
    if studies and len(studies) != expected.studies:
        kind = Kind.MISSING_STUDY if len(studies) < expected.studies else Kind.EXTRA_STUDY
        yield Anomaly(folder, kind, f"{workload}: {len(studies)} of {expected.studies} studies")
    for study, number in studies.items():
        if number != expected.trials:
            kind = Kind.MISSING_TRIAL if number < expected.trials else Kind.EXTRA_TRIAL
            yield Anomaly(folder, kind, f"{workload}, study {study}: {number} of {expected.trials} trials")


def _copies(trials: Sequence[Trial], digests: Sequence[str]) -> Iterator[Anomaly]:
    """Trials that cannot be two: their files are the same."""
    seen: dict[str, Trial] = {}
    for trial, digest in zip(trials, digests, strict=True):
        if trial.num_evaluations:
            first = seen.setdefault(digest, trial)
            if first is not trial:
                same = f"{first.folder.submission}/{'/'.join(first.folder.path.parts[-3:])}"
                yield Anomaly(trial.folder.path, Kind.SAME_FILE, same)


def _after_budget(trials: Sequence[Trial], rows: Evaluations, rules: Rules, ruleset: str) -> Iterator[Anomaly]:
    for trial in trials:
        late = int((rows.time_s[trial.rows] > rules.budget_s(trial.folder.workload, ruleset)).sum())
        if late:
            yield Anomaly(trial.folder.path, Kind.AFTER_BUDGET, f"{late} evaluations")
