"""Initial values: each parameter's law, and the statistics of the public implementation where they are known."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from criteo_goldens import SPECS, golden, reference_names
from criteo_models import Arrays, make

from algoperf.spec import Framework, Scale
from algoperf.testing.frameworks import BOTH
from algoperf_criteo.spec import CRITEO1TB
from algoperf_criteo.weights import torch_to_jax

every_framework = pytest.mark.parametrize("framework", BOTH)
every_workload = pytest.mark.parametrize("name", SPECS)

# E[z**4] of a standardised variable.
NORMAL, UNIFORM = 3.0, 1.8


@cache
def initial(framework: Framework, name: str) -> Arrays:
    """Fresh parameters by JAX's paths; the table and the kernels are JAX's in shape too."""
    params = make(framework, SPECS[name]).initial(seed=1)
    return params if framework is Framework.JAX else torch_to_jax(SPECS[name].model, params)


def assert_distributed(values: np.ndarray, mean: float, sigma: float, fourth_moment: float) -> None:
    """Moments within six standard errors of a law's, of which the fourth tells normal, cut normal and uniform apart."""
    n, z = values.size, (values.astype(np.float64).ravel() - mean) / sigma
    assert abs(z.mean()) < 6 / n**0.5
    assert abs(z.std() - 1) < 6 * ((fourth_moment - 1) / (4 * n)) ** 0.5
    assert abs((z**4).mean() - fourth_moment) < 6 * (z**4).std() / n**0.5


@every_framework
@every_workload
def test_embeddings_are_uniform_above_zero(framework: Framework, name: str) -> None:
    table, limit = initial(framework, name)["embedding_table"], 1.0 if name.endswith("embed_init") else 65_536**-0.5
    assert_distributed(table, limit / 2, limit / 12**0.5, UNIFORM)
    assert table.min() >= 0
    assert 0.999 * limit < table.max() <= limit
    # Rows are drawn in blocks, which are not copies of one another.
    assert len(np.unique(table, axis=0)) == len(table)


@every_framework
@every_workload
def test_kernels_and_biases(framework: Framework, name: str) -> None:
    params = initial(framework, name)
    biases = []
    for path, value in params.items():
        if path.endswith("kernel"):
            sigma = (2 / sum(value.shape)) ** 0.5
            in_bottom = path.startswith("bottom_mlp")
            assert_distributed(value, 0, sigma, UNIFORM if in_bottom else NORMAL)
            assert not in_bottom or abs(value).max() <= (6 / sum(value.shape)) ** 0.5
        elif "norm" in path:
            assert (value == (1 if path.endswith("scale") else 0)).all()
        elif path.endswith("bias"):
            biases.append(value * len(value) ** 0.5)
            if len(value) > 1:
                assert_distributed(biases[-1], 0, 1, NORMAL)
    assert len(biases) == 8
    assert_distributed(np.concatenate(biases), 0, 1, NORMAL)


@every_framework
def test_statistics_are_those_of_the_public_implementation(framework: Framework) -> None:
    params, names = initial(framework, "criteo1tb"), reference_names(Framework.JAX, "criteo1tb")
    for entry in golden(Framework.JAX, "criteo1tb")["params"]:
        value = params[next(ours for ours, theirs in names.items() if theirs == entry["name"])]
        if value.size > 1:
            # Both are samples: six standard errors of a difference.
            error = 6 * 2**0.5 * value.std() / value.size**0.5
            assert abs(value.mean() - entry["init_mean"]) < error, entry["name"]
            assert abs(value.std() - entry["init_std"]) < error, entry["name"]


@every_framework
def test_a_seed_means_one_model(framework: Framework) -> None:
    spec = CRITEO1TB.at(Scale.MINI)
    first, again, other = (make(framework, spec).initial(seed) for seed in (3, 3, 4))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)


def test_a_table_of_any_size_can_be_drawn() -> None:
    """In JAX it is drawn in blocks, which a number of rows without divisors would not fill."""
    spec = CRITEO1TB.at(Scale.MINI)
    for rows in (4, 4 * 997, 4 * 4_099, 12_288):
        params = make(Framework.JAX, replace(spec, model=replace(spec.model, vocab_size=rows))).initial(0)
        table = params["embedding_table"]
        assert table.shape == (rows, spec.model.embed_dim)
        assert len(np.unique(table, axis=0)) == rows
