"""What the goldens leave open, in both frameworks: variants, causality, zero vectors, errors, evaluation."""

from functools import cache

import numpy as np
import plain_model
import pytest
from lm_models import SPECS, Arrays, Jax, Torch, make, noisy, random_batch, small

from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.frameworks import BOTH
from algoperf_lm.rotary import rotations
from algoperf_lm.spec import FINEWEBEDU_LM
from algoperf_lm.weights import torch_to_jax

every_workload = pytest.mark.parametrize("name", SPECS)
every_framework = pytest.mark.parametrize("framework", BOTH)


@cache
def made(framework: Framework, name: str = "finewebedu_lm") -> tuple[Jax | Torch, Arrays]:
    """A small workload and its parameters, with noise."""
    one = make(framework, small(SPECS[name]))
    return one, noisy(one.initial(0))


def temperatures(params: Arrays) -> list[str]:
    return [name for name in params if name.endswith("temperature")]


@every_workload
@every_framework
def test_models_are_what_they_are_defined_as(framework: Framework, name: str) -> None:
    one, params = made(framework, name)
    model, tokens = one.workload.spec.model, random_batch(3)["inputs"]
    found = one.logits(params, tokens)
    in_jax = params if framework is Framework.JAX else torch_to_jax(model, params)
    expected = np.stack([plain_model.logits(model, in_jax, row) for row in tokens])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * expected.std())


@every_workload
@every_framework
@pytest.mark.parametrize("temperature", [20.0, 0.0, -1.0, -1e4])
def test_no_token_sees_later_ones(framework: Framework, name: str, temperature: float) -> None:
    one, params = made(framework, name)
    params = params | {key: np.float32(temperature) for key in temperatures(params)}
    tokens = random_batch(2)["inputs"]
    expected = one.logits(params, tokens)
    assert np.isfinite(expected).all()
    for position in (1, 5, 9):
        changed = tokens.copy()
        changed[:, position:] = (changed[:, position:] + 7) % 40
        found = one.logits(params, changed)
        np.testing.assert_allclose(found[:, :position], expected[:, :position], rtol=0, atol=1e-5)
        assert abs(found[:, position:] - expected[:, position:]).max() > 0.1


@every_framework
def test_shorter_sequences_are_beginnings_of_longer_ones(framework: Framework) -> None:
    one, params = made(framework)
    tokens = random_batch(2)["inputs"]
    found, expected = one.logits(params, tokens[:, :4]), one.logits(params, tokens)[:, :4]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@every_framework
def test_vectors_of_zeros_have_no_direction_and_finite_gradients(framework: Framework) -> None:
    one, params = made(framework)
    params = {key: np.zeros_like(p) if "query" in key or "key" in key else p for key, p in params.items()}
    for key in params:
        if "in_proj" in key:
            params[key] = np.concatenate([np.zeros((32, 16), np.float32), params[key][32:]])
    batch = random_batch(2)
    logits, gradients = one.logits(params, batch["inputs"]), one.gradients(params, batch)
    model = one.workload.spec.model
    in_jax = params if framework is Framework.JAX else torch_to_jax(model, params)
    expected = plain_model.logits(model, in_jax, batch["inputs"][0])
    np.testing.assert_allclose(logits[0], expected, rtol=0, atol=2e-5 * expected.std())
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("size", [2, 1e-3, 1e-6, 0])
@every_framework
def test_queries_and_keys_are_divided_by_their_norm_and_epsilon(framework: Framework, size: float) -> None:
    x = np.float32(size) * np.random.default_rng(0).standard_normal((5, 8), np.float32)
    if framework is Framework.JAX:
        from algoperf_lm.jax_model import unit

        found = np.asarray(unit(x))
    else:
        import torch

        from algoperf_lm.torch_model import unit

        found = unit(torch.from_numpy(x)).numpy()
    expected = x / (np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_table_of_rotations() -> None:
    cos, sin = rotations(1_024, 128, 500_000.0)
    assert cos.shape == sin.shape == (1_024, 64)
    assert cos.dtype == sin.dtype == np.float32
    for position, pair in ((0, 0), (1, 0), (1_023, 0), (1_023, 17), (700, 63)):
        angle = position / 500_000 ** (2 * pair / 128)
        assert cos[position, pair] == np.float32(np.cos(angle))
        assert sin[position, pair] == np.float32(np.sin(angle))


@every_framework
def test_sequences_that_are_too_long_are_refused(framework: Framework) -> None:
    one, params = made(framework)
    with pytest.raises(ValueError, match=r"finewebedu_lm needs inputs of at most 10 tokens a sequence.*\(2, 11\)"):
        one.logits(params, np.zeros((2, 11), np.int32))
    with pytest.raises(ValueError, match=r"\[B, T\], not \(2, 5, 40\)"):
        one.logits(params, np.zeros((2, 5, 40), np.int32))


@every_framework
def test_a_model_state_is_refused(framework: Framework) -> None:
    one, _ = made(framework)
    with pytest.raises(ValueError, match="finewebedu_lm has no model state; pass None"):
        one.workload.model_fn(None, {"inputs": np.zeros((1, 2))}, {}, ForwardPassMode.EVAL, None, False)


@every_framework
@pytest.mark.parametrize("scale", Scale)
def test_the_output_is_the_embedding_alone(framework: Framework, scale: Scale) -> None:
    workload = make(framework, small()).workload
    names = [one["name"] for one in workload.parameters()]
    embedding = {Framework.JAX: "embedding/embedding", Framework.PYTORCH: "embedding.weight"}[framework]
    assert [name for name in names if workload.is_output_params(name)] == [embedding]
    assert FINEWEBEDU_LM.at(scale).output_layer[framework] == "embedding"


@every_framework
@pytest.mark.parametrize("sequences", [1, 6])
def test_evaluations_do_not_depend_on_how_many_go_at_once(framework: Framework, sequences: int) -> None:
    one, params = made(framework)
    batch = random_batch(sequences)
    batch["weights"][-1] = 0
    output = one.evaluate(params, batch)
    per_token = one.loss(batch["targets"], one.logits(params, batch["inputs"]), batch["weights"], 0.0)["per_example"]
    np.testing.assert_allclose(output["losses"], per_token.sum(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(output["tokens"], [10] * (sequences - 1) + [0])
    assert output["losses"].dtype == output["tokens"].dtype == np.float32


@every_framework
def test_the_loss_by_its_definition(framework: Framework) -> None:
    one, _ = made(framework)
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3, size=(2, 5, 40)).astype(np.float32)
    targets = rng.integers(0, 40, (2, 5)).astype(np.int32)
    mask = rng.random((2, 5)).astype(np.float32)
    log_p = logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=-1, keepdims=True))
    at_targets = np.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    for smoothing in (0.0, 0.1):
        expected = -((1 - smoothing) * at_targets + smoothing * log_p.mean(axis=-1)) * mask
        found = one.loss(targets, logits, mask, smoothing)
        np.testing.assert_allclose(found["per_example"], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found["summed"], expected.sum(), rtol=1e-5)
        np.testing.assert_allclose(found["n_valid_examples"], mask.sum(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"shapes \(2, 4\), \(2, 5, 40\) and \(2, 5\)"):
        one.loss(targets[:, :4], logits, mask, 0.0)
