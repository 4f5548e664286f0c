"""Rulesets, and the trials that they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from algoperf import search
from algoperf.seeds import stable_hash
from algoperf.spec import DEFAULT_RULES, Framework, Scale, TuningRuleset, WorkloadSpec
from algoperf.trial_config import TrialConfig


@dataclass(frozen=True, kw_only=True)
class Ruleset:
    """How often an algorithm is run, and with which budget (arXiv 2306.07179, section 4.4).

    Attributes:
        name: which of the two.
        num_studies: independent repetitions.
        num_trials: hyperparameter points per study, of which the fastest counts.
        budget_factor: multiplies the workload's budget.
    """

    name: TuningRuleset
    num_studies: int
    num_trials: int
    budget_factor: float


EXTERNAL_TUNING = Ruleset(name=TuningRuleset.EXTERNAL, num_studies=3, num_trials=5, budget_factor=1.0)
SELF_TUNING = Ruleset(name=TuningRuleset.SELF, num_studies=3, num_trials=1, budget_factor=1.5)
RULESETS: Mapping[TuningRuleset, Ruleset] = {ruleset.name: ruleset for ruleset in (EXTERNAL_TUNING, SELF_TUNING)}


def trial_seed(suite_seed: int, workload: str, study: int, trial: int) -> int:
    """The seed of one trial, in [0, 2**32): the same for every submission, so that comparisons are paired."""
    return stable_hash("trial", suite_seed, workload, study, trial) % 2**32


def study_points(
    ruleset: Ruleset, space: search.SearchSpace | None, suite_seed: int, workload: str, study: int
) -> Sequence[Mapping[str, Any] | None]:
    """The hyperparameters of each trial of a study: drawn from the space, or None in self-tuning.

    Raises:
        ValueError: external tuning without a space, or self-tuning with one.
    """
    if ruleset.name is TuningRuleset.SELF:
        if space is not None:
            raise ValueError("A self-tuning submission is given no search space; leave it out.")
        return [None] * ruleset.num_trials
    if space is None:
        raise ValueError("External tuning needs a search space; pass one with --tuning-search-space.")
    return search.points(space, ruleset.num_trials, stable_hash("search", suite_seed, workload, study))


def trial_config(
    spec: WorkloadSpec,
    *,
    framework: Framework,
    submission: str,
    ruleset: Ruleset,
    hyperparameters: Mapping[str, Any] | None,
    suite_seed: int = 0,
    study: int = 0,
    trial: int = 1,
    rules: str = DEFAULT_RULES,
    clock: Literal["wall", "virtual"] = "wall",
    max_steps: int | None = None,
) -> TrialConfig:
    """The configuration of one trial under a ruleset. `spec` is at the scale to run."""
    return TrialConfig(
        workload=spec.name,
        scale=Scale(spec.scale),
        framework=framework,
        submission=submission,
        ruleset=ruleset.name,
        rules=rules,
        seed=trial_seed(suite_seed, spec.name, study, trial),
        study=study,
        trial=trial,
        hyperparameters=hyperparameters,
        max_runtime_s=spec.budget(rules).max_runtime_s * ruleset.budget_factor,
        max_steps=max_steps,
        clock=clock,
    )
