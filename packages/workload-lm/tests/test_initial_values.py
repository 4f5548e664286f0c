"""Initial values: each parameter's law, and the statistics of the public implementation."""

from functools import cache

import numpy as np
import pytest
from lm_goldens import golden_parameters
from lm_models import Arrays, make, small

from algoperf.spec import Framework
from algoperf.testing.frameworks import BOTH
from algoperf_lm.spec import FINEWEBEDU_LM
from algoperf_lm.weights import torch_to_jax

every_framework = pytest.mark.parametrize("framework", BOTH)
# Two layers of full width, whose deviations are those of two layers, and a part of the vocabulary.
SPEC = small(FINEWEBEDU_LM, width=1_024, num_heads=8, mlp_dim=4_096, context=1_024, vocab_size=500, deviation=0.02)


@cache
def initial(framework: Framework, seed: int = 1) -> Arrays:
    """Fresh parameters by JAX's paths, in its shapes."""
    params = make(framework, SPEC).initial(seed)
    return params if framework is Framework.JAX else torch_to_jax(SPEC.model, params)


def deviation(path: str) -> float:
    """0.02, and in what is added to the residual stream less, by the root of the number of additions."""
    return 0.02 / 2 if path.split("/")[-2] in ("out", "down") else 0.02


@every_framework
def test_matrices_are_normal(framework: Framework) -> None:
    """Moments lie within six standard errors of the law's, and no value is cut off."""
    matrices = {path: value for path, value in initial(framework).items() if value.ndim > 1}
    assert len(matrices) == 2 * 6 + 1
    for path, value in matrices.items():
        n, z = value.size, value.astype(np.float64).ravel() / deviation(path)
        assert abs(z.mean()) < 6 / n**0.5, path
        assert abs(z.std() - 1) < 6 / (2 * n) ** 0.5, path
        assert abs((z**4).mean() - 3) < 6 * (96 / n) ** 0.5, path
        assert abs(z).max() > 4, path


@every_framework
def test_the_layers_parts_are_drawn_apart(framework: Framework) -> None:
    params = initial(framework)
    for one, other in (("query", "key"), ("key", "value")):
        first, second = (params[f"block_0/attention/{name}/kernel"].ravel() for name in (one, other))
        assert abs(np.corrcoef(first, second)[0, 1]) < 6 / first.size**0.5
    assert not np.array_equal(params["block_0/mlp/up/kernel"], params["block_1/mlp/up/kernel"])


@every_framework
def test_norms_do_nothing_at_first_and_attention_is_as_sharp_as_published(framework: Framework) -> None:
    others = {path: value for path, value in initial(framework).items() if value.ndim <= 1}
    scales = {path for path in others if path.endswith("scale")}
    assert len(scales) == 2 * 2 + 1
    assert all((others[path] == 1).all() for path in scales)
    (published,) = {np.float32(p.mean) for p in golden_parameters(Framework.JAX) if p.name.endswith("temperature")}
    assert {path: value.item() for path, value in others.items() if path not in scales} == {
        f"block_{i}/attention/temperature": published.item() for i in range(2)
    }


@every_framework
def test_deviations_are_the_published_ones(framework: Framework) -> None:
    """Those of 12 layers, of which a single value tells the law: the statistics are samples of large matrices."""
    for parameter in golden_parameters(framework):
        n = int(np.prod(parameter.shape))
        if len(parameter.shape) > 1:
            is_residual = any(part in parameter.name for part in ("out", "down"))
            expected = 0.02 / 24**0.5 if is_residual else 0.02
            assert abs(parameter.deviation / expected - 1) < 6 / (2 * n) ** 0.5, parameter.name
    assert FINEWEBEDU_LM.model.residual_deviation == pytest.approx(0.02 / 24**0.5)


@every_framework
def test_a_seed_means_one_model(framework: Framework) -> None:
    first, other = initial(framework, 1), initial(framework, 2)
    again = make(framework, SPEC).initial(1)
    again = again if framework is Framework.JAX else torch_to_jax(SPEC.model, again)
    assert all(np.array_equal(first[path], again[path]) for path in first)
    assert not any(np.array_equal(first[path], other[path]) for path in first if first[path].ndim > 1)


@every_framework
def test_a_second_initialisation_draws_everything_anew(framework: Framework) -> None:
    """Also norms and temperatures: one workload serves several trials."""
    spec = small()
    workload = make(framework, spec).workload
    key = np.array([3, 4], np.uint32)
    if framework is Framework.PYTORCH:
        import torch

        model, _ = workload.init_model_fn(key)
        first = {name: value.detach().clone() for name, value in model.named_parameters()}
        with torch.no_grad():
            for value in model.parameters():
                value.add_(1)
        again = dict(workload.init_model_fn(key)[0].named_parameters())
        assert all(torch.equal(first[name], again[name]) for name in first)
    else:
        import jax

        first, _ = workload.init_model_fn(key)
        first = jax.tree.map(np.asarray, first)
        again, _ = workload.init_model_fn(key)
        jax.tree.map(np.testing.assert_array_equal, first, again)
