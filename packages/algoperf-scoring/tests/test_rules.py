"""The frozen rules are what the public benchmark used and uses."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from algoperf_scoring.rules import PUBLISHED, Rules, RulesetRules, WorkloadRules, from_data, published

REFERENCE = Path(__file__).parents[4] / "shared"
EIGHT = (
    "criteo1tb",
    "fastmri",
    "imagenet_resnet",
    "imagenet_vit",
    "librispeech_conformer",
    "librispeech_deepspeech",
    "ogbg",
    "wmt",
)
VARIANTS = (
    "criteo1tb_embed_init",
    "fastmri_tanh",
    "imagenet_resnet_large_bn_init",
    "librispeech_conformer_layernorm",
    "ogbg_model_size",
    "wmt_glu_tanh",
)
METRICS = {
    "criteo1tb": ("loss", "min"),
    "fastmri": ("ssim", "max"),
    "finewebedu_lm": ("ppl", "min"),
    "imagenet": ("accuracy", "max"),
    "librispeech": ("wer", "min"),
    "ogbg": ("mean_average_precision", "max"),
    "wmt": ("bleu", "max"),
}


@pytest.fixture
def reference():
    if not REFERENCE.is_dir():
        pytest.skip("The reference numbers do not lie beside the repository.")
    return REFERENCE


def test_v05():
    rules = published("v0.5")
    assert rules.base == EIGHT
    assert rules.scored == (*EIGHT, *VARIANTS)
    assert all(variant.startswith(base) for base, variant in rules.held_out.items())
    assert rules.rulesets == {
        "external": RulesetRules(studies=5, trials=5, budget_factor=1.0),
        "self": RulesetRules(studies=5, trials=1, budget_factor=3.0),
    }
    assert "V100" in rules.hardware


def test_v06():
    rules = published("v0.6")
    assert rules.scored == rules.base == EIGHT
    assert rules.held_out == {}
    assert rules.rulesets == {
        "external": RulesetRules(studies=3, trials=5, budget_factor=1.0),
        "self": RulesetRules(studies=3, trials=1, budget_factor=1.5),
    }
    assert "V100" in rules.hardware


def test_v10():
    rules, before = published("v1.0"), published("v0.6")
    assert rules.base == rules.scored == (*EIGHT[:2], "finewebedu_lm", *EIGHT[2:])
    assert rules.rulesets == before.rulesets
    assert "A100" in rules.hardware
    assert rules.workloads["finewebedu_lm"] == WorkloadRules(metric="ppl", goal="min", target=22.2995, budget_s=31_967)
    assert {name: rules.workloads[name].budget_s for name in EIGHT} == {
        "criteo1tb": 8_915,
        "fastmri": 2_745,
        "imagenet_resnet": 49_918,
        "imagenet_vit": 64_292,
        "librispeech_conformer": 43_680,
        "librispeech_deepspeech": 36_949,
        "ogbg": 11_303,
        "wmt": 16_114,
    }


def test_targets_did_not_change_between_versions():
    first, second, third = (published(name).workloads for name in PUBLISHED)
    assert set(first) == set(second) == set(third) - {"finewebedu_lm"}
    for name, facts in first.items():
        assert replace(facts, budget_s=1.0) == replace(second[name], budget_s=1.0) == replace(third[name], budget_s=1.0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_version_is_whole(name):
    rules = published(name)
    assert rules.name == name
    assert rules.max_ratio == 4.0
    assert set(rules.rulesets) == {"external", "self"}
    for workload, facts in rules.workloads.items():
        base = max((one for one in rules.base if workload.startswith(one)), key=len)
        assert facts.budget_s == rules.workloads[base].budget_s
        ((metric, goal),) = {known for prefix, known in METRICS.items() if workload.startswith(prefix)}
        assert (facts.metric, facts.goal) == (metric, goal)


def test_a_budget_has_the_factor_of_the_ruleset(rules):
    assert published("v0.5").budget_s("ogbg", "external") == 18_477
    assert published("v0.5").budget_s("ogbg", "self") == 3 * 18_477
    assert published("v0.6").budget_s("ogbg", "self") == 18_016.5
    assert rules.budget_s("speech", "self") == 300.0


def test_scored_workloads_are_in_the_order_of_the_base(rules):
    both = replace(rules, held_out={"speech": "speech_tanh", "vision": "vision_gelu"})
    assert both.scored == ("vision", "speech", "language", "vision_gelu", "speech_tanh")


def test_unknown_versions_are_named():
    for name in ("v0.7", "0.6", "", "../v0.6"):
        with pytest.raises(ValueError, match=r"v0\.5, v0\.6, v1\.0") as error:
            published(name)
        assert repr(name) in str(error.value)


DATA = {
    "name": "own",
    "hardware": "one laptop",
    "base": ["vision"],
    "workloads": {
        "vision": {"metric": "accuracy", "goal": "max", "target": 0.5, "budget_s": 10},
        "vision_tanh": {"metric": "accuracy", "goal": "max", "target": 0.4, "budget_s": 10},
    },
    "rulesets": {"external": {"studies": 1, "trials": 1, "budget_factor": 1.0}},
}


def test_rules_from_data():
    rules = from_data({**DATA, "held_out": {"vision": "vision_tanh"}})
    assert isinstance(rules, Rules)
    assert rules.scored == ("vision", "vision_tanh")
    assert from_data(DATA).scored == ("vision",)
    assert rules.workloads["vision"].target == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": []}, "no workloads"),
        ({"base": ["vision", "chess"]}, "chess"),
        ({"held_out": {"vision": "vision_gelu"}}, "vision_gelu"),
        ({"held_out": {"vision_tanh": "vision_tanh"}}, "vision_tanh, no base workload"),
        ({"workloads": {"vision": {**DATA["workloads"]["vision"], "goal": "least"}}}, "'least'"),
    ],
    ids=["no base", "unknown base", "unknown variant", "variant of no base", "goal"],
)
def test_bad_data_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        from_data({**DATA, **change})


@pytest.mark.shared
@pytest.mark.parametrize("name", ["v0.6", "v1.0"])
def test_targets_are_those_of_the_public_scoring(reference, name):
    public = json.loads((reference / "golden" / "scoring" / "workload_targets_v06_8base.json").read_text())
    rules = published(name)
    assert {
        workload: (public["workloads"][workload]["target_metric_name"], facts["validation_target_value"])
        for workload, facts in public["workloads"].items()
        if workload in rules.workloads
    } == {workload: (facts.metric, facts.target) for workload, facts in rules.workloads.items()}
    if name == "v0.6":
        assert rules.base == tuple(public["base_workloads"])
        assert list(rules.held_out.values()) == public["held_out_workloads"]


@pytest.mark.shared
@pytest.mark.parametrize(("name", "archive"), [("v0.5", "raw_v05_self_tuning"), ("v0.6", "raw_v06_external")])
def test_targets_and_budgets_are_those_that_published_logs_record(reference, name, archive):
    rules = published(name)
    recorded = {}
    with tarfile.open(reference / "leaderboards" / f"{archive}.tar.gz") as tar:
        for member in tar:
            if member.name.endswith("/meta_data_0.json"):
                workload = member.name.split("/")[-3].rpartition("_")[0]
                facts = json.load(tar.extractfile(member))
                keys = ("target_metric_name", "validation_target_value", "max_allowed_runtime_sec")
                recorded.setdefault(workload, set()).add(tuple(facts[f"workload.{key}"] for key in keys))
    expected = {workload: rules.workloads[workload] for workload in rules.scored}
    assert recorded == {
        workload: {(facts.metric, facts.target, facts.budget_s)} for workload, facts in expected.items()
    }


@pytest.mark.parametrize("name", ["v0.6", "v1.0"])
def test_installed_workloads_have_the_same_facts(name):
    from algoperf import registry

    rules = published(name)
    installed = {one: registry.workload_spec(one) for one in registry.workload_names() if one in rules.workloads}
    assert {one for one in rules.workloads if one.startswith("ogbg")} <= set(installed)
    assert rules.workloads | {
        one: WorkloadRules(
            metric=spec.target.metric,
            goal=spec.target.goal,
            target=spec.target.validation,
            budget_s=spec.budget(name).max_runtime_s,
        )
        for one, spec in installed.items()
    } == dict(rules.workloads)
