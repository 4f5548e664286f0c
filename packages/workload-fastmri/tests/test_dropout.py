"""Dropout: of whole channels, in training only, behind the activations of blocks, with a rate that may be traced."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from fastmri_goldens import SPECS
from fastmri_models import Arrays, Jax, Torch, make, random_params

from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.frameworks import BOTH

TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL

every_framework = pytest.mark.parametrize("framework", BOTH)
every_workload = pytest.mark.parametrize("name", SPECS)


@cache
def made(framework: Framework, name: str) -> Jax | Torch:
    return make(framework, SPECS[name].at(Scale.MINI))


@cache
def params_of(framework: Framework, name: str) -> Arrays:
    return random_params(made(framework, name).workload)


@cache
def batch() -> Arrays:
    return {"inputs": np.random.default_rng(0).normal(size=(256, 16, 16)).astype(np.float32)}


@every_framework
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_channels_are_dropped_whole_behind_the_activation(framework: Framework, rate: float) -> None:
    """With an output that is one channel of the last block: an image is zero, or scaled throughout.

    Undoing the activation gives what the norm gave, of mean 0 and variance 1, whatever was dropped before.
    """
    params = dict(params_of(framework, "fastmri"))
    kernel = next(name for name in params if name in ("output/kernel", "output.weight"))
    params[kernel] = np.eye(params[kernel].size, dtype=np.float32)[0].reshape(params[kernel].shape)
    outputs = made(framework, "fastmri").forward(params, batch(), TRAIN, rate) * (1 - rate)
    before = np.where(outputs > 0, outputs, outputs / 0.2)
    is_dropped = (outputs == 0).all(axis=(1, 2))
    # Five standard errors of a share.
    assert abs(is_dropped.mean() - rate) < 5 * (rate * (1 - rate) / len(outputs)) ** 0.5
    kept = before[~is_dropped]
    np.testing.assert_allclose(kept.mean(axis=(1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(kept.std(axis=(1, 2)), 1, atol=1e-3)


@every_framework
@every_workload
def test_it_is_in_every_block_twice_and_nowhere_else(
    framework: Framework, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    def dropped(x, rate, *key):
        shapes.append(x.shape)
        return x

    module = {Framework.JAX: "jax_model", Framework.PYTORCH: "torch_model"}[framework]
    workload, params = make(framework, SPECS[name].at(Scale.MINI)), params_of(framework, name)
    monkeypatch.setattr(f"algoperf_fastmri.{module}.channel_dropout", dropped)
    workload.forward(params, {"inputs": batch()["inputs"][:2]}, TRAIN, 0.5)
    model = workload.workload.spec.model
    levels = [*range(model.num_pools), model.num_pools, *reversed(range(model.num_pools))]
    blocks = [(16 // 2**level, model.num_channels * 2**level) for level in levels]
    expected = [(2, s, s, c) if framework is Framework.JAX else (2, c, s, s) for s, c in blocks for _ in range(2)]
    assert shapes == expected


@every_framework
@pytest.mark.parametrize("name", ["fastmri", "fastmri_layernorm"])
def test_evaluation_and_a_rate_of_zero_have_none(framework: Framework, name: str) -> None:
    workload, params = made(framework, name), params_of(framework, name)
    expected = workload.forward(params, batch(), EVAL)
    np.testing.assert_array_equal(workload.forward(params, batch(), EVAL, 0.9, seed=1), expected)
    np.testing.assert_allclose(workload.forward(params, batch(), TRAIN, 0.0), expected, rtol=1e-4, atol=1e-4)


@every_framework
def test_the_default_rate_is_that_of_the_facts(framework: Framework) -> None:
    spec = replace(SPECS["fastmri"].at(Scale.MINI), dropout_rate=0.3)
    workload, params = make(framework, spec), params_of(framework, "fastmri")
    default, same, other, none = (workload.forward(params, batch(), TRAIN, rate) for rate in (None, 0.3, 0.2, 0.0))
    evaluated = workload.forward(params, batch(), EVAL)
    np.testing.assert_allclose(default, same, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(none, evaluated, rtol=1e-4, atol=1e-4)
    assert min(abs(default - other).max(), abs(default - evaluated).max()) > 1e-2


@every_framework
def test_it_depends_on_the_seed(framework: Framework) -> None:
    workload, params = made(framework, "fastmri"), params_of(framework, "fastmri")
    first, again, other = (workload.forward(params, batch(), TRAIN, 0.5, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 1e-3
