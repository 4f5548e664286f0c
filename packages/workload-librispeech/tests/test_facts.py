"""The facts at full scale, against those of the public implementation (v0.6) and the budgets of v1.0."""

import json
import math
from pathlib import Path

import pytest

from algoperf import registry
from algoperf.spec import Scale, Split
from algoperf.testing.frameworks import BOTH, require
from algoperf_librispeech import mini
from algoperf_librispeech.data import STORED_SPLITS
from algoperf_librispeech.spec import CONFORMER, DEEPSPEECH_NORM_AND_SPEC_AUG, Conformer, DeepSpeech, SpecAugment

FACTS = json.loads((Path(__file__).parent / "golden" / "facts.json").read_text())

every_workload = pytest.mark.parametrize("name", FACTS)


@every_workload
def test_facts_are_the_published_ones(name):
    spec, facts = registry.workload_spec(name), FACTS[name]
    assert (spec.target.metric, spec.target.goal) == ("wer", "min")
    assert [spec.target.validation, spec.target.test] == [facts["validation_target"], facts["test_target"]]
    for split in Split:
        assert spec.num_examples(split) == facts[f"num_{split.value}_examples"]
    assert (spec.eval_batch_size, spec.step_hint) == (facts["eval_batch_size"], facts["step_hint"])
    for rules in ("v0.6", "v1.0"):
        budget = spec.budget(rules)
        assert [budget.max_runtime_s, budget.eval_period_s] == facts[rules]
    assert (spec.dropout_rate, spec.loss_type.name) == (0.1, "CTC_LOSS")


@every_workload
@pytest.mark.parametrize("framework", BOTH)
def test_the_number_of_parameters_is_the_published_one(name, framework):
    require(framework)
    workload = registry.make_workload(registry.workload_spec(name), framework)
    assert sum(math.prod(one["shape"]) for one in workload.parameters()) == FACTS[name]["num_parameters"][framework]


@every_workload
@pytest.mark.parametrize("scale", Scale)
def test_model_and_tokenizer_are_of_one_size(name, scale):
    spec = registry.workload_spec(name).at(scale)
    assert spec.model.vocab_size == spec.dataset.options.vocab_size


@every_workload
def test_all_workloads_share_their_data(name):
    for scale in Scale:
        assert registry.workload_spec(name).at(scale).dataset == CONFORMER.at(scale).dataset


@every_workload
def test_mini_targets_are_plain_word_error_rates(name):
    spec = registry.workload_spec(name).at(Scale.MINI)
    assert spec.target.metric == "word_error_rate"
    assert spec.eval_batch_size == 100


def test_the_facts_of_the_mini_data_are_those_that_make_it():
    spec = CONFORMER.at(Scale.MINI)
    assert spec.dataset.options == mini.OPTIONS
    assert {split.value: spec.num_examples(split) for split in STORED_SPLITS} == mini.SPLIT_SIZES


def test_one_variant_hides_more():
    assert CONFORMER.model.spec_augment == SpecAugment(
        num_time_masks=10, max_time_share=0.05, num_frequency_masks=2, max_frequency_bins=27
    )
    more = DEEPSPEECH_NORM_AND_SPEC_AUG.model.spec_augment
    assert (more.num_time_masks, more.num_frequency_masks) == (15, 4)


def test_models_that_cannot_be_built_are_refused():
    for sizes in ({"width": 100, "num_heads": 3}, {"width": 15, "num_heads": 3}, {"width": 2, "num_heads": 1}):
        with pytest.raises(ValueError, match=f"A width of {sizes['width']} is below 4, odd or no multiple"):
            Conformer(**sizes)
    for choice in ({"kernel_size": 4}, {"activation": "relu"}):
        with pytest.raises(ValueError, match="A kernel is of odd size and the activation 'silu' or 'gelu', not"):
            Conformer(**choice)
    with pytest.raises(ValueError, match="A width of 15 cannot be shared by two directions"):
        DeepSpeech(width=15)
    for choice in ({"norm": "none"}, {"activation": "gelu"}):
        with pytest.raises(ValueError, match="activation is 'relu' or 'tanh', norm 'batch' or 'layer', not"):
            DeepSpeech(**choice)
