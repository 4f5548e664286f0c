"""Baselines on workloads: both frameworks train the same, and agree on what a matrix is."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algoperf import registry
from algoperf.spec import Framework, Scale
from algoperf.testing.bench import Bench
from algoperf.testing.compare import assert_close
from algoperf.testing.frameworks import require
from algoperf.testing.parity_tests import Twins
from algoperf.testing.training import train
from algoperf_criteo import torch_model, weights

NUM_STEPS = 20
# Of the norm of an array. Gradients are sums of float32 in another order, 20 times: LAMB, which divides norms, comes to
# 7e-6, the others to at most 3e-6.
RTOL = 2e-5
MINIS = [name for name in registry.workload_names() if Scale.MINI in registry.workload_spec(name).scales]
BASELINES = (
    "adafactor adamw ademamix lamb lion momentum muon nadamw nadamw_self_tuning nesterov sam schedule_free_adamw "
    "schedule_free_adamw_self_tuning shampoo"
).split()


@pytest.fixture(scope="module")
def twins(data_dir: Path) -> Any:
    """Criteo in both frameworks with the same weights. Its table is one array, because some rules use arrays' norms."""
    for framework in Framework:
        require(framework)
    with pytest.MonkeyPatch.context() as patch:
        for module in (torch_model, weights):
            patch.setattr(module, "NUM_CHUNKS", 1)
        jax, pytorch = (Bench("criteo1tb", framework, data_dir, {}) for framework in (Framework.JAX, Framework.PYTORCH))
        yield Twins(jax, pytorch, weights.jax_to_torch)


def trained(name: str, bench: Bench, state: tuple[Any, Any]) -> Mapping[str, np.ndarray]:
    """The parameters after some steps without dropout, as they are evaluated."""
    params = bench.driver.with_arrays(state[0], bench.driver.arrays(state[0]))
    training = train(name, bench.workload, (params, state[1]))
    for step in range(NUM_STEPS):
        training.step(bench.batches[step % len(bench.batches)])
    training.prepare_for_eval()
    return training.arrays()


@pytest.mark.parametrize("name", BASELINES)
def test_both_frameworks_train_the_same(twins: Twins, name: str) -> None:
    jax, pytorch = (trained(name, bench, state) for bench, state in zip(twins.benches, twins.states, strict=True))
    expected = twins.in_torch(jax)
    for parameter, found in pytorch.items():
        assert_close(found, expected[parameter], parameter, RTOL)


@pytest.mark.parametrize("name", MINIS)
def test_muon_sees_the_same_matrices_in_both_frameworks(name: str) -> None:
    for framework in Framework:
        require(framework)
    spec = registry.workload_spec(name).at(Scale.MINI)
    jax, pytorch = (registry.make_workload(spec, one, None) for one in (Framework.JAX, Framework.PYTORCH))
    assert sizes_in_jax(jax) == sizes_in_pytorch(pytorch) != []


def sizes_in_jax(workload: Any) -> list[tuple[int, ...]]:
    """Of the matrices: inputs and outputs, the smaller number first."""
    import jax
    from optax.contrib import MuonDimensionNumbers

    from algoperf_baselines.muon.jax import matrices

    shapes = jax.tree.map(lambda shape: np.empty(shape.shape_tuple, bool), workload.param_shapes)
    sides = jax.tree.map(
        lambda axes, param: axes and [math.prod(param.shape[i] for i in side) for side in axes],
        matrices(workload, shapes),
        shapes,
        is_leaf=lambda node: node is None or isinstance(node, MuonDimensionNumbers),
    )
    return sorted(tuple(sorted(s)) for s in jax.tree.leaves(sides, is_leaf=lambda node: isinstance(node, list)))


def sizes_in_pytorch(workload: Any) -> list[tuple[int, ...]]:
    """The same."""
    import torch

    from algoperf_baselines.muon.pytorch import param_groups

    with torch.device("meta"):
        model = workload.build_model()
    found = []
    for group in param_groups(workload, model):
        number = group["num_matrices"]
        for param in group["params"] if number else []:
            outputs = param.shape[group["output_axis"]]
            found += number * [(outputs // number, param.numel() // outputs)]
    return sorted(tuple(sorted(sides)) for sides in found)
