"""A scored leaderboard: times to target, ratios, scores, and why each infinite cell is infinite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from algoperf_scoring import profiles, times
from algoperf_scoring.logs import Logs, Trial
from algoperf_scoring.times import Hit, Missing, Selection, StudyTimes

Trials = Sequence[tuple[Trial, Hit]]


class Reason(StrEnum):
    """Why a cell counts as infinite."""

    NOT_REACHED = "not_reached"
    SLOWER = "slower_than_4x"
    HELD_OUT_MISSED = "held_out_missed"
    BASE_MISSED = "base_missed"
    OVER_BUDGET = "over_budget"
    CRASHED = "crashed"
    UNFINISHED = "unfinished"
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
        selected: by study number, the number of the trial whose time that is, if the target was reached.
        frameworks: those of its trials.
        num_trials: trials that left evaluations.
    """

    time_s: float
    ratio: float
    reason: Reason | None
    detail: str
    is_complete: bool
    studies_s: Mapping[int, float]
    selected: Mapping[int, int]
    frameworks: Sequence[str]
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
        effective_s: float64 (S, W), after them.
        ratios: float64 (S, B), on base workloads, after them.
        score: float64 (S,), closed form.
        grid_score: float64 (S,), as published.
    """

    logs: Logs
    selection: Selection
    missing: Missing
    times: StudyTimes
    time_s: np.ndarray
    effective_s: np.ndarray
    ratios: np.ndarray
    score: np.ndarray
    grid_score: np.ndarray

    @property
    def ranking(self) -> list[int]:
        """Indices of the submissions from the best to the worst; equal ones by name."""
        return sorted(range(len(self.score)), key=lambda index: (-self.score[index], self.times.submissions[index]))

    @property
    def ranks(self) -> list[int]:
        """Of each submission, from 1; equal scores share the better one."""
        return [1 + int((self.score > one).sum()) for one in self.score]

    @property
    def most_studies(self) -> int:
        """The largest number of studies that any submission has of any workload; one says nothing about chance."""
        return max((len(cell.studies_s) for cell in self.cells.values()), default=0)

    @cached_property
    def cells(self) -> Mapping[tuple[str, str], Cell]:
        """By submission and workload."""
        return {
            (submission, workload): _cell(self, row, column)
            for row, submission in enumerate(self.times.submissions)
            for column, workload in enumerate(self.times.workloads)
        }


def score(logs: Logs, selection: Selection = Selection.FASTEST, missing: Missing = Missing.DROP) -> Board:
    """Scores logs by the rules that they were read with."""
    found = times.study_times(logs, selection)
    time_s = times.medians(found.time_s, missing, logs.rules.rulesets[logs.ruleset].studies)
    ratios = profiles.ratios(time_s, logs.rules)
    return Board(
        logs=logs,
        selection=selection,
        missing=missing,
        times=found,
        time_s=time_s,
        effective_s=profiles.effective_times(time_s, logs.rules),
        ratios=ratios,
        score=profiles.score(ratios, logs.rules),
        grid_score=profiles.grid_score(ratios, logs.rules),
    )


def _cell(board: Board, row: int, column: int) -> Cell:
    found, asked = board.times, board.logs.rules.rulesets[board.logs.ruleset]
    studies = _studies(board, row, column)
    readable = [sum(trial.num_evaluations > 0 for trial, _ in trials) for trials in studies.values()]
    reason, detail = _reason(board, row, column)
    return Cell(
        time_s=float(board.time_s[row, column]),
        ratio=float(board.ratios[row, column]) if column < len(board.logs.rules.base) else np.inf,
        reason=reason,
        detail=detail,
        is_complete=len(studies) >= asked.studies and min(readable, default=0) >= asked.trials,
        studies_s={
            study: time_s
            for study, time_s in zip(found.studies, found.time_s[row, column].tolist(), strict=True)
            if not np.isnan(time_s)
        },
        selected={study: trial for study, trials in studies.items() for trial in _selected(board, trials)},
        frameworks=sorted({trial.folder.framework for trials in studies.values() for trial, _ in trials}),
        num_trials=sum(readable),
    )


def _studies(board: Board, row: int, column: int) -> dict[int, Trials]:
    """The trials of a submission on a workload, by the number of their study."""
    key = (board.times.submissions[row], board.times.workloads[column])
    return {
        study: board.times.trials[*key, study] for study in board.times.studies if (*key, study) in board.times.trials
    }


def _selected(board: Board, trials: Trials) -> list[int]:
    """The number of the trial that counts; nothing if none reached the target."""
    selected = times.select([hit for _, hit in trials], board.selection)
    return [trial.folder.number for trial, hit in trials if hit is selected and hit is not times.NEVER]


def _reason(board: Board, row: int, column: int) -> tuple[Reason | None, str]:
    """Why a cell does not count, in a word and in words; None if it does."""
    if np.isfinite(board.effective_s[row, column]):
        return None, ""
    if np.isfinite(board.time_s[row, column]):
        return _made_infinite(board, row, column)
    return _not_reached(board, row, column, list(_studies(board, row, column).values()))


def _made_infinite(board: Board, row: int, column: int) -> tuple[Reason, str]:
    """Why a time that was measured does not count."""
    rules, workloads = board.logs.rules, board.times.workloads
    base_of = {variant: base for base, variant in profiles.variant_columns(rules)}
    if column in base_of and not np.isfinite(board.time_s[row, base_of[column]]):
        return Reason.BASE_MISSED, f"{workloads[base_of[column]]} was not reached"
    best_s = profiles.fastest(profiles.eligible_times(board.time_s, rules))[0, column]
    time_s = board.time_s[row, column]
    if time_s > rules.max_ratio * best_s:
        return Reason.SLOWER, f"{time_s / best_s:.2f} times the fastest" if best_s > 0 else "the fastest took no time"
    variant = rules.held_out[workloads[column]]
    reason, detail = _reason(board, row, workloads.index(variant))
    word = "not_reached" if reason is None else reason.value
    return Reason.HELD_OUT_MISSED, f"{variant}: {word.replace('_', ' ')}, {detail}"


def _not_reached(board: Board, row: int, column: int, studies: Sequence[Trials]) -> tuple[Reason, str]:
    """Why the median over studies is no time."""
    logs, time_s = board.logs, board.times.time_s[row, column]
    every = [one for trials in studies for one in trials]
    if not every:
        return Reason.NO_DATA, "no trials"
    if np.isfinite(times.medians(time_s)):
        asked = logs.rules.rulesets[logs.ruleset].studies
        return Reason.INCOMPLETE, f"{np.isfinite(time_s).sum()} of {asked} studies reached it, others are missing"
    if np.isfinite(times.medians(_with_late_hits(studies))):
        budget_s = logs.rules.budget_s(board.times.workloads[column], logs.ruleset)
        first = min(hit.time_s for _, hit in every if hit.is_late)
        return Reason.OVER_BUDGET, f"reached after {first:,.0f} s, when the budget of {budget_s:,.0f} s was spent"
    missed = [trials for trials in studies if all(hit.index < 0 or hit.is_late for _, hit in trials)]
    detail = _counts(studies, len(missed))
    if np.isnan(time_s).all() and any(trial.is_unfinished for trial, _ in every):
        return Reason.UNFINISHED, detail
    if all(trial.has_crashed for trials in missed for trial, _ in trials):
        return Reason.CRASHED, detail
    return Reason.NOT_REACHED, detail


def _counts(studies: Sequence[Trials], num_missed: int) -> str:
    """How many studies and trials reached the target, and what is known of the others."""
    every = [one for trials in studies for one in trials]
    in_time = sum(hit.index >= 0 and not hit.is_late for _, hit in every)
    others = {
        "reached it after the budget": sum(hit.is_late for _, hit in every),
        "failed, or ended at or before their first evaluation": sum(trial.has_crashed for trial, _ in every),
        "have not ended": sum(trial.is_unfinished for trial, _ in every),
    }
    detail = f"{len(studies) - num_missed} of {len(studies)} studies and {in_time} of {len(every)} trials reached it"
    return ", ".join([detail, *(f"{number} {what}" for what, number in others.items() if number)])


def _with_late_hits(studies: Sequence[Trials]) -> np.ndarray:
    """The times of the studies that are there, if no budget were enforced."""
    there = [trials for trials in studies if any(trial.num_evaluations for trial, _ in trials)]
    return np.array([min(hit.time_s for _, hit in trials) for trials in there])
