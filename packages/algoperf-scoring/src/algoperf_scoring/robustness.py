"""How much a leaderboard depends on who takes part, on each workload and study, and on the exact targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from algoperf_scoring import profiles, times
from algoperf_scoring.logs import Logs
from algoperf_scoring.rules import Rules
from algoperf_scoring.times import Missing, Selection, StudyTimes

# Shares by which the targets are moved; a negative one makes them harder.
EASIER = (-0.01, -0.005, -0.002, 0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)

# A time of zero would have no ratio.
_LEAST_S = 1e-6


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """What it takes to score study times again: the rules, and what an absent study counts."""

    rules: Rules
    ruleset: str
    missing: Missing

    def score(self, time_s: np.ndarray, studies: int | None = None) -> np.ndarray:
        """Scores in closed form, float64 (…, S), of study times, float64 (…, S, W, K)."""
        expected = self.rules.rulesets[self.ruleset].studies if studies is None else studies
        medians = times.medians(time_s, self.missing, expected)
        return profiles.score(profiles.ratios(medians, self.rules), self.rules)


@dataclass(frozen=True, kw_only=True)
class TargetShift:
    """The leaderboard with all targets moved.

    Attributes:
        easier: by which share, towards the easier side if positive.
        score: float64 (S,).
        kendall_tau: agreement of the ranking with the one at the true targets, from -1 to 1.
    """

    easier: float
    score: np.ndarray
    kendall_tau: float

    @property
    def is_censored(self) -> bool:
        """Harder targets are only known to be reached where training went on after the true one."""
        return self.easier < 0


def without_each_submission(found: StudyTimes, scorer: Scorer) -> dict[str, dict[str, float]]:
    """By the submission that is left out, the scores of the others."""
    return {
        name: _by_name(
            [other for other in found.submissions if other != name],
            scorer.score(np.delete(found.time_s, index, axis=0)),
        )
        for index, name in enumerate(found.submissions)
        if len(found.submissions) > 1
    }


def without_each_workload(found: StudyTimes, scorer: Scorer) -> dict[str, dict[str, float]]:
    """By the base workload that is left out, with its held-out variant, the scores."""
    rules = scorer.rules
    result = {}
    for name in rules.base if len(rules.base) > 1 else ():
        held_out = {base: variant for base, variant in rules.held_out.items() if base != name}
        fewer = replace(rules, base=tuple(base for base in rules.base if base != name), held_out=held_out)
        columns = [found.workloads.index(workload) for workload in fewer.scored]
        result[name] = _by_name(found.submissions, replace(scorer, rules=fewer).score(found.time_s[:, columns]))
    return result


def without_each_study(found: StudyTimes, scorer: Scorer) -> dict[int, dict[str, float]]:
    """By the number of the study that is left out, the scores from the others."""
    asked_for = scorer.rules.rulesets[scorer.ruleset].studies
    return {
        study: _by_name(found.submissions, scorer.score(np.delete(found.time_s, index, axis=-1), asked_for - 1))
        for index, study in enumerate(found.studies)
        if len(found.studies) > 1
    }


def wins(time_s: np.ndarray, rules: Rules) -> np.ndarray:
    """On how many base workloads the row's submission is faster than the column's: int (S, S).

    Args:
        time_s: float64 (S, W), medians; whoever has no time is slower than whoever has one.
        rules: say which columns are base workloads.
    """
    base = np.where(np.isnan(time_s), np.inf, time_s)[:, : len(rules.base)]
    return (base[:, None, :] < base[None, :, :]).sum(axis=-1)


def target_shifts(
    logs: Logs, selection: Selection, scorer: Scorer, shifts: Sequence[float] = EASIER
) -> list[TargetShift]:
    """The leaderboard with all targets moved by the same share of their value."""
    at_target = scorer.score(times.study_times(logs, selection).time_s)
    scores = [scorer.score(times.study_times(logs, selection, easier).time_s) for easier in shifts]
    return [
        TargetShift(easier=easier, score=score, kendall_tau=kendall_tau(at_target, score))
        for easier, score in zip(shifts, scores, strict=True)
    ]


def speedups(time_s: np.ndarray, baseline: int, rules: Rules, ruleset: str) -> np.ndarray:
    """How many times faster than the baseline each submission is on each base workload, float64 (…, S, B).

    A workload that was not reached counts one second more than its budget (as the public scoring has it, with the
    budgets of its rules version); above 1 is faster, and where neither reached it the speed-up is 1. It is NaN where
    neither has data.

    Args:
        time_s: float64 (…, S, W), medians; inf or NaN where there is no time.
        baseline: the row to compare with.
        rules: say which columns are base workloads, and their budgets.
        ruleset: multiplies the budgets.
    """
    limit = np.array([rules.budget_s(workload, ruleset) + 1 for workload in rules.base])
    base = time_s[..., : len(rules.base)]
    spent = np.maximum(np.where(np.isfinite(base), base, limit), _LEAST_S)
    has_none = np.isnan(base)
    return np.where(
        has_none & has_none[..., baseline : baseline + 1, :], np.nan, spent[..., baseline : baseline + 1, :] / spent
    )


def geometric_mean(values: np.ndarray) -> np.ndarray:
    """Over the last axis, without NaN; 1 where there is nothing."""
    is_there = ~np.isnan(values)
    logarithms = np.log(np.where(is_there, values, 1.0))
    return np.exp(logarithms.sum(axis=-1) / np.maximum(is_there.sum(axis=-1), 1))


def kendall_tau(first: np.ndarray, second: np.ndarray) -> float:
    """Kendall's tau-b of two score vectors; 1 if neither tells any two apart, 0 if only one does."""
    above, below = np.triu_indices(len(first), 1)
    one = np.sign(first[above] - first[below])
    other = np.sign(second[above] - second[below])
    scale = np.sqrt(np.abs(one).sum() * np.abs(other).sum())
    if scale == 0:
        return float(np.array_equal(one, other))
    return float((one * other).sum() / scale)


def ranks(scores: Mapping[str, float]) -> dict[str, int]:
    """Ranks from 1; equal scores share the better one."""
    return {name: 1 + sum(other > score for other in scores.values()) for name, score in scores.items()}


def _by_name(names: Sequence[str], score: np.ndarray) -> dict[str, float]:
    return dict(zip(names, score.tolist(), strict=True))
