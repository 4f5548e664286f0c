"""Plans: how many trials, with which seeds and points, and that nothing but the suite decides them."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf import registry
from algoperf.spec import Framework, Scale, TuningRuleset
from algoperf.study import trial_seed
from algoperf_orchestrator import kept_rules
from algoperf_orchestrator.plan import make_plan
from algoperf_orchestrator.suite import QUALIFICATION, Suite, Variants
from algoperf_scoring import rules as published_rules

FULL = Suite(submissions=("nadamw", "adamw"), frameworks=(Framework.JAX,), rules="v0.6")
ONE = replace(FULL, submissions=("nadamw",))
VARIANTS = {"criteo1tb": 3, "fastmri": 3, "imagenet_resnet": 3, "imagenet_vit": 3}


@pytest.fixture
def self_tuned(sgd: Path) -> str:
    return str(sgd.parent)


def test_the_trials_of_version_0_6() -> None:
    plan = make_plan(ONE)
    assert len(plan.trials) == 120
    per_workload = Counter(trial.config.workload for trial in plan.trials)
    assert per_workload == dict.fromkeys(published_rules.published("v0.6").base, 15)
    assert {(trial.config.study, trial.config.trial) for trial in plan.trials} == {
        (study, trial) for study in range(3) for trial in range(1, 6)
    }
    # Version 1.0, the default, has a workload more.
    assert Suite(submissions=ONE.submissions, frameworks=ONE.frameworks).rules == "v1.0"
    assert len(make_plan(replace(ONE, rules="v1.0")).trials) == 135


def test_the_trials_of_self_tuning(self_tuned: str) -> None:
    suite = replace(ONE, submissions=(self_tuned,), ruleset=TuningRuleset.SELF)
    plan = make_plan(suite)
    assert len(plan.trials) == 24
    assert all(trial.config.hyperparameters is None for trial in plan.trials)
    rules = published_rules.published("v0.6")
    for trial in plan.trials:
        assert trial.config.max_runtime_s == 1.5 * rules.workloads[trial.config.workload].budget_s
    assert plan.trials[0].label == "my_submission"
    newest = make_plan(replace(suite, rules="v1.0"))
    assert Counter(trial.config.workload for trial in newest.trials) == dict.fromkeys(newest.rules.base, 3)
    assert len(newest.trials) == 27


def test_seeds_and_points_are_paired() -> None:
    by_place: dict[tuple[Any, ...], list[Any]] = {}
    for trial in make_plan(FULL).trials:
        config = trial.config
        by_place.setdefault((config.workload, config.study, config.trial), []).append(config)
    for (workload, study, number), (first, second) in by_place.items():
        assert first.seed == second.seed == trial_seed(0, workload, study, number)
        assert first.submission != second.submission
        # NAdamW and AdamW have the same space: what is drawn depends on the space, not on whose it is.
        assert first.hyperparameters == second.hyperparameters
    assert len({configs[0].seed for configs in by_place.values()}) == len(by_place)


def test_qualification() -> None:
    plan = make_plan(replace(ONE, qualification=True))
    assert list(plan.rules.workloads) == list(QUALIFICATION) == ["criteo1tb", "ogbg", "wmt"]
    assert len(plan.trials) == 45


@pytest.mark.parametrize("seed", range(5))
def test_one_held_out_variant_per_workload(seed: int) -> None:
    plan = make_plan(replace(ONE, variants=Variants.HELD_OUT, seed=seed))
    known = published_rules.published("v0.6").workloads
    assert set(plan.rules.held_out) == set(plan.rules.base)
    for base, variant in plan.rules.held_out.items():
        assert variant in known
        assert variant.startswith(f"{base}_")
    assert len(plan.trials) == 240
    assert plan.rules.scored == (*plan.rules.base, *plan.rules.held_out.values())


def test_other_seeds_draw_other_variants() -> None:
    drawn = {
        tuple(make_plan(replace(ONE, variants=Variants.HELD_OUT, seed=seed)).rules.held_out.values())
        for seed in range(10)
    }
    assert len(drawn) == 10


def test_all_variants() -> None:
    plan = make_plan(replace(ONE, variants=Variants.ALL))
    assert set(plan.rules.workloads) == set(published_rules.published("v0.6").workloads)
    assert plan.rules.held_out == {}


def test_a_workload_without_variants_has_none_held_out() -> None:
    plan = make_plan(replace(ONE, rules="v1.0", variants=Variants.HELD_OUT))
    assert "finewebedu_lm" not in plan.rules.held_out
    assert len(plan.rules.held_out) == 8


@given(seed=st.integers(0, 2**40), studies=st.integers(1, 4), trials=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_a_smaller_plan_is_part_of_a_larger_one(seed: int, studies: int, trials: int) -> None:
    small = make_plan(replace(ONE, seed=seed, studies=studies, trials=trials, workloads=("ogbg",)))
    large = make_plan(replace(FULL, seed=seed, studies=studies + 1, trials=trials, workloads=("wmt", "ogbg")))
    assert {(t.key, t.config.seed) for t in small.trials} <= {(t.key, t.config.seed) for t in large.trials}
    configs = {t.key: t.config for t in large.trials}
    assert all(configs[t.key] == t.config for t in small.trials)
    assert len({t.key for t in large.trials}) == len(large.trials) == 2 * 2 * (studies + 1) * trials


def test_two_frameworks_are_two_labels() -> None:
    plan = make_plan(replace(ONE, frameworks=tuple(Framework), studies=1, trials=1, workloads=("ogbg",)))
    assert [trial.label for trial in plan.trials] == ["nadamw_jax", "nadamw_pytorch"]


def test_mini_takes_the_budgets_and_targets_of_mini() -> None:
    plan = make_plan(replace(ONE, scale=Scale.MINI, workloads=("toy",), trials=1, studies=1))
    (trial,) = plan.trials
    assert trial.config.max_runtime_s == 20.0
    assert plan.rules.workloads["toy"].target == 0.83
    space = "learning_rate"
    assert trial.config.hyperparameters is not None
    # The point that the submission brings for mini scale, because there is but one trial.
    assert trial.config.hyperparameters[space] == 0.003
    several = make_plan(replace(ONE, scale=Scale.MINI, workloads=("toy",), trials=2, studies=1))
    assert several.trials[0].config.hyperparameters[space] != 0.003


def test_rules_beside_logs_are_read_as_they_were_written(tmp_path: Path) -> None:
    rules = make_plan(replace(FULL, variants=Variants.HELD_OUT)).rules
    kept_rules.write(rules, tmp_path)
    assert kept_rules.read(tmp_path) == rules
    assert kept_rules.beside([tmp_path / "nadamw", tmp_path]) == rules
    assert kept_rules.beside([tmp_path, tmp_path.parent]) is None


def test_an_experiment_grows() -> None:
    first = make_plan(replace(ONE, workloads=("ogbg",), studies=1)).rules
    second = make_plan(replace(ONE, workloads=("wmt",), studies=2, trials=1)).rules
    both = kept_rules.extend(first, second)
    assert both.base == ("ogbg", "wmt")
    assert (both.rulesets["external"].studies, both.rulesets["external"].trials) == (2, 5)
    with pytest.raises(ValueError, match=r"choose another --experiment for v1\.0"):
        kept_rules.extend(first, make_plan(replace(ONE, rules="v1.0", workloads=("wmt",))).rules)


def test_a_dry_run_prints_the_plan(cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "is_installed", lambda name: name not in ("criteo1tb", "fastmri"))
    command = ("full-suite", "--submission", "nadamw", "--framework", "jax", "--rules", "v0.6", "--dry-run")
    result = cli(*command, "--experiment", tmp_path / "none", "--json")
    assert result.code == 0, result.err
    data = json.loads(result.out)
    assert len(data["trials"]) == 120
    assert {"submission", "workload", "framework", "study", "trial", "seed", "hyperparameters", "budget_s"} == set(
        data["trials"][0]
    )
    # 8 GPUs, 5 trials, 3 studies, and the budgets of v0.6.
    assert data["cost"]["at_most_hours"] == pytest.approx(8 * 15 * 305827 / 3600)
    assert data["cost"]["expected_hours"] is None
    assert data["not_installed"] == ["criteo1tb", "fastmri"]
    assert not (tmp_path / "none").exists()
    text = cli(*command, "--experiment", tmp_path / "none").out
    assert "120 trials of nadamw: rules v0.6, external ruleset, 3 studies of 5 trials, seed 0." in text
    assert "At most 10,194.2 accelerator hours" in text
    half = cli(*command, "--experiment", tmp_path / "none", "--executor", "slurm", "--slurm", "gpus_per_node=4").out
    assert "At most 5,097.1 accelerator hours of training (4 per trial" in half
