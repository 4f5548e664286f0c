"""Dropout: in training only, in one place, with a rate that may be traced."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from criteo_models import Arrays, Jax, Torch, make

from algoperf import registry
from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.frameworks import BOTH
from algoperf_criteo.weights import jax_to_torch, torch_to_jax

TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL
NAMES = ("criteo1tb", "criteo1tb_layernorm", "criteo1tb_embed_init", "criteo1tb_resnet")

every_framework = pytest.mark.parametrize("framework", BOTH)
every_workload = pytest.mark.parametrize("name", NAMES)


@cache
def made(framework: Framework, name: str) -> Jax | Torch:
    return make(framework, registry.workload_spec(name).at(Scale.MINI))


@cache
def initial(framework: Framework, name: str) -> Arrays:
    return made(framework, name).initial(0)


@cache
def batch() -> Arrays:
    rng = np.random.default_rng(0)
    dense, ids = rng.random((4096, 13)), rng.integers(0, 4096, (4096, 26))
    return {"inputs": np.concatenate([dense, ids], axis=1).astype(np.float32)}


def one_unit(framework: Framework, name: str) -> tuple[Arrays, Arrays]:
    """Parameters with which the logit is one unit before the output, always active; and those without its last layer.

    Without the last hidden layer's own part, the unit is 0, or what the residual connection passes by.
    """
    model, params = made(framework, name).workload.spec.model, initial(framework, name)
    params = params if framework is Framework.JAX else torch_to_jax(model, params)
    last = f"top_mlp/dense_{len(model.top_dims) - 1}"
    kernel, bias = params[f"{last}/kernel"], params[f"{last}/bias"]
    one_hot = np.eye(model.top_dims[-1], dtype=np.float32)[:, -1:]
    params = params | {"output/kernel": one_hot, "output/bias": np.zeros(1, np.float32)}
    # Far above what else reaches the unit before ReLU, and above what the other units have, for a norm subtracts that.
    active = params | {f"{last}/bias": np.linspace(10, 20, len(bias), dtype=np.float32)}
    absent = params | {f"{last}/kernel": np.zeros_like(kernel), f"{last}/bias": np.zeros_like(bias)}
    if framework is Framework.JAX:
        return active, absent
    return jax_to_torch(model, active), jax_to_torch(model, absent)


@every_framework
@every_workload
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_it_is_on_the_output_of_the_last_hidden_layer(framework: Framework, name: str, rate: float) -> None:
    """After its norm, and before a residual connection: each logit lacks the layer's part, or has it scaled."""
    workload = made(framework, name)
    active, absent = one_unit(framework, name)
    whole, without = (workload.forward(params, batch(), EVAL) for params in (active, absent))
    assert (whole - without).min() > 0.1
    logits = workload.forward(active, batch(), TRAIN, rate)
    is_dropped = np.isclose(logits, without, rtol=1e-4, atol=1e-4)
    is_kept = np.isclose(logits, without + (whole - without) / (1 - rate), rtol=1e-4, atol=1e-4)
    assert (is_dropped ^ is_kept).all()
    # Five standard errors of a share.
    assert abs(is_dropped.mean() - rate) < 5 * (rate * (1 - rate) / len(logits)) ** 0.5


@every_framework
@every_workload
def test_evaluation_and_a_rate_of_zero_have_none(framework: Framework, name: str) -> None:
    workload = made(framework, name)
    params = initial(framework, name)
    expected = workload.forward(params, batch(), EVAL)
    np.testing.assert_array_equal(workload.forward(params, batch(), EVAL, 0.9, seed=1), expected)
    np.testing.assert_allclose(workload.forward(params, batch(), TRAIN, 0.0), expected, rtol=1e-5, atol=1e-5)


@every_framework
def test_the_default_rate_is_that_of_the_facts(framework: Framework) -> None:
    spec = replace(registry.workload_spec("criteo1tb").at(Scale.MINI), dropout_rate=0.3)
    workload, params = make(framework, spec), initial(framework, "criteo1tb")
    default, same, other, none = (workload.forward(params, batch(), TRAIN, rate) for rate in (None, 0.3, 0.2, 0.0))
    evaluated = workload.forward(params, batch(), EVAL)
    np.testing.assert_allclose(default, same, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(none, evaluated, rtol=1e-5, atol=1e-5)
    assert min(abs(default - other).max(), abs(default - evaluated).max()) > 1e-2


@every_framework
@every_workload
def test_it_depends_on_the_seed(framework: Framework, name: str) -> None:
    workload = made(framework, name)
    params = initial(framework, name)
    first, again, other = (workload.forward(params, batch(), TRAIN, 0.5, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 1e-3
