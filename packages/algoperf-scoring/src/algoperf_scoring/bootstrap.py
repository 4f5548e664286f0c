"""How sure a leaderboard is: studies drawn again with replacement (Efron, 1979), and the board scored each time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from algoperf_scoring import profiles, times
from algoperf_scoring.rules import Rules
from algoperf_scoring.times import Missing

RESAMPLES = 4_000
LEVEL = 0.95
# Numbers drawn at a time: as many as stay in the cache of a core.
_BLOCK_ELEMENTS = 2**16


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """Resampled boards.

    Attributes:
        score: float64 (N, S), scores on each resampled board.
        interval: float64 (S, 2), where 95 % of them lie.
        rank_interval: int (S, 2), likewise for ranks, from 1; equal scores share the better rank.
        first: float64 (S,), share of the boards on which a submission is first; those that share a place share it.
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
        time_s: float64 (S, W, K), the time of each study; inf: not reached, NaN: absent.
        rules: score the resampled boards.
        missing: what an absent study counts.
        studies: how many the rules ask for.
        resamples: number of boards, N.
        seed: of the draws.
    """
    blocks = resampled_medians(time_s, missing, studies, resamples, seed)
    score = np.concatenate([profiles.score(profiles.ratios(medians, rules), rules) for medians in blocks])
    ranks, beats = _ranks_and_beats(score)
    return Bootstrap(
        score=score,
        interval=interval(score),
        rank_interval=interval(ranks, method="closest_observation").astype(int),
        first=_first(ranks),
        beats=beats,
    )


def resampled_medians(
    time_s: np.ndarray, missing: Missing, studies: int, resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[np.ndarray]:
    """Medians over studies that were drawn again, in blocks of float64 (…, S, W); arguments as for `bootstrap`.

    The blocks fit into a core's cache, and the draws are the same whatever their size. For each submission on each
    workload as many studies are drawn as count there.
    """
    packed, counts = _packed(time_s, missing, studies)
    most = packed.shape[-1]
    random = np.random.default_rng(seed)
    lacking = {
        (row, column): np.random.default_rng([seed, row, column])
        for row, column in np.argwhere((counts > 0) & (counts < most)).tolist()
    }
    block = max(1, _BLOCK_ELEMENTS // max(packed.size, 1))
    for start in range(0, resamples, block):
        shape = (min(block, resamples - start), *packed.shape)
        if not most:
            yield np.full(shape[:-1], np.nan)
            continue
        draws = random.integers(0, most, shape)
        for (row, column), own in lacking.items():
            draws[:, row, column] = own.integers(0, counts[row, column], (shape[0], most))
        drawn = np.take_along_axis(packed[None], draws, axis=-1)
        yield times.medians(np.where(np.arange(most) < counts[..., None], drawn, np.nan) if lacking else drawn)


def _packed(time_s: np.ndarray, missing: Missing, studies: int) -> tuple[np.ndarray, np.ndarray]:
    """The studies that count, in front, and how many they are: float64 (S, W, K) and int (S, W)."""
    is_there = ~np.isnan(time_s)
    packed = np.take_along_axis(time_s, np.argsort(~is_there, axis=-1, kind="stable"), axis=-1)
    counts = is_there.sum(axis=-1)
    if missing is Missing.NEVER_REACHED:
        pad = np.full((*time_s.shape[:-1], max(studies - time_s.shape[-1], 0)), np.nan)
        packed = np.concatenate([packed, pad], axis=-1)
        counts = np.where(counts > 0, np.maximum(counts, studies), 0)
        is_absent = np.isnan(packed) & (np.arange(packed.shape[-1]) < counts[..., None])
        packed = np.where(is_absent, np.inf, packed)
    return packed[..., : counts.max(initial=0)], counts


def _ranks_and_beats(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks on each board, int (N, S), and the probabilities of `Bootstrap.beats`."""
    ranks = np.ones(score.shape, dtype=int)
    beats = np.empty((score.shape[1], score.shape[1]))
    for column in range(score.shape[1]):
        above = score > score[:, [column]]
        ranks[:, column] += above.sum(axis=1)
        beats[:, column] = (above + (score == score[:, [column]]) / 2).mean(axis=0)
    return ranks, beats


def _first(ranks: np.ndarray) -> np.ndarray:
    is_first = ranks == 1
    return (is_first / is_first.sum(axis=1, keepdims=True)).mean(axis=0)


def interval(drawn: np.ndarray, method: Literal["linear", "closest_observation"] = "linear") -> np.ndarray:
    """Between which values 95 % of what was drawn lies: (N, …) to (…, 2)."""
    tail = (1 - LEVEL) / 2
    return np.moveaxis(np.quantile(drawn, [tail, 1 - tail], axis=0, method=method), 0, -1)
