"""What is JAX's own: traced rates, keys, types of arrays; and the layers, errors, the output layer."""

from typing import Any

import numpy as np
import pytest
from fastmri_goldens import SPECS
from fastmri_models import random_params

from algoperf.seeds import random_key
from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.frameworks import require
from algoperf_fastmri.spec import FASTMRI

require(Framework.JAX)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from flax import linen as nn  # noqa: E402
from flax.traverse_util import unflatten_dict  # noqa: E402

from algoperf.backends.jax import JaxBackend  # noqa: E402
from algoperf_fastmri.jax_model import double, instance_norm, pad_like  # noqa: E402
from algoperf_fastmri.jax_workload import FastmriJax  # noqa: E402

TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL


@pytest.fixture(scope="module")
def workload() -> FastmriJax:
    return FastmriJax(FASTMRI.at(Scale.MINI), JaxBackend())


@pytest.fixture(scope="module")
def params(workload: FastmriJax) -> Any:
    return unflatten_dict(random_params(workload), sep="/")


def images(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.fixture
def batch() -> dict[str, jax.Array]:
    return {"inputs": images(4, 16, 16), "targets": images(4, 16, 16, seed=1)}


def test_one_program_serves_all_dropout_rates(workload: FastmriJax, params: Any, batch: Any) -> None:
    compilations = []

    @jax.jit
    def outputs(rate: jax.Array, key: jax.Array) -> jax.Array:
        compilations.append(rate)
        return workload.model_fn(params, batch, None, TRAIN, key, True, dropout_rate=rate)[0]

    none, some = outputs(0.0, random_key(5)), outputs(0.5, random_key(5))
    expected = workload.model_fn(params, batch, None, EVAL, None, False)[0]
    assert len(compilations) == 1
    np.testing.assert_allclose(none, expected, rtol=1e-4, atol=1e-4)
    assert abs(some - none).max() > 1e-3


def test_masks_may_be_fractions_and_options_unknown(workload: FastmriJax, batch: Any) -> None:
    mask = jnp.array([1, 0.25, 0, 2])
    plain = workload.loss_fn(batch["targets"], batch["inputs"])
    masked = workload.loss_fn(batch["targets"], batch["inputs"], mask, label_smoothing=0.3, unheard_of=1)
    np.testing.assert_array_equal(masked["per_example"], plain["per_example"] * mask)
    assert masked["n_valid_examples"] == 3.25
    for entry in (*plain.values(), *masked.values()):
        assert isinstance(entry, jax.Array)
        assert entry.dtype == jnp.float32


@pytest.mark.parametrize("name", ["fastmri", "fastmri_layernorm"])
def test_parameters_of_a_shorter_type_are_computed_in_it(name: str, batch: Any) -> None:
    workload = FastmriJax(SPECS[name].at(Scale.MINI), JaxBackend())
    shorter = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), unflatten_dict(random_params(workload), sep="/"))
    outputs = workload.model_fn(shorter, batch, None, TRAIN, random_key(1), True, dropout_rate=0.1)[0]
    assert outputs.dtype == jnp.bfloat16
    loss, exact = (workload.loss_fn(batch["targets"], x) for x in (outputs, outputs.astype(jnp.float32)))
    for key, value in exact.items():
        assert loss[key].dtype == jnp.float32
        np.testing.assert_array_equal(loss[key], value)


def test_a_model_state_is_refused(workload: FastmriJax, params: Any, batch: Any) -> None:
    with pytest.raises(ValueError, match="model_state"):
        workload.model_fn(params, batch, {}, EVAL, None, False)


def test_a_fresh_model_has_parameters_alone(workload: FastmriJax) -> None:
    params, model_state = jax.eval_shape(workload.init_variables, random_key(0))
    assert model_state is None
    blocks = {f"{kind}_{i}" for kind in ("down", "transpose", "up") for i in range(3)}
    assert params.keys() == blocks | {"bottom", "output"}


def test_doubling_is_flaxs_transposed_convolution() -> None:
    x, kernel = images(2, 3, 5, 4), images(2, 2, 4, 6, seed=1)
    layer = nn.ConvTranspose(6, (2, 2), (2, 2), use_bias=False)
    expected = layer.apply({"params": {"kernel": kernel}}, x)
    assert expected.shape == (2, 6, 10, 6)
    np.testing.assert_allclose(double(x, kernel), expected, rtol=1e-5, atol=1e-5)


def test_an_odd_row_or_column_is_reflected() -> None:
    x = images(2, 4, 6, 3)
    for height, width in ((4, 6), (5, 6), (4, 7), (5, 7)):
        padded = pad_like(x, jnp.zeros((2, height, width, 3)))
        expected = np.pad(x, ((0, 0), (0, height - 4), (0, width - 6), (0, 0)), mode="reflect")
        np.testing.assert_array_equal(padded, expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
@pytest.mark.parametrize("offset", [0, 30, 3_000])
def test_an_instance_norm_keeps_the_digits_of_what_lies_far_from_zero(
    offset: float, dtype: Any, tolerance: float
) -> None:
    x = (offset + (1 + offset / 30) * images(2, 40, 40, 8)).astype(dtype)
    exact = np.asarray(x.astype(jnp.float32), np.float64)
    mean, variance = exact.mean(axis=(1, 2), keepdims=True), exact.var(axis=(1, 2), keepdims=True)
    found = instance_norm(x)
    assert found.dtype == dtype
    expected = (exact - mean) / (variance + 1e-5) ** 0.5
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("value", [0.0, 0.3, 1000.3])
def test_an_instance_norm_of_what_does_not_vary_is_zero(value: float) -> None:
    """And its gradient is finite: of padding, and of black images."""
    x = jnp.full((2, 40, 40, 3), value)
    np.testing.assert_allclose(instance_norm(x), 0, atol=1e-4)
    gradient = jax.grad(lambda x: (images(2, 40, 40, 3) * instance_norm(x)).sum())(x)
    assert jnp.isfinite(gradient).all()


def test_an_instance_norm_of_what_hardly_varies_is_finite() -> None:
    x = jnp.full((1, 320, 320, 1), 1000.3).at[:, 0, 0].set(0)
    exact = np.asarray(x, np.float64)
    expected = (exact - exact.mean()) / (exact.var() + 1e-5) ** 0.5
    np.testing.assert_allclose(instance_norm(x), expected, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_output_parameters_are_those_of_the_last_layer(spec: Any) -> None:
    workload = FastmriJax(spec, JaxBackend())
    assert [key for key in workload.param_shapes if workload.is_output_params(key)] == ["output"]
