"""How sure a leaderboard is: studies drawn again with replacement (Efron, 1979), and the board scored each time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algoperf_scoring import profiles, times
from algoperf_scoring.rules import Rules
from algoperf_scoring.times import Missing

RESAMPLES = 4_000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """Resampled boards.

    Attributes:
        score: float64 (N, S), scores on each resampled board.
        interval: float64 (S, 2), where 95 % of them lie.
        rank_interval: int (S, 2), likewise for ranks, from 1; equal scores share the better rank.
        first: float64 (S,), share of the boards on which a submission is first, or shares that.
        beats: float64 (S, S), probability that the row's score is above the column's; ties count half.
    """

    score: np.ndarray
    interval: np.ndarray
    rank_interval: np.ndarray
    first: np.ndarray
    beats: np.ndarray


def bootstrap(
    time_s: np.ndarray, rules: Rules, missing: Missing, studies: int, resamples: int = RESAMPLES, seed: int = 0
) -> Bootstrap:
    """Resamples the studies of each submission on each workload, independently of the others.

    Args:
        time_s: float64 (S, W, K), the time of each study; inf: not reached, NaN: absent. An absent study is drawn
            like any other: which studies are absent is part of the chance.
        rules: score the resampled boards.
        missing: what an absent study counts.
        studies: how many the rules ask for.
        resamples: number of boards, N.
        seed: of the draws.
    """
    score = _scores(time_s, rules, missing, studies, resamples, seed)
    ranks = 1 + (score[:, None, :] > score[:, :, None]).sum(axis=-1)
    tail = (1 - LEVEL) / 2
    above = score[:, :, None] - score[:, None, :]
    return Bootstrap(
        score=score,
        interval=np.quantile(score, [tail, 1 - tail], axis=0).T,
        rank_interval=np.quantile(ranks, [tail, 1 - tail], axis=0, method="closest_observation").T.astype(int),
        first=(ranks == 1).mean(axis=0),
        beats=((above > 0) + (above == 0) / 2).mean(axis=0),
    )


def _scores(time_s: np.ndarray, rules: Rules, missing: Missing, studies: int, resamples: int, seed: int) -> np.ndarray:
    num_studies = time_s.shape[-1]
    if num_studies == 0:
        return np.zeros((resamples, len(time_s)))
    draws = np.random.default_rng(seed).integers(0, num_studies, (resamples, *time_s.shape))
    drawn = np.take_along_axis(time_s[None], draws, axis=-1)
    return profiles.score(profiles.ratios(times.medians(drawn, missing, studies), rules), rules)
