"""The facts at full scale, against those of the public implementation (v0.6) and the budgets of v1.0."""

import json
import math
from pathlib import Path
from pkgutil import resolve_name

import pytest

from algoperf import registry
from algoperf.spec import Scale, Split
from algoperf.testing.frameworks import BOTH, require
from algoperf_wmt import debian
from algoperf_wmt.data import STORED_SPLITS
from algoperf_wmt.spec import WMT, WMT_DEBIAN, BeamSearch, Transformer

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


def test_prose_is_there_at_mini_scale_only():
    assert (WMT.scales, WMT_DEBIAN.scales) == ((Scale.FULL, Scale.MINI), (Scale.MINI,))
    assert registry.workload_spec("wmt_debian").at(Scale.MINI) is WMT_DEBIAN
    with pytest.raises(ValueError, match="wmt_debian has no full scale; choose mini"):
        WMT_DEBIAN.at(Scale.FULL)
    assert WMT_DEBIAN.base is None
    assert WMT_DEBIAN.model.vocab_size == WMT_DEBIAN.dataset.options.vocab_size == debian.RULES.vocab_size
    assert WMT_DEBIAN.model.max_length == WMT_DEBIAN.dataset.options.max_length
    assert {split.value: WMT_DEBIAN.num_examples(split) for split in STORED_SPLITS} == debian.RULES.split_sizes
    assert resolve_name(WMT_DEBIAN.dataset.prepare) is debian.prepare_debian


@pytest.mark.parametrize("search", [{"num_beams": 0}, {"sentences_at_once": 0}, {"length_penalty": -0.1}])
def test_searches_that_cannot_be_made_are_refused(search):
    with pytest.raises(ValueError, match="Beam search needs a beam, a sentence at a time and no negative penalty"):
        BeamSearch(**search)


def test_models_that_cannot_be_built_are_refused():
    for sizes in ({"width": 1000, "num_heads": 16}, {"width": 15, "num_heads": 3}, {"width": 2, "num_heads": 1}):
        with pytest.raises(ValueError, match=f"A width of {sizes['width']} is below 4, odd or no multiple"):
            Transformer(**sizes)
    for choice in ({"norm": "none"}, {"activation": "gelu"}):
        with pytest.raises(ValueError, match="norm is 'pre' or 'post', activation 'relu' or 'tanh', not"):
            Transformer(**choice)
