"""Initial values: each parameter's law, and the statistics of the public implementation where they are known."""

from functools import cache

import numpy as np
import pytest
from fastmri_goldens import golden
from fastmri_models import Arrays, Jax, Torch, make

from algoperf.spec import Framework
from algoperf.testing.frameworks import BOTH
from algoperf_fastmri.spec import FASTMRI_LAYERNORM
from algoperf_fastmri.weights import torch_to_jax

every_framework = pytest.mark.parametrize("framework", BOTH)
# E[z**4] of a standardised normal variable that is cut at two of its deviations before it was cut.
CUT_NORMAL = 2.3638
# Its deviation, as a share of that before.
SHRINKAGE = 0.87962566


@cache
def made(framework: Framework) -> Jax | Torch:
    """The variant that has all kinds of parameters; its kernels are those of the base."""
    return make(framework, FASTMRI_LAYERNORM)


@cache
def initial(framework: Framework, seed: int = 1) -> Arrays:
    """Fresh parameters by JAX's paths, in its shapes."""
    params = made(framework).initial(seed)
    return params if framework is Framework.JAX else torch_to_jax(FASTMRI_LAYERNORM.model, params)


@every_framework
def test_kernels_are_normal_within_two_deviations(framework: Framework) -> None:
    """Moments lie within six standard errors of the law's."""
    kernels = {path: value for path, value in initial(framework).items() if path.endswith("kernel")}
    assert len(kernels) == 23
    for path, value in kernels.items():
        fan_in = value.size // value.shape[-1]
        n, z = value.size, value.astype(np.float64).ravel() * fan_in**0.5
        assert abs(z.mean()) < 6 / n**0.5, path
        assert abs(z.std() - 1) < 6 * ((CUT_NORMAL - 1) / (4 * n)) ** 0.5, path
        assert abs((z**4).mean() - CUT_NORMAL) < 6 * (z**4).std() / n**0.5, path
        assert abs(z).max() <= 2.0001 / SHRINKAGE, path


@every_framework
def test_norms_do_nothing_at_first_and_the_bias_is_zero(framework: Framework) -> None:
    params = initial(framework)
    others = {path: value for path, value in params.items() if not path.endswith("kernel")}
    assert len(others) == 2 * 18 + 1
    assert all((value == (1 if path.endswith("scale") else 0)).all() for path, value in others.items())


@every_framework
def test_statistics_are_those_of_the_public_implementation(framework: Framework) -> None:
    params = initial(framework)
    for entry in golden(Framework.JAX, "fastmri")["params"]:
        value = params[entry["name"]]
        if value.size > 1:
            # Both are samples: six standard errors of a difference.
            error = 6 * 2**0.5 * value.std() / value.size**0.5
            assert abs(value.mean() - entry["init_mean"]) < error, entry["name"]
            assert abs(value.std() - entry["init_std"]) < error, entry["name"]


@every_framework
def test_a_seed_means_one_model(framework: Framework) -> None:
    first, other = initial(framework, 1), initial(framework, 2)
    again = made(framework).initial(1)
    again = again if framework is Framework.JAX else torch_to_jax(FASTMRI_LAYERNORM.model, again)
    assert all(np.array_equal(first[path], again[path]) for path in first)
    assert not any(np.array_equal(first[path], other[path]) for path in first if path.endswith("kernel"))
