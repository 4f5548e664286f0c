"""What is JAX's own: traced rates, keys, types of arrays; and evaluation, errors, the output layer."""

from typing import Any

import numpy as np
import pytest

from algoperf import registry
from algoperf.seeds import random_key
from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.frameworks import require
from algoperf_criteo.spec import CRITEO1TB, CRITEO1TB_LAYERNORM, CRITEO1TB_RESNET

require(Framework.JAX)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from algoperf.backends.jax import JaxBackend  # noqa: E402
from algoperf_criteo.jax_model import dot_products  # noqa: E402
from algoperf_criteo.jax_workload import CriteoJax  # noqa: E402

NAMES = ("criteo1tb", "criteo1tb_layernorm", "criteo1tb_embed_init", "criteo1tb_resnet")
TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL


@pytest.fixture(scope="module")
def workload() -> CriteoJax:
    return CriteoJax(CRITEO1TB.at(Scale.MINI), JaxBackend())


@pytest.fixture(scope="module")
def params(workload: CriteoJax) -> Any:
    return workload.init_model_fn(random_key(0))[0]


def make_batch() -> dict[str, jax.Array]:
    """Three examples and one of padding."""
    rng = np.random.default_rng(0)
    inputs = np.concatenate([rng.random((4, 13)), rng.integers(0, 4096, (4, 26))], axis=1)
    arrays = {"inputs": inputs, "targets": [[1], [0], [1], [0]], "weights": [[1], [1], [1], [0]]}
    return {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}


@pytest.mark.parametrize("name", NAMES)
def test_one_program_serves_all_dropout_rates(name: str) -> None:
    """A rate must not decide in Python: in the public implementation it does, in one of the variants."""
    workload = CriteoJax(registry.workload_spec(name).at(Scale.MINI), JaxBackend())
    params, batch, compilations = workload.init_model_fn(random_key(0))[0], make_batch(), []

    @jax.jit
    def logits(rate: jax.Array, key: jax.Array) -> jax.Array:
        compilations.append(rate)
        return workload.model_fn(params, batch, None, TRAIN, key, True, dropout_rate=rate)[0]

    none, some = logits(0.0, random_key(5)), logits(0.5, random_key(5))
    expected = workload.model_fn(params, batch, None, EVAL, None, False)[0]
    assert len(compilations) == 1
    np.testing.assert_allclose(none, expected, rtol=1e-5, atol=1e-5)
    assert abs(some - none).max() > 1e-3


def test_eval_step_gives_sums_over_real_examples(workload: CriteoJax, params: Any) -> None:
    batch = make_batch()
    out = jax.device_get(workload.compiled_eval_step(params, None, batch, None))
    logits = workload.model_fn(params, batch, None, EVAL, None, False)[0]
    losses = workload.loss_fn(batch["targets"], logits)["per_example"]
    assert out.keys() == {"loss", "examples"}
    assert out["examples"] == 3
    assert out["loss"] == pytest.approx(float(losses[:3].sum()), rel=1e-6)
    assert out["loss"].shape == out["examples"].shape == ()


def test_losses_of_large_logits_are_exact(workload: CriteoJax) -> None:
    logits, labels = jnp.array([[-90.0], [17], [-17], [90]]), jnp.array([[1.0], [1], [0], [0]])
    loss, gradient = workload.loss_fn(labels, logits), jax.grad(lambda x: workload.loss_fn(labels, x)["summed"])
    np.testing.assert_allclose(loss["per_example"], [90, 4.139938e-08, 4.139938e-08, 90], rtol=1e-6)
    np.testing.assert_allclose(gradient(logits)[:, 0], [-1, -4.139938e-08, 4.139938e-08, 1], rtol=1e-6)


def test_masks_may_be_fractions_and_options_unknown(workload: CriteoJax) -> None:
    batch, mask = make_batch(), jnp.array([1, 0.25, 0, 2])
    logits = jnp.array([[0.5], [-1], [2], [0]])
    plain = workload.loss_fn(batch["targets"], logits)
    masked = workload.loss_fn(batch["targets"], logits, mask[:, None], label_smoothing=0.3, unheard_of=1)
    np.testing.assert_array_equal(masked["per_example"], plain["per_example"] * mask)
    assert masked["n_valid_examples"] == 3.25
    for entry in (*plain.values(), *masked.values()):
        assert isinstance(entry, jax.Array)
        assert entry.dtype == jnp.float32


@pytest.mark.parametrize("name", NAMES)
def test_parameters_of_a_shorter_type_are_computed_in_it(name: str) -> None:
    workload, batch = CriteoJax(registry.workload_spec(name).at(Scale.MINI), JaxBackend()), make_batch()
    shorter = jax.tree.map(lambda p: p.astype(jnp.bfloat16), workload.init_model_fn(random_key(0))[0])
    logits = workload.model_fn(shorter, batch, None, TRAIN, random_key(1), True, dropout_rate=0.1)[0]
    assert logits.dtype == jnp.bfloat16
    loss, exact = (workload.loss_fn(batch["targets"], x) for x in (logits, logits.astype(jnp.float32)))
    for key, value in exact.items():
        assert loss[key].dtype == jnp.float32
        np.testing.assert_array_equal(loss[key], value)
    # In such a type 2,064 and 2,065 are one number; as ids they are not. Larger embeddings, to see them in the logits.
    shorter["embedding_table"] *= 128
    found, of_others = (
        workload.model_fn(shorter, {"inputs": batch["inputs"].at[:, 13:].set(id_)}, None, EVAL, None, False)[0]
        for id_ in (2_064, 2_065)
    )
    assert (found != of_others).any()


def test_a_model_state_is_refused(workload: CriteoJax, params: Any) -> None:
    with pytest.raises(ValueError, match="model_state"):
        workload.model_fn(params, make_batch(), {}, EVAL, None, False)


def test_dot_products_are_of_all_pairs_in_rows_of_the_upper_triangle() -> None:
    features = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    expected = np.stack([(features[:, i] * features[:, j]).sum(-1) for i, j in pairs], axis=1)
    np.testing.assert_allclose(dot_products(jnp.asarray(features)), expected, rtol=1e-5, atol=1e-6)


def test_the_bias_of_the_output_deviates_by_one(workload: CriteoJax) -> None:
    keys = np.stack([random_key(seed) for seed in range(100)])
    biases = np.asarray(jax.jit(jax.vmap(lambda key: workload.init_variables(key)[0]["output"]["bias"][0]))(keys))
    assert abs(biases.mean()) < 5 / len(biases) ** 0.5
    assert abs(biases.std() - 1) < 5 / (2 * len(biases)) ** 0.5


@pytest.mark.parametrize("spec", [CRITEO1TB, CRITEO1TB_LAYERNORM, CRITEO1TB_RESNET])
def test_output_parameters_are_those_of_the_last_layer(spec: Any) -> None:
    workload = CriteoJax(spec, JaxBackend())
    assert [key for key in workload.param_shapes if workload.is_output_params(key)] == ["output"]
