"""A scored leaderboard: times to target, ratios, scores, and why each infinite cell is infinite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from algoperf_scoring import profiles, times
from algoperf_scoring.logs import Logs, Trial
from algoperf_scoring.times import Hit, Missing, Selection, StudyTimes


class Reason(StrEnum):
    """Why a cell counts as infinite."""

    NOT_REACHED = "not_reached"
    SLOWER = "slower_than_4x"
    HELD_OUT_MISSED = "held_out_missed"
    BASE_MISSED = "base_missed"
    OVER_BUDGET = "over_budget"
    CRASHED = "crashed"
    NO_DATA = "no_data"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One submission on one workload.

    Attributes:
        time_s: median time to target over studies, in seconds; inf if it was not reached, NaN without data.
        ratio: how many times the fastest that is; inf if it does not count, and for held-out variants.
        reason: why it does not count; None if it does.
        detail: the reason in words.
        is_complete: whether all studies and trials that the rules ask for are there.
        studies_s: time of each study by its number; inf if it was not reached.
        num_trials: trials that left evaluations.
    """

    time_s: float
    ratio: float
    reason: Reason | None
    detail: str
    is_complete: bool
    studies_s: Mapping[int, float]
    num_trials: int


@dataclass(frozen=True, kw_only=True)
class Board:
    """A leaderboard.

    Attributes:
        logs: what was scored.
        selection: which of a study's trials counts.
        missing: what an absent study counts.
        times: of each study; S submissions, W workloads.
        time_s: float64 (S, W), medians before the rules that make some infinite.
        ratios: float64 (S, B), on base workloads, after those rules.
        score: float64 (S,), closed form.
        grid_score: float64 (S,), as published.
        cells: by submission and workload.
    """

    logs: Logs
    selection: Selection
    missing: Missing
    times: StudyTimes
    time_s: np.ndarray
    ratios: np.ndarray
    score: np.ndarray
    grid_score: np.ndarray
    cells: Mapping[tuple[str, str], Cell]

    @property
    def ranking(self) -> list[int]:
        """Indices of the submissions from the best to the worst; equal ones by name."""
        return sorted(range(len(self.score)), key=lambda index: (-self.score[index], self.times.submissions[index]))


def score(logs: Logs, selection: Selection = Selection.FASTEST, missing: Missing = Missing.DROP) -> Board:
    """Scores logs by the rules that they were read with."""
    found = times.study_times(logs, selection)
    expected = logs.rules.rulesets[logs.ruleset].studies
    time_s = times.medians(found.time_s, missing, expected)
    ratios = profiles.ratios(time_s, logs.rules)
    effective = profiles.effective_times(time_s, logs.rules)
    cells = {
        (submission, workload): _cell(logs, found, row, column, time_s, effective, ratios)
        for row, submission in enumerate(found.submissions)
        for column, workload in enumerate(found.workloads)
    }
    return Board(
        logs=logs,
        selection=selection,
        missing=missing,
        times=found,
        time_s=time_s,
        ratios=ratios,
        score=profiles.score(ratios, logs.rules),
        grid_score=profiles.grid_score(ratios, logs.rules),
        cells=cells,
    )


def _cell(
    logs: Logs,
    found: StudyTimes,
    row: int,
    column: int,
    time_s: np.ndarray,
    effective: np.ndarray,
    ratios: np.ndarray,
) -> Cell:
    submission, workload = found.submissions[row], found.workloads[column]
    studies = {
        study: found.trials[submission, workload, study]
        for study in found.studies
        if (submission, workload, study) in found.trials
    }
    rules = logs.rules.rulesets[logs.ruleset]
    readable = [sum(trial.num_evaluations > 0 for trial, _ in trials) for trials in studies.values()]
    reason, detail = None, ""
    if not np.isfinite(effective[row, column]):
        if np.isfinite(time_s[row, column]):
            reason, detail = _made_infinite(logs, found, row, column, time_s, effective)
        else:
            reason, detail = _not_reached(logs, workload, studies, found.time_s[row, column])
    return Cell(
        time_s=float(time_s[row, column]),
        ratio=float(ratios[row, column]) if column < len(logs.rules.base) else np.inf,
        reason=reason,
        detail=detail,
        is_complete=len(studies) >= rules.studies and min(readable, default=0) >= rules.trials,
        studies_s={
            study: float(found.time_s[row, column, index])
            for index, study in enumerate(found.studies)
            if not np.isnan(found.time_s[row, column, index])
        },
        num_trials=sum(readable),
    )


def _made_infinite(
    logs: Logs, found: StudyTimes, row: int, column: int, time_s: np.ndarray, effective: np.ndarray
) -> tuple[Reason, str]:
    """Why a time that was measured does not count."""
    rules = logs.rules
    base_of = {variant: base for base, variant in profiles.variant_columns(rules)}
    if column in base_of and not np.isfinite(time_s[row, base_of[column]]):
        return Reason.BASE_MISSED, f"{found.workloads[base_of[column]]} was not reached"
    # The fastest time among those that had a chance to count, as in `effective_times`.
    best = np.nanmin(np.where(np.isfinite(effective[:, column]), effective[:, column], time_s[:, column]))
    own = time_s[row, column]
    if own > rules.max_ratio * best:
        return Reason.SLOWER, f"{own / best:.2f} times the fastest"
    variant = rules.held_out[found.workloads[column]]
    return Reason.HELD_OUT_MISSED, f"{variant} was not reached, or only beyond {rules.max_ratio:g} times the fastest"


def _not_reached(
    logs: Logs, workload: str, studies: Mapping[int, list[tuple[Trial, Hit]]], time_s: np.ndarray
) -> tuple[Reason, str]:
    """Why the median over studies is no time."""
    every = [one for trials in studies.values() for one in trials]
    if not every:
        return Reason.NO_DATA, "no trials"
    if np.isfinite(times.medians(time_s)):
        expected = logs.rules.rulesets[logs.ruleset].studies
        return Reason.INCOMPLETE, f"{np.isfinite(time_s).sum()} of {expected} studies reached it, others are missing"
    budget_s = logs.rules.budget_s(workload, logs.ruleset)
    late = [one.time_s for _, one in every if one.is_late]
    if np.isfinite(times.medians(_with_late_hits(studies))):
        return Reason.OVER_BUDGET, f"reached after {min(late):,.0f} s, when the budget of {budget_s:,.0f} s was spent"
    failed = [trials for trials in studies.values() if all(one.index < 0 or one.is_late for _, one in trials)]
    crashed = sum(trial.has_crashed for trial, _ in every)
    detail = f"{sum(one.index >= 0 for _, one in every)} of {len(every)} trials reached it"
    if crashed:
        detail += f", {crashed} ended at or before their first evaluation, or with an error"
    if failed and all(trial.has_crashed for trials in failed for trial, _ in trials):
        return Reason.CRASHED, detail
    return Reason.NOT_REACHED, detail


def _with_late_hits(studies: Mapping[int, list[tuple[Trial, Hit]]]) -> np.ndarray:
    """The studies' times if no budget were enforced."""
    return np.array([min(one.time_s for _, one in trials) for trials in studies.values()])
