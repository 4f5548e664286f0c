"""Two submissions side by side: how many times faster one is than the other, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algoperf_scoring import bootstrap, robustness
from algoperf_scoring.board import Board


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The first submission against the second, on B base workloads.

    Attributes:
        names: of the two.
        workloads: those that either has logs of, B of them.
        time_s: float64 (2, B), median times to target; inf: not reached, NaN: no data.
        speedup: float64 (B,), how many times faster the first is; see `robustness.speedups`.
        interval: float64 (B, 2), where 95 % of the resampled speed-ups lie.
        faster: float64 (B,), share of the resampled ones in which the first is faster; ties count half.
        mean: the geometric mean of the speed-ups.
        mean_interval: float64 (2,), likewise.
        num_studies: the least number of studies that any of the times is a median of.
    """

    names: tuple[str, str]
    workloads: tuple[str, ...]
    time_s: np.ndarray
    speedup: np.ndarray
    interval: np.ndarray
    faster: np.ndarray
    mean: float
    mean_interval: np.ndarray
    num_studies: int

    @property
    def num_faster(self) -> int:
        """On how many workloads the first is faster."""
        return int((self.speedup > 1).sum())

    @property
    def num_slower(self) -> int:
        """On how many workloads the first is slower."""
        return int((self.speedup < 1).sum())


def compare(board: Board, first: str, second: str, seed: int = 0) -> Comparison:
    """Compares two submissions of a board on the base workloads that either has logs of.

    Raises ValueError if there is no such workload.
    """
    logs = board.logs
    rows = [board.times.submissions.index(name) for name in (first, second)]
    num_base = len(logs.rules.base)
    time_s = board.time_s[rows]
    present = np.flatnonzero(~np.isnan(time_s[:, :num_base]).all(axis=0))
    if not len(present):
        raise ValueError(f"Neither {first} nor {second} has logs of a workload that rules {logs.rules.name} score.")
    studies = logs.rules.rulesets[logs.ruleset].studies
    blocks = bootstrap.resampled_medians(board.times.time_s[rows], board.missing, studies, seed=seed)
    drawn = np.concatenate(list(blocks))
    speedup = robustness.speedups(time_s, 1, logs.rules, logs.ruleset)[0, present]
    resampled = robustness.speedups(drawn, 1, logs.rules, logs.ruleset)[:, 0, present]
    counts = (~np.isnan(board.times.time_s[rows])).sum(axis=-1)[:, present]
    return Comparison(
        names=(first, second),
        workloads=tuple(logs.rules.base[column] for column in present),
        time_s=time_s[:, present],
        speedup=speedup,
        interval=bootstrap.interval(resampled),
        faster=((resampled > 1) + (resampled == 1) / 2).mean(axis=0),
        mean=float(robustness.geometric_mean(speedup)),
        mean_interval=bootstrap.interval(robustness.geometric_mean(resampled)),
        num_studies=int(counts[counts > 0].min()),
    )
