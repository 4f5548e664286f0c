"""The facts at full scale, against those of the public implementation (v0.6) and the budgets of v1.0."""

import json
import math

import pytest
from fastmri_goldens import GOLDEN, SPECS
from fastmri_models import make

from algoperf.spec import Framework, Scale, Split
from algoperf.testing.frameworks import BOTH
from algoperf_fastmri.spec import FASTMRI, Scans, UNet

FACTS = json.loads((GOLDEN / "facts.json").read_text())

every_workload = pytest.mark.parametrize("name", FACTS)


@every_workload
def test_facts_are_the_published_ones(name: str) -> None:
    spec, facts = SPECS[name], FACTS[name]
    assert (spec.target.metric, spec.target.goal) == ("ssim", "max")
    assert [spec.target.validation, spec.target.test] == [facts["validation_target"], facts["test_target"]]
    for split in Split:
        assert spec.num_examples(split) == facts[f"num_{split.value}_examples"]
    assert (spec.eval_batch_size, spec.step_hint) == (facts["eval_batch_size"], facts["step_hint"])
    for rules in ("v0.6", "v1.0"):
        budget = spec.budget(rules)
        assert [budget.max_runtime_s, budget.eval_period_s] == facts[rules]
    assert (spec.dropout_rate, spec.loss_type.name) == (0.0, "MEAN_ABSOLUTE_ERROR")


@every_workload
@pytest.mark.parametrize("framework", BOTH)
def test_the_number_of_parameters_is_the_published_one(name: str, framework: Framework) -> None:
    parameters = make(framework, SPECS[name]).workload.parameters()
    assert sum(math.prod(one["shape"]) for one in parameters) == FACTS[name]["num_parameters"]


@pytest.mark.parametrize("scale", Scale)
def test_training_metrics_are_of_whole_batches(scale: Scale) -> None:
    spec = FASTMRI.at(scale)
    assert spec.num_eval_train_examples % spec.eval_batch_size == 0


def test_measurements_are_those_of_the_public_implementation() -> None:
    assert FASTMRI.dataset.options == Scans(image_size=320, acceleration=4, center_fraction=0.08)


def test_variants_differ_from_the_base_in_their_model_alone() -> None:
    models = {name: spec.model for name, spec in SPECS.items()}
    assert models == {
        "fastmri": UNet(num_channels=32, num_pools=4, activation="leaky_relu", norm="instance"),
        "fastmri_model_size": UNet(num_channels=64, num_pools=3),
        "fastmri_tanh": UNet(activation="tanh"),
        "fastmri_layernorm": UNet(norm="layer"),
    }
    assert all(spec.dataset == FASTMRI.dataset for spec in SPECS.values())


def test_models_that_cannot_be_built_are_refused() -> None:
    for choice in ({"activation": "relu"}, {"norm": "batch"}):
        with pytest.raises(ValueError, match="activation is 'leaky_relu' or 'tanh', norm 'instance' or 'layer'"):
            UNet(**choice)
