"""Every trial of a suite, before anything runs: a function of the suite alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from algoperf import registry
from algoperf.study import RULESETS, Ruleset, study_points, trial_seed
from algoperf.trial_config import TrialConfig
from algoperf_orchestrator.entries import Entry, entries
from algoperf_orchestrator.planned import PlannedTrial
from algoperf_orchestrator.suite import Suite
from algoperf_orchestrator.suite_rules import suite_rules
from algoperf_scoring.rules import Rules


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a suite comes to.

    Attributes:
        suite: what was asked for.
        entries: its submissions.
        rules: what it is scored by.
        trials: in the order in which they are run.
    """

    suite: Suite
    entries: Sequence[Entry]
    rules: Rules
    trials: Sequence[PlannedTrial]

    @property
    def missing(self) -> list[str]:
        """The workloads that are not installed."""
        return [name for name in self.rules.workloads if not registry.is_installed(name)]


def make_plan(suite: Suite) -> Plan:
    """Plans a suite.

    Trials of one study, workload and number follow each other, so that what is compared runs at about the same time.

    Raises:
        ValueError: something does not exist or does not fit; the sentence says what.
    """
    found = entries(suite)
    rules = suite_rules(suite)
    (of_ruleset,) = rules.rulesets.values()
    ruleset = replace(RULESETS[suite.ruleset], num_studies=of_ruleset.studies, num_trials=of_ruleset.trials)
    trials = tuple(_trials(suite, found, rules, ruleset))
    return Plan(suite=suite, entries=found, rules=rules, trials=trials)


def _trials(suite: Suite, found: Sequence[Entry], rules: Rules, ruleset: Ruleset) -> Iterator[PlannedTrial]:
    for study in range(ruleset.num_studies):
        for workload in rules.workloads:
            budget_s = rules.budget_s(workload, suite.ruleset.value)
            points = [study_points(ruleset, entry.space, suite.seed, workload, study) for entry in found]
            for number in range(1, ruleset.num_trials + 1):
                seed = trial_seed(suite.seed, workload, study, number)
                for entry, point in zip(found, points, strict=True):
                    config = _config(suite, entry, point[number - 1])
                    yield PlannedTrial(
                        label=entry.label,
                        config=TrialConfig(
                            workload=workload, seed=seed, study=study, trial=number, max_runtime_s=budget_s, **config
                        ),
                    )


def _config(suite: Suite, entry: Entry, point: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "scale": suite.scale,
        "framework": entry.framework,
        "submission": entry.submission,
        "ruleset": suite.ruleset,
        "rules": suite.rules,
        "hyperparameters": point,
        "max_steps": suite.max_steps,
        "clock": suite.clock,
    }
