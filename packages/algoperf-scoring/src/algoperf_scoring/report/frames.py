"""What a picture of training curves shows: the part of time and of the metric in which targets are decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from algoperf_scoring.logs import Logs, Trial

_UNITS = ((7200.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
# Of the target's size: a picture is at least so high, and at most.
_LEAST, _MOST = 0.02, 20.0


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Time from 0 to `end_s`, metrics from `low` to `high`."""

    end_s: float
    low: float
    high: float

    @property
    def unit(self) -> tuple[float, str]:
        """The unit of time in seconds, and its name."""
        return next((size, name) for least, size, name in _UNITS if self.end_s >= least)

    def shows(self, metric: np.ndarray) -> bool:
        """Whether any of these is in view."""
        return bool((np.isfinite(metric) & (metric >= self.low) & (metric <= self.high)).any())


def frame(logs: Logs, workload: str, trials: Sequence[Trial]) -> Frame:
    """The frame of these trials of a workload."""
    facts, rows = logs.rules.workloads[workload], logs.evaluations
    time_s = np.concatenate([[0.0], *(rows.time_s[trial.rows] for trial in trials)])
    metric = np.concatenate([[facts.target], *(rows.metric[trial.rows] for trial in trials)])
    is_finite = np.isfinite(metric)
    sign = 1.0 if facts.goal == "max" else -1.0
    missing = sign * (facts.target - metric[is_finite])
    is_late = time_s[is_finite] >= 0.25 * time_s.max()
    scale = abs(facts.target) or 1.0
    beyond = np.clip(-np.quantile(missing, 0.002), _LEAST / 4 * scale, _MOST * scale)
    # Most of what is left after the steep beginning.
    most = float(np.quantile(missing[is_late], 0.75)) if is_late.any() else 0.0
    short = np.clip(max(1.6 * most, 2 * beyond), _LEAST * scale, 2 * _MOST * scale)
    ends = facts.target - sign * short, facts.target + sign * (beyond + 0.16 * short)
    end_s = _end(float(time_s.max()), logs.rules.budget_s(workload, logs.ruleset))
    return Frame(end_s=end_s, low=float(min(ends)), high=float(max(ends)))


def _end(last_s: float, budget_s: float) -> float:
    """A little after the budget; a budget that nobody came near would only take the room."""
    if 0 < last_s < 0.7 * budget_s:
        return 1.06 * last_s
    return max(1.03 * budget_s, min(1.01 * last_s, 1.5 * budget_s))
