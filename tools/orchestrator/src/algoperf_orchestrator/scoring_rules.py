"""Which rules logs are scored by: those that are named, or those that the logs say they were run under."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from algoperf import registry
from algoperf.spec import DEFAULT_RULES, Scale, TuningRuleset, WorkloadSpec
from algoperf.study import RULESETS
from algoperf_orchestrator import kept_rules
from algoperf_scoring import find
from algoperf_scoring import rules as published_rules
from algoperf_scoring.json_files import read_object
from algoperf_scoring.rules import Rules, RulesetRules, WorkloadRules

MINI = "mini"


def rules_by_name(name: str) -> Rules:
    """Published rules, or those of the installed workloads at mini scale. Raises ValueError for others."""
    if name == MINI:
        return mini_rules()
    if name not in published_rules.PUBLISHED:
        choices = ", ".join((*published_rules.PUBLISHED, MINI))
        raise ValueError(f"There are no rules {name!r}; choose from {choices}.")
    return published_rules.published(name)


def mini_rules() -> Rules:
    """Rules of the installed workloads that have a mini scale: all base workloads count, variants do not."""
    specs = [registry.workload_spec(name) for name in registry.workload_names()]
    minis = [spec.at(Scale.MINI) for spec in specs if spec.mini is not None]
    if not minis:
        raise ValueError("No workload with a mini scale is installed; install one, such as algoperf-workload-ogbg.")
    return Rules(
        name=MINI,
        hardware="any",
        base=tuple(spec.name for spec in minis if spec.base is None),
        workloads={spec.name: workload_rules(spec, DEFAULT_RULES) for spec in minis},
        rulesets={
            name.value: RulesetRules(
                studies=ruleset.num_studies, trials=ruleset.num_trials, budget_factor=ruleset.budget_factor
            )
            for name, ruleset in RULESETS.items()
        },
    )


def workload_rules(spec: WorkloadSpec, rules: str) -> WorkloadRules:
    """What a workload is scored by under a version of the rules.

    Raises:
        ValueError: it has no target or no budget.
    """
    target, budget_s = spec.target, spec.budget(rules).max_runtime_s
    if target.validation is None:
        raise ValueError(
            f"{spec.name} has no target at {spec.scale} scale yet, so that it cannot be scored; train it with "
            "`algoperf-orchestrate run`, or leave it out."
        )
    return WorkloadRules(metric=target.metric, goal=target.goal, target=target.validation, budget_s=budget_s)


def choose(logs: Sequence[Path], rules: str | None, ruleset: TuningRuleset | None) -> tuple[Rules, str]:
    """The rules and the ruleset to score logs by.

    What is not given is what a suite has put beside its logs, else what the first trial of each submission says:
    our logs say both, others only the ruleset.

    Raises:
        ValueError: the logs do not say it, or contradict each other.
    """
    kept = kept_rules.beside(logs) if rules is None else None
    if kept is not None and ruleset is None and len(kept.rulesets) == 1:
        return kept, next(iter(kept.rulesets))
    told = list(_told(logs)) if rules is None or ruleset is None else []
    if rules is None and kept is None:
        options = f"--rules {'|'.join((*published_rules.PUBLISHED, MINI))}"
        rules = _agreed("rules", [MINI if one.get("scale") == MINI else one.get("rules") for one in told], options)
    if ruleset is None:
        names = [one.get("ruleset", one.get("tuning_ruleset")) for one in told]
        known = [name for name in names if name in set(TuningRuleset)]
        ruleset = TuningRuleset(_agreed("rulesets", known, "--ruleset external|self"))
    return kept or rules_by_name(str(rules)), ruleset.value


def _agreed(what: str, told: Sequence[object], options: str) -> str:
    values = sorted({value for value in told if isinstance(value, str) and value})
    if not values:
        raise ValueError(f"The logs do not say by which {what} they were run; choose with {options}.")
    if len(values) > 1:
        raise ValueError(f"The logs were run under different {what} ({', '.join(values)}); choose with {options}.")
    return values[0]


def _told(logs: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The configuration of the first trial of each submission that has one."""
    submissions, _ = find.submission_folders(logs)
    for folder in submissions.values():
        trials = (trial for study in sorted(folder.glob("study_*")) for trial in sorted(study.glob("*/trial_*")))
        yield next(filter(None, (read_object(trial / "flags_0.json") for trial in trials)), {})
