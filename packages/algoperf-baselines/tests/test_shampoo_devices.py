"""Distributed Shampoo on several devices: the steps that one device takes, with the roots divided among them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shampoo_steps import OPTIONS, SHAPES, Stepper, gradients, numbers

from algoperf.spec import Framework
from algoperf.testing.frameworks import BOTH, require
from algoperf_baselines.shampoo.blocks import Blocks, devices_of

# Roots are renewed in two of them.
NUM_STEPS = 8
NUM_DEVICES = {Framework.JAX: 4, Framework.PYTORCH: 2}
STATISTICS = st.lists(st.tuples(st.integers(1, 16), st.integers(1, 1024)).map(lambda shape: (*shape, shape[1])))


@given(statistics=STATISTICS, num_devices=st.integers(1, 16))
def test_devices_have_about_as_much_to_do(statistics: list[tuple[int, int, int]], num_devices: int) -> None:
    devices = devices_of(statistics, num_devices)
    assert [len(of_stack) for of_stack in devices] == [blocks for blocks, *_ in statistics]
    loads, costs = np.zeros(num_devices, int), [0]
    for of_stack, (_, size, _) in zip(devices, statistics, strict=True):
        for device in of_stack:
            loads[device] += size**3
            costs.append(size**3)
    assert loads.max() - loads.min() <= max(costs)


@pytest.mark.parametrize("framework", BOTH)
def test_roots_are_divided_among_devices_that_take_the_same_steps(framework: Framework, tmp_path: Path) -> None:
    require(framework)
    one, many = (trained(framework, number, tmp_path) for number in (1, NUM_DEVICES[framework]))
    assert len(many["params"]) == NUM_DEVICES[framework]
    for params in many["params"]:
        assert params == many["params"][0]
        for name, found in params.items():
            np.testing.assert_allclose(found, one["params"][0][name], rtol=0, atol=3e-6, err_msg=name)

    statistics = [shape for param in SHAPES.values() for shape in Blocks.of(param, OPTIONS["block_size"]).statistics]
    shares: list[list[int]] = [[] for _ in many["params"]]
    for devices, (_, size, _) in zip(devices_of(statistics, len(shares)), statistics, strict=True):
        for device in devices:
            shares[device].append(size)
    assert all(shares)
    assert [sorted(sizes) for sizes in many["sizes"]] == [sorted(2 * sizes) for sizes in shares]


def trained(framework: Framework, num_devices: int, folder: Path) -> dict[str, Any]:
    """For each device the parameters after some steps, and the sizes of the matrices of which it computed roots."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={num_devices}"
    ranks = range(1 if framework is Framework.JAX else num_devices)
    options = [framework, str(num_devices), str(folder / str(num_devices))]
    processes = [
        subprocess.Popen([sys.executable, __file__, *options, str(rank)], env=environment, stdout=subprocess.PIPE)
        for rank in ranks
    ]
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(ranks)
    outcomes = [json.loads(line) for line in printed]
    return {key: [of_device for outcome in outcomes for of_device in outcome[key]] for key in ("params", "sizes")}


def train(framework: Framework) -> Stepper:
    stepper, params = Stepper(framework, numbers(0), **OPTIONS), numbers(0)
    for _ in range(NUM_STEPS):
        params = stepper.step(gradients(params))
    return stepper


def train_in_jax(num_devices: int) -> dict[str, Any]:
    import jax

    from algoperf_baselines.shampoo import jax as module

    inverse_root: Callable[..., Any] = module.inverse_root
    sizes: list[list[int]] = [[] for _ in range(num_devices)]

    def counted(matrices: Any, p: int) -> Any:
        jax.debug.callback(lambda device: sizes[device].append(matrices.shape[-1]), jax.lax.axis_index("batch"))
        return inverse_root(matrices, p)

    module.inverse_root = counted
    stepper = train(Framework.JAX)
    jax.effects_barrier()
    shards = {name: value.addressable_shards for name, value in stepper.params.items()}
    params = [{name: of[i].data.tolist() for name, of in shards.items()} for i in range(num_devices)]
    return {"params": params, "sizes": sizes}


def train_in_pytorch(num_devices: int, store: str, rank: int) -> dict[str, Any]:
    import torch.distributed as dist

    from algoperf_baselines.shampoo import pytorch as module

    inverse_root, sizes = module.inverse_root, []

    def counted(matrices: Any, p: int) -> Any:
        sizes.append(matrices.shape[-1])
        return inverse_root(matrices, p)

    module.inverse_root = counted
    if num_devices > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=num_devices)
    params = train(Framework.PYTORCH).params
    if num_devices > 1:
        dist.destroy_process_group()
    return {"params": [{name: value.tolist() for name, value in params.items()}], "sizes": [sizes]}


if __name__ == "__main__":
    num_devices = int(sys.argv[2])
    if sys.argv[1] == Framework.JAX:
        outcome = train_in_jax(num_devices)
    else:
        outcome = train_in_pytorch(num_devices, sys.argv[3], int(sys.argv[4]))
    print(json.dumps(outcome))
