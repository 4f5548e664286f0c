"""What a suite is scored by: the rules that it was asked for, cut to what it runs. Kept beside its logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from algoperf import registry
from algoperf.seeds import stable_hash
from algoperf.spec import Scale
from algoperf.study import RULESETS
from algoperf_orchestrator.scoring_rules import workload_rules
from algoperf_orchestrator.suite import QUALIFICATION, Suite, Variants
from algoperf_scoring import rules as published_rules
from algoperf_scoring.rules import Rules, RulesetRules, WorkloadRules


def suite_rules(suite: Suite) -> Rules:
    """The rules of a suite: which workloads it runs, how often, for how long, and to what target.

    Raises:
        ValueError: the rules or a workload do not exist, or have no budget under these rules.
    """
    known = _known(suite)
    base = suite.workloads or (QUALIFICATION if suite.qualification else tuple(_base(suite, known)))
    workloads = {name: known[name] if name in known else _installed(suite, name) for name in base}
    variants = {name: _variants(name, known) for name in base}
    held_out = {}
    if suite.variants is Variants.HELD_OUT:
        held_out = {name: _draw(suite.seed, name, some) for name, some in variants.items() if some}
        workloads |= {name: known[name] for name in held_out.values()}
    elif suite.variants is Variants.ALL:
        workloads |= {name: known[name] for some in variants.values() for name in some}
    ruleset = RULESETS[suite.ruleset]
    return Rules(
        name=suite.rules if suite.scale is Scale.FULL else suite.scale.value,
        hardware=_published(suite.rules).hardware if suite.scale is Scale.FULL else "any",
        base=tuple(base),
        held_out=held_out,
        workloads=workloads,
        rulesets={
            suite.ruleset.value: RulesetRules(
                studies=suite.studies or ruleset.num_studies,
                trials=suite.trials or ruleset.num_trials,
                budget_factor=ruleset.budget_factor,
            )
        },
    )


def _known(suite: Suite) -> Mapping[str, WorkloadRules]:
    published = _published(suite.rules)
    if suite.scale is Scale.FULL:
        return published.workloads
    specs = [registry.workload_spec(name) for name in registry.workload_names()]
    return {spec.name: workload_rules(spec.at(suite.scale), suite.rules) for spec in specs if spec.mini is not None}


def _base(suite: Suite, known: Mapping[str, WorkloadRules]) -> Sequence[str]:
    if suite.scale is Scale.FULL:
        return _published(suite.rules).base
    if not known:
        raise ValueError("No workload with a mini scale is installed; install one, such as algoperf-workload-ogbg.")
    return [name for name in known if registry.workload_spec(name).base is None]


def _published(name: str) -> Rules:
    return published_rules.published(name)


def _installed(suite: Suite, name: str) -> WorkloadRules:
    return workload_rules(registry.workload_spec(name).at(suite.scale), suite.rules)


def _variants(base: str, known: Mapping[str, WorkloadRules]) -> list[str]:
    """Variants are called after their base; the rules know them although their package may be missing."""
    return sorted(name for name in known if name.startswith(f"{base}_"))


def _draw(seed: int, base: str, variants: Sequence[str]) -> str:
    return variants[stable_hash("held-out", seed, base) % len(variants)]
