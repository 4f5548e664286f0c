"""The facts at full scale, against those of the public implementation (v0.6) and the budgets of v1.0."""

import json
import math
from pathlib import Path

import pytest

from algoperf import registry
from algoperf.spec import Scale, Split
from algoperf.testing.frameworks import BOTH, require
from algoperf_wmt.spec import Transformer

FACTS = json.loads((Path(__file__).parent / "golden" / "facts.json").read_text())

every_workload = pytest.mark.parametrize("name", FACTS)


@every_workload
def test_facts_are_the_published_ones(name):
    spec, facts = registry.workload_spec(name), FACTS[name]
    assert (spec.target.metric, spec.target.goal) == ("bleu", "max")
    assert [spec.target.validation, spec.target.test] == [facts["validation_target"], facts["test_target"]]
    for split in Split:
        assert spec.num_examples(split) == facts[f"num_{split.value}_examples"]
    assert (spec.eval_batch_size, spec.step_hint) == (facts["eval_batch_size"], facts["step_hint"])
    for rules in ("v0.6", "v1.0"):
        budget = spec.budget(rules)
        assert [budget.max_runtime_s, budget.eval_period_s] == facts[rules]
    assert (spec.dropout_rate, spec.loss_type.name) == (0.1, "SOFTMAX_CROSS_ENTROPY")


@every_workload
@pytest.mark.parametrize("scale", Scale)
def test_model_and_sentences_are_of_one_size(name, scale):
    spec = registry.workload_spec(name).at(scale)
    assert spec.model.vocab_size == spec.dataset.options.vocab_size
    assert spec.model.max_length == spec.dataset.options.max_length


@every_workload
def test_translations_are_searched_for_as_published(name):
    search = registry.workload_spec(name).model.beam_search
    assert (search.num_beams, search.length_penalty) == (4, 0.6)


@every_workload
@pytest.mark.parametrize("framework", BOTH)
def test_the_number_of_parameters_is_the_published_one(name, framework):
    require(framework)
    workload = registry.make_workload(registry.workload_spec(name), framework)
    assert sum(math.prod(one["shape"]) for one in workload.parameters()) == FACTS[name]["num_parameters"]


def test_models_that_cannot_be_built_are_refused():
    for sizes in ({"width": 1000, "num_heads": 16}, {"width": 15, "num_heads": 3}):
        with pytest.raises(ValueError, match=f"A width of {sizes['width']} is odd or no multiple"):
            Transformer(**sizes)
    for choice in ({"norm": "none"}, {"activation": "gelu"}):
        with pytest.raises(ValueError, match="norm is 'pre' or 'post', activation 'relu' or 'tanh', not"):
            Transformer(**choice)
