"""What a version of the benchmark asks for: targets, budgets, studies, workload sets. Data, not code.

The files beside this one are frozen: results that are published under a version are scored by them for ever.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

PUBLISHED = ("v0.5", "v0.6", "v1.0")


@dataclass(frozen=True, kw_only=True)
class WorkloadRules:
    """When a workload is done, and how long it may take.

    Attributes:
        metric: name of the metric; the logs hold it as "validation/<metric>".
        goal: whether it is minimised or maximised.
        target: the value that has to be reached; equal is reached.
        budget_s: seconds of submission time, before a ruleset's factor.
    """

    metric: str
    goal: Literal["min", "max"]
    target: float
    budget_s: float

    def __post_init__(self) -> None:
        if self.goal not in ("min", "max"):
            raise ValueError(f"A goal is 'min' or 'max', not {self.goal!r}.")


@dataclass(frozen=True, kw_only=True)
class RulesetRules:
    """How often a workload is trained.

    Attributes:
        studies: independent repetitions; their median counts.
        trials: hyperparameter points per study; the fastest counts.
        budget_factor: multiplies the budgets.
    """

    studies: int
    trials: int
    budget_factor: float


@dataclass(frozen=True, kw_only=True)
class Rules:
    """One version of the rules.

    Attributes:
        name: of the version.
        hardware: what its budgets are meant for.
        base: the workloads that make up the score.
        held_out: per base workload the variant that has to be reached too, for those that have one.
        workloads: facts of every workload that the version knows, scored or not.
        rulesets: "external" and "self".
        max_ratio: a time beyond so many times the fastest counts as infinite, and profiles end there.
    """

    name: str
    hardware: str
    base: tuple[str, ...]
    held_out: Mapping[str, str] = field(default_factory=dict)
    workloads: Mapping[str, WorkloadRules]
    rulesets: Mapping[str, RulesetRules]
    max_ratio: float = 4.0

    def __post_init__(self) -> None:
        if not self.base:
            raise ValueError(f"Rules {self.name} have no workloads.")
        if unknown := [name for name in self.scored if name not in self.workloads]:
            raise ValueError(f"Rules {self.name} say nothing about {', '.join(unknown)}.")
        if stray := set(self.held_out) - set(self.base):
            raise ValueError(
                f"Rules {self.name} have held-out variants of {', '.join(sorted(stray))}, no base workload."
            )

    @property
    def scored(self) -> tuple[str, ...]:
        """The workloads that are looked at: the base ones, then the held-out variants, in their order."""
        return (*self.base, *(self.held_out[name] for name in self.base if name in self.held_out))

    def budget_s(self, workload: str, ruleset: str) -> float:
        """Submission time that a trial may use, in seconds."""
        return self.workloads[workload].budget_s * self.rulesets[ruleset].budget_factor


def published(name: str) -> Rules:
    """A frozen version of the rules. Raises ValueError for one that does not exist."""
    if name not in PUBLISHED:
        raise ValueError(f"There are no published rules {name!r}; choose from {', '.join(PUBLISHED)}.")
    return from_data(tomllib.loads(files(__name__).joinpath(f"{name}.toml").read_text()))


def from_data(data: Mapping[str, Any]) -> Rules:
    """Rules from what their file holds."""
    return Rules(
        name=data["name"],
        hardware=data["hardware"],
        base=tuple(data["base"]),
        held_out=data.get("held_out", {}),
        workloads={name: WorkloadRules(**facts) for name, facts in data["workloads"].items()},
        rulesets={name: RulesetRules(**facts) for name, facts in data["rulesets"].items()},
    )
