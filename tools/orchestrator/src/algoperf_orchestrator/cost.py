"""What a plan costs: at most, by its budgets, and as earlier experiments let one expect."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from algoperf_orchestrator.ledger_file import NAME
from algoperf_orchestrator.planned import PlannedTrial

_HOUR_S = 3600.0


class Kind(NamedTuple):
    """What trials that take about as long as each other have in common."""

    workload: str
    framework: str
    scale: str
    max_runtime_s: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a plan.

    Attributes:
        num_trials: how many there are.
        devices: that each uses.
        at_most_hours: accelerator hours, if every trial uses up its budget; evaluations come on top.
        expected_hours: accelerator hours, evaluations included, by earlier trials; None if there are none.
        num_known: how many of the trials are of a kind that was run before.
    """

    num_trials: int
    devices: int
    at_most_hours: float
    expected_hours: float | None
    num_known: int

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


def cost(trials: Sequence[PlannedTrial], devices: int, walls: Mapping[Kind, float]) -> Cost:
    """The cost of planned trials; `walls` is what `earlier` returned, else a trial is taken at its budget."""
    known = [kind_of(trial) in walls for trial in trials]
    at_most_s = sum(trial.config.max_runtime_s for trial in trials)
    expected_s = sum(walls.get(kind_of(trial), trial.config.max_runtime_s) for trial in trials)
    return Cost(
        num_trials=len(trials),
        devices=devices,
        at_most_hours=at_most_s * devices / _HOUR_S,
        expected_hours=expected_s * devices / _HOUR_S if any(known) else None,
        num_known=sum(known),
    )


def kind_of(trial: PlannedTrial) -> Kind:
    """What the trial has in common with others."""
    config = trial.config
    return Kind(config.workload, config.framework.value, config.scale.value, config.max_runtime_s)


def beside(experiment: Path) -> list[Path]:
    """This experiment and those in the same folder, as far as they have a ledger."""
    parent = experiment.resolve().parent
    return sorted(path.parent for path in parent.glob(f"*/{NAME}")) if parent.is_dir() else []


def earlier(experiments: Iterable[Path]) -> dict[Kind, float]:
    """Median seconds from start to end of the finished trials of experiments, by kind.

    Of trials that ran on the wall clock to a result; ledgers that cannot be read are passed over.
    """
    found: dict[Kind, list[float]] = defaultdict(list)
    for experiment in experiments:
        for row in _finished(experiment / NAME):
            found[Kind(*row[:4])].append(row[4])
    return {kind: median(walls) for kind, walls in found.items()}


_FINISHED = """
SELECT workload, framework, config ->> '$.scale', config ->> '$.max_runtime_s', wall_s FROM trials
WHERE state = 'done' AND wall_s > 0 AND config ->> '$.clock' = 'wall' AND config ->> '$.max_steps' IS NULL
"""


def _finished(path: Path) -> list[tuple[Any, ...]]:
    try:
        with closing(sqlite3.connect(path)) as db:
            return db.execute(_FINISHED).fetchall()
    except sqlite3.Error:
        # It is somebody else's; this is an estimate.
        return []
