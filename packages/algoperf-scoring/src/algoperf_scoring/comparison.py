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
        left_out: base workloads of the rules that neither has logs of.
        time_s: float64 (2, B), median times to target; inf: not reached, NaN: no data.
        speedup: float64 (B,), how many times faster the first is; see `robustness.speedups`.
        interval: float64 (B, 2), where 95 % of the resampled speed-ups lie.
        faster: float64 (B,), share of the resampled ones in which the first is faster; ties count half.
        num_studies: int (B,), the smaller number of studies of the two that have any; one says nothing of chance.
        mean: the geometric mean of the speed-ups.
        mean_interval: float64 (2,), likewise.
        mean_faster: share of the resampled means above 1.
    """

    names: tuple[str, str]
    workloads: tuple[str, ...]
    left_out: tuple[str, ...]
    time_s: np.ndarray
    speedup: np.ndarray
    interval: np.ndarray
    faster: np.ndarray
    num_studies: np.ndarray
    mean: float
    mean_interval: np.ndarray
    mean_faster: float

    @property
    def num_faster(self) -> int:
        """On how many workloads the first is faster."""
        return int((self.time_s[0] < np.nan_to_num(self.time_s[1], nan=np.inf)).sum())

    @property
    def num_slower(self) -> int:
        """On how many workloads the first is slower."""
        return int((self.time_s[1] < np.nan_to_num(self.time_s[0], nan=np.inf)).sum())


def compare(board: Board, first: str, second: str, seed: int = 0) -> Comparison:
    """Compares two submissions of a board on the base workloads that either has logs of.

    Raises ValueError if there is no such workload.
    """
    logs, base = board.logs, board.logs.rules.base
    rows = [board.times.submissions.index(name) for name in (first, second)]
    time_s, studies_s = board.time_s[rows], board.times.time_s[rows]
    speedup = robustness.speedups(time_s, 1, logs.rules, logs.ruleset)[0]
    present = np.flatnonzero(~np.isnan(speedup))
    if not len(present):
        raise ValueError(f"Neither {first} nor {second} has logs of a workload that rules {logs.rules.name} score.")
    asked = logs.rules.rulesets[logs.ruleset].studies
    blocks = bootstrap.resampled_medians(studies_s, board.missing, asked, seed=seed)
    resampled = robustness.speedups(np.concatenate(list(blocks)), 1, logs.rules, logs.ruleset)[:, 0, present]
    means = robustness.geometric_mean(resampled)
    counts = (~np.isnan(studies_s)).sum(axis=-1)[:, present]
    return Comparison(
        names=(first, second),
        workloads=tuple(base[column] for column in present),
        left_out=tuple(name for column, name in enumerate(base) if column not in present),
        time_s=time_s[:, present],
        speedup=speedup[present],
        interval=bootstrap.interval(resampled),
        faster=_share_above_one(resampled),
        num_studies=np.where(counts > 0, counts, asked).min(axis=0),
        mean=float(robustness.geometric_mean(speedup)),
        mean_interval=bootstrap.interval(means),
        mean_faster=float(_share_above_one(means)),
    )


def _share_above_one(resampled: np.ndarray) -> np.ndarray:
    return np.asarray(((resampled > 1) + (resampled == 1) / 2).mean(axis=0))
