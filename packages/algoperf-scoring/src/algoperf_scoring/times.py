"""From evaluations to the time that each study needed.

Infinite is a target that was not reached; NaN is a study that is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from algoperf_scoring.logs import Logs, Trial


class Selection(StrEnum):
    """Which of a study's trials counts."""

    FASTEST = "fastest"
    """The one that reached the target in the least time: the documented rule."""

    REFERENCE = "reference"
    """The one that reached it at the smallest evaluation index, of those the fastest: what the public scoring does,
    made independent of the order in which a file system lists folders. No budget is enforced."""


class Missing(StrEnum):
    """What a study counts that the rules ask for and the logs lack."""

    DROP = "drop"
    NEVER_REACHED = "never-reached"


@dataclass(frozen=True, kw_only=True)
class Hit:
    """When a trial reached its target.

    Attributes:
        index: of the first evaluation that reached it, from 0; -1 if none did.
        time_s: submission time of that evaluation; inf if none did.
        is_late: whether it was after the budget, where one is enforced; a late hit does not count.
    """

    index: int
    time_s: float
    is_late: bool = False


NEVER = Hit(index=-1, time_s=np.inf)


@dataclass(frozen=True, kw_only=True)
class StudyTimes:
    """The time of each study, and which trial's it is.

    Attributes:
        submissions: names, S of them.
        workloads: names as in `Rules.scored`, W of them.
        studies: their numbers, K of them.
        time_s: float64 (S, W, K), seconds; inf: not reached, NaN: no such study.
        trials: per submission, workload and study number, its trials with their hits.
    """

    submissions: tuple[str, ...]
    workloads: tuple[str, ...]
    studies: tuple[int, ...]
    time_s: np.ndarray
    trials: dict[tuple[str, str, int], list[tuple[Trial, Hit]]]


def hits(logs: Logs, selection: Selection = Selection.FASTEST, easier: float = 0.0) -> list[Hit]:
    """When each trial reached its target for the first time; what it does afterwards does not matter.

    Args:
        logs: what was read.
        selection: says whether budgets are enforced.
        easier: share by which the targets are moved, towards the easier side if positive.

    A metric that is not a finite number reaches nothing.
    """
    facts = [logs.rules.workloads[trial.folder.workload] for trial in logs.trials]
    sign = np.array([1.0 if fact.goal == "min" else -1.0 for fact in facts])
    target = np.array([fact.target for fact in facts])
    target = target + sign * np.abs(target) * easier
    trial_of_row = np.repeat(np.arange(len(logs.trials)), [trial.num_evaluations for trial in logs.trials])
    metric = logs.evaluations.metric
    is_good = np.isfinite(metric) & (sign[trial_of_row] * metric <= (sign * target)[trial_of_row])
    rows = np.flatnonzero(is_good)
    reached, first = np.unique(trial_of_row[rows], return_index=True)
    found = [NEVER] * len(logs.trials)
    for index, row in zip(reached.tolist(), rows[first].tolist(), strict=True):
        trial = logs.trials[index]
        time_s = float(logs.evaluations.time_s[row])
        budget_s = logs.rules.budget_s(trial.folder.workload, logs.ruleset)
        is_late = selection is Selection.FASTEST and time_s > budget_s
        found[index] = Hit(index=row - trial.rows.start, time_s=time_s, is_late=is_late)
    return found


def select(hits: Sequence[Hit], selection: Selection) -> Hit:
    """The hit that counts for a study."""
    candidates = [one for one in hits if one.index >= 0 and not one.is_late]
    if selection is Selection.REFERENCE:
        return min(candidates, key=lambda one: (one.index, one.time_s), default=NEVER)
    return min(candidates, key=lambda one: one.time_s, default=NEVER)


def study_times(logs: Logs, selection: Selection = Selection.FASTEST, easier: float = 0.0) -> StudyTimes:
    """The time of each study, with arguments as for `hits`.

    A study is not there if none of its trials could be read, or if none reached the target and one has not ended.
    """
    trials: dict[tuple[str, str, int], list[tuple[Trial, Hit]]] = {}
    for trial, hit in zip(logs.trials, hits(logs, selection, easier), strict=True):
        key = (trial.folder.submission, trial.folder.workload, trial.folder.study)
        trials.setdefault(key, []).append((trial, hit))
    submissions, workloads = tuple(logs.submissions), logs.rules.scored
    studies = tuple(sorted({study for _, _, study in trials}))
    rows = {name: index for index, name in enumerate(submissions)}
    time_s = np.full((len(submissions), len(workloads), len(studies)), np.nan)
    for (submission, workload, study), found in trials.items():
        selected = select([one for _, one in found], selection)
        may_still_reach = selected is NEVER and any(trial.is_unfinished for trial, _ in found)
        if any(trial.num_evaluations for trial, _ in found) and not may_still_reach:
            time_s[rows[submission], workloads.index(workload), studies.index(study)] = selected.time_s
    return StudyTimes(submissions=submissions, workloads=workloads, studies=studies, time_s=time_s, trials=trials)


def medians(time_s: np.ndarray, missing: Missing = Missing.DROP, studies: int = 0) -> np.ndarray:
    """The median over studies.

    Args:
        time_s: float64 (…, K).
        missing: what absent studies (NaN) count.
        studies: how many the rules ask for; only used where missing ones count as never reached.

    Returns:
        float64 (…): of an even number, the mean of the two in the middle; NaN where there is no study at all.
    """
    if time_s.shape[-1] == 0:
        return np.full(time_s.shape[:-1], np.nan)
    # NaN sorts to the end, so that the studies that are there come first, in order.
    ordered = np.sort(time_s, axis=-1)
    if not np.isnan(ordered[..., -1]).any() and ordered.shape[-1] >= studies:
        return _middle(ordered[..., (ordered.shape[-1] - 1) // 2], ordered[..., ordered.shape[-1] // 2])
    present = np.isfinite(ordered) | np.isinf(ordered)
    count = present.sum(axis=-1)
    is_there = count > 0
    if missing is Missing.NEVER_REACHED:
        pad = np.full((*ordered.shape[:-1], max(studies - ordered.shape[-1], 0)), np.nan)
        ordered = np.concatenate([ordered, pad], axis=-1)
        ordered = np.where(np.isnan(ordered), np.inf, ordered)
        count = np.where(is_there, np.maximum(count, studies), 0)
    low = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0)[..., None], axis=-1)[..., 0]
    high = np.take_along_axis(ordered, np.maximum(count // 2, 0)[..., None], axis=-1)[..., 0]
    return np.where(is_there, _middle(low, high), np.nan)


def _middle(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    # Of twice the same it is that, bit for bit; inf stays inf.
    return np.where(low == high, low, (low + high) / 2)
