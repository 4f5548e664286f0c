"""The facts at full scale, against those of the public implementation (v0.6) and the budgets of v1.0."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from algoperf import registry
from algoperf.spec import Scale, Split
from algoperf.testing.frameworks import BOTH, require
from algoperf_criteo.spec import CRITEO1TB, CRITEO1TB_RESNET, NUM_CATEGORICAL, NUM_DENSE, Dlrm

FACTS = json.loads((Path(__file__).parent / "golden" / "facts.json").read_text())

every_workload = pytest.mark.parametrize("name", FACTS)


@every_workload
def test_facts_are_the_published_ones(name):
    spec, facts = registry.workload_spec(name), FACTS[name]
    assert (spec.target.metric, spec.target.goal) == ("loss", "min")
    assert [spec.target.validation, spec.target.test] == [facts["validation_target"], facts["test_target"]]
    for split in Split:
        assert spec.num_examples(split) == facts[f"num_{split.value}_examples"]
    assert (spec.eval_batch_size, spec.step_hint) == (facts["eval_batch_size"], facts["step_hint"])
    for rules in ("v0.6", "v1.0"):
        budget = spec.budget(rules)
        assert [budget.max_runtime_s, budget.eval_period_s] == facts[rules]
    assert (spec.dropout_rate, spec.loss_type.name) == (0.0, "SIGMOID_CROSS_ENTROPY")


@every_workload
@pytest.mark.parametrize("framework", BOTH)
def test_the_number_of_parameters_is_the_published_one(name, framework):
    require(framework)
    workload = registry.make_workload(registry.workload_spec(name), framework)
    assert sum(math.prod(one["shape"]) for one in workload.parameters()) == FACTS[name]["num_parameters"]


@pytest.mark.parametrize("scale", Scale)
def test_training_metrics_are_of_whole_batches(scale):
    spec = CRITEO1TB.at(scale)
    assert spec.num_eval_train_examples % spec.eval_batch_size == 0


def test_there_are_as_many_columns_as_published():
    assert (NUM_DENSE, NUM_CATEGORICAL) == (13, 26)


def test_embeddings_begin_as_published():
    assert CRITEO1TB.model.embedding_limit == CRITEO1TB_RESNET.model.embedding_limit == 2**-11
    assert registry.workload_spec("criteo1tb_embed_init").model.embedding_limit == 1


def test_models_that_cannot_be_built_are_refused():
    with pytest.raises(ValueError, match="A table of 65538 rows cannot be divided into 4 equal parts"):
        Dlrm(vocab_size=65_538)
    with pytest.raises(ValueError, match="interaction is 'dot' or 'residual', not 'sum'"):
        Dlrm(interaction="sum")
    with pytest.raises(ValueError, match="the bottom MLP ends with 64, embeddings have 128"):
        Dlrm(bottom_dims=(512, 64))
    residual = CRITEO1TB_RESNET.model
    for choice in ({"layer_norm": True}, {"bottom_dims": (64, 32)}, {"top_dims": (64, 32)}):
        with pytest.raises(ValueError, match="layers of one width and no layer norms"):
            replace(residual, **choice)
