"""The facts at full scale, against those of the public implementation (v1.0)."""

import math
from dataclasses import asdict, replace
from pkgutil import resolve_name

import numpy as np
import pytest
from lm_goldens import golden_parameters
from lm_models import SPECS, VARIANTS

from algoperf import registry
from algoperf.data.preparation import prepare_command
from algoperf.spec import Budget, Framework, Scale, Split, Target
from algoperf.testing.frameworks import BOTH, require
from algoperf_lm import gpt2, mini
from algoperf_lm.prepare import prepare_published_split
from algoperf_lm.spec import FINEWEBEDU_LM, LanguageModel
from algoperf_lm.weights import jax_to_torch, torch_to_jax

# Without the last norm; as many; without a temperature in each of 12 layers.
NUM_PARAMETERS = {
    "finewebedu_lm": 252_815_372,
    "finewebedu_lm_post_norm": 252_815_372 - 1_024,
    "finewebedu_lm_silu": 252_815_372,
    "finewebedu_lm_fixed_temperature": 252_815_372 - 12,
}

every_workload = pytest.mark.parametrize("name", SPECS)
every_framework = pytest.mark.parametrize("framework", BOTH)


def test_facts_are_the_published_ones() -> None:
    spec = FINEWEBEDU_LM
    assert spec.target == Target(metric="ppl", goal="min", validation=22.2995, test=None)
    assert [spec.num_examples(split) for split in Split] == [8_749_870, 10_000, 100_000, 0]
    assert (spec.eval_batch_size, spec.step_hint) == (256, 72_000)
    assert spec.budgets == {"v1.0": Budget(max_runtime_s=31_967, eval_period_s=2_571)}
    assert spec.loss_type.name == "SOFTMAX_CROSS_ENTROPY"


def test_the_model_is_the_published_one() -> None:
    assert asdict(FINEWEBEDU_LM.model) | {"sequences_at_once": 0} == {
        "vocab_size": 50_257,
        "width": 1_024,
        "num_heads": 8,
        "mlp_dim": 4_096,
        "num_layers": 12,
        "context": 1_024,
        "rotary_base": 500_000.0,
        "gate": "sigmoid",
        "norm": "pre",
        "deviation": 0.02,
        "learned_temperature": True,
        "sequences_at_once": 0,
    }
    assert FINEWEBEDU_LM.model.head_size == 128
    # As the public implementation's parameters have it.
    (published,) = {p.mean for p in golden_parameters(Framework.JAX) if p.name.endswith("temperature")}
    assert FINEWEBEDU_LM.model.temperature == pytest.approx(published, rel=1e-7)


@every_framework
@every_workload
def test_the_number_of_parameters(name: str, framework: Framework) -> None:
    require(framework)
    parameters = registry.make_workload(SPECS[name], framework).parameters()
    assert sum(math.prod(one["shape"]) for one in parameters) == NUM_PARAMETERS[name]


@every_framework
def test_parameters_have_the_published_shapes(framework: Framework) -> None:
    require(framework)
    found = {one["name"]: one["shape"] for one in registry.make_workload(FINEWEBEDU_LM, framework).parameters()}
    assert found == {parameter.name: parameter.shape for parameter in golden_parameters(framework)}


@every_framework
def test_types_are_the_published_ones_or_better(framework: Framework) -> None:
    """What PyTorch's publication types, and JAX's calls weights of norms and of attention, in both frameworks."""
    require(framework)
    found = {one["name"]: one["type"] for one in registry.make_workload(FINEWEBEDU_LM, framework).parameters()}
    expected = {parameter.name: parameter.type for parameter in golden_parameters(framework)}
    if framework is Framework.JAX:
        better = {"query": "ATTENTION_Q", "key": "ATTENTION_K", "value": "ATTENTION_V", "out": "ATTENTION_OUT"}
        better |= {"attention_norm": "LAYER_NORM_SCALE", "mlp_norm": "LAYER_NORM_SCALE"}
        expected = {name: better.get(name.split("/")[-2], type_) for name, type_ in expected.items()}
    assert found == expected


@every_workload
@pytest.mark.parametrize("scale", Scale)
def test_model_and_sequences_are_of_one_size(name: str, scale: Scale) -> None:
    spec = SPECS[name].at(scale)
    assert spec.model.vocab_size == spec.dataset.options.vocab_size
    assert spec.model.context == spec.dataset.options.length


def test_tokens_are_those_of_the_tokenizers() -> None:
    assert FINEWEBEDU_LM.dataset.options.vocab_size == gpt2.VOCAB_SIZE
    options = FINEWEBEDU_LM.at(Scale.MINI).dataset.options
    assert (options.vocab_size, options.length) == (mini.VOCAB_SIZE, mini.LENGTH)


@pytest.mark.parametrize("scale", Scale)
def test_variants_differ_from_the_base_in_their_model_and_their_target_alone(scale: Scale) -> None:
    base = FINEWEBEDU_LM.at(scale)
    changes = {}
    for name, variant in VARIANTS.items():
        spec = variant.at(scale)
        assert (spec.base, spec.dataset, spec.budgets) == (base.name, base.dataset, base.budgets)
        facts, ours = asdict(base.model), asdict(spec.model)
        changes[name] = {field: value for field, value in ours.items() if value != facts[field]}
    assert changes == {
        "finewebedu_lm_post_norm": {"norm": "post"},
        "finewebedu_lm_silu": {"gate": "silu"},
        "finewebedu_lm_fixed_temperature": {"learned_temperature": False},
    }


def test_variants_have_no_target_at_full_scale_yet() -> None:
    assert {spec.target.validation for spec in VARIANTS.values()} == {None}
    assert all(spec.at(Scale.MINI).target.validation is not None for spec in SPECS.values())


def test_the_published_split_is_a_workload_of_its_own_data_and_no_part_of_suites() -> None:
    spec = registry.workload_spec("finewebedu_lm_published_split")
    # By the base's name submissions are asked for their batch size.
    assert (spec.base, spec.scales) == (FINEWEBEDU_LM.name, (Scale.FULL,))
    assert spec.dataset.name != FINEWEBEDU_LM.dataset.name
    assert prepare_command(spec) == f"algoperf-orchestrate data prepare {spec.name} --scale full"
    assert resolve_name(spec.dataset.prepare) is prepare_published_split
    fields = ("name", "base", "summary", "dataset", "mini")
    assert replace(spec, **{field: getattr(FINEWEBEDU_LM, field) for field in fields}) == FINEWEBEDU_LM


def test_models_that_cannot_be_built_are_refused() -> None:
    for sizes in ({"width": 1_000, "num_heads": 16}, {"width": 24, "num_heads": 8}, {"context": 2}):
        with pytest.raises(ValueError, match=r"is no even multiple of|is below 3"):
            LanguageModel(**sizes)
    for choice in ({"norm": "none"}, {"gate": "gelu"}):
        with pytest.raises(ValueError, match="norm is 'pre' or 'post', gate 'sigmoid' or 'silu', not"):
            LanguageModel(**choice)


@every_workload
def test_weights_are_carried_over_and_back(name: str) -> None:
    spec, shapes = SPECS[name].at(Scale.MINI), {}
    for framework in Framework:
        require(framework)
        parameters = registry.make_workload(spec, framework).parameters()
        shapes[framework] = {one["name"]: tuple(one["shape"]) for one in parameters}
    rng = np.random.default_rng(0)
    arrays = {path: rng.standard_normal(shape) for path, shape in shapes[Framework.JAX].items()}
    there = jax_to_torch(spec.model, arrays)
    assert {path: array.shape for path, array in there.items()} == shapes[Framework.PYTORCH]
    back = torch_to_jax(spec.model, there)
    assert back.keys() == arrays.keys()
    assert all(np.array_equal(back[path], array) for path, array in arrays.items())
