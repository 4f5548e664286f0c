"""What determines a trial, and what comes of it, as data."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from algoperf.spec import DEFAULT_RULES, Framework, Scale, TuningRuleset


class EndReason(enum.StrEnum):
    """Why a trial ended."""

    REACHED = "reached"  # Both targets were reached.
    BUDGET = "budget"  # The submission time was used up.
    STEPS = "steps"  # The step limit was hit.
    COMPLETE = "complete"  # The submission said that it is done.
    DIVERGED = "diverged"  # A loss and a parameter are no longer finite numbers.
    ERROR = "error"  # The submission failed.
    OOM = "oom"  # A device had no memory left.
    INFRASTRUCTURE = "infrastructure"  # Disk or data failed; running the trial again continues it.


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that determines a trial. Two runs of one configuration on one kind of device do the same.

    Attributes:
        workload: name of the workload.
        scale: which of its scales.
        framework: which implementation.
        submission: installed name of the submission, or the path of its file.
        ruleset: how hyperparameters may be chosen.
        rules: rules version, for the budget.
        seed: of parameters, data order and dropout.
        study: number of the study, from 0.
        trial: number of the trial in its study, from 1.
        hyperparameters: the point to train with; None in self-tuning.
        max_runtime_s: budget in seconds of submission time.
        max_steps: step limit, if there is one.
        clock: which clock measures.
    """

    workload: str
    scale: Scale
    framework: Framework
    submission: str
    ruleset: TuningRuleset = TuningRuleset.EXTERNAL
    rules: str = DEFAULT_RULES
    seed: int
    study: int = 0
    trial: int = 1
    hyperparameters: Mapping[str, Any] | None = None
    max_runtime_s: float
    max_steps: int | None = None
    clock: Literal["wall", "virtual"] = "wall"

    def as_json(self) -> dict[str, Any]:
        """Plain data, the inverse of `from_json`."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrialConfig:
        """From what `as_json` returned."""
        types: dict[str, Callable[[str], Any]] = {
            "scale": Scale,
            "framework": Framework,
            "ruleset": TuningRuleset,
        }
        values: dict[str, Any] = {name: types[name](v) if name in types else v for name, v in data.items()}
        return cls(**values)


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        end_reason: why.
        global_step: steps taken.
        seconds: per account.
        evaluations: one row each, as in the records.
        error: `type`, `message` and `traceback` if something failed.
    """

    end_reason: EndReason
    global_step: int
    seconds: Mapping[str, float]
    evaluations: list[dict[str, Any]]
    error: Mapping[str, str] | None = None
