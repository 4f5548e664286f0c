"""Seconds of one NAdamW step of OGBG at full size, at the shapes of which the public reference's time is known.

The published times (`reference_s`) were measured on another machine, with 2 cores. So that they mean something here,
the same network is also timed as the reference writes it: inputs concatenated before each dense layer, and the
framework's own dense and dropout. `calibration` = that time here / `reference_s`, and `limit_s` = `reference_s` x
calibration. Both are timed in turns, in processes of their own, so that a busy machine disturbs both alike.

Prints JSON. `ogbg_step.py FRAMEWORK ours|plain` times one of them once.
"""

import json
import statistics
import subprocess
import sys
import time

import numpy as np
from _training import Training

from algoperf import registry
from algoperf.spec import Framework
from algoperf.testing.frameworks import is_installed
from algoperf_ogbg.graphs import GraphsTuple

REFERENCE_S = {Framework.JAX: 0.2754, Framework.PYTORCH: 0.3875}
GRAPHS, NODES, EDGES = 65, 1665, 3584
STEPS, ROUNDS = 12, 3


def batch() -> dict[str, object]:
    """64 graphs of one size and a padding graph."""
    rng = np.random.default_rng(0)
    n_node = np.array([NODES // GRAPHS] * 64 + [NODES - NODES // GRAPHS * 64], np.int32)
    n_edge = np.array([EDGES // GRAPHS] * 64 + [EDGES - EDGES // GRAPHS * 64], np.int32)
    first = np.repeat(np.cumsum(n_node) - n_node, n_edge)
    ends = (first + rng.integers(0, 25, (2, EDGES))).astype(np.int32)
    graphs = GraphsTuple(
        nodes=rng.integers(0, 9, (NODES, 9)).astype(np.float32),
        edges=rng.integers(0, 3, (EDGES, 3)).astype(np.float32),
        receivers=ends[0],
        senders=ends[1],
        globals={},
        n_node=n_node,
        n_edge=n_edge,
    )
    targets = rng.integers(0, 2, (GRAPHS, 128)).astype(np.float32)
    return {"inputs": graphs, "targets": targets, "weights": np.ones_like(targets)}


def write_plainly(framework: Framework) -> None:
    """Replaces the layer that multiplies before it gathers by concatenation and the framework's own layers."""
    if framework is Framework.JAX:
        import jax
        import jax.numpy as jnp
        from flax import linen

        from algoperf_ogbg import jax_model

        class Dense(linen.Module):
            features: int

            @linen.compact
            def __call__(self, *parts):
                return linen.Dense(self.features)(jnp.concatenate([x if i is None else x[i] for x, i in parts], -1))

        jax_model.JointDense = Dense
        jax_model.dropout = lambda x, rate, key: jnp.where(
            jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0
        )
    else:
        import torch

        from algoperf_ogbg import torch_model

        def forward(self, *parts):
            joined = torch.cat([x if i is None else x[i] for x, i in parts], -1)
            return torch.nn.functional.linear(joined, self.weight, self.bias)

        torch_model.JointLinear.forward = forward
        torch_model.dropout = torch.nn.functional.dropout


def step_seconds(framework: Framework) -> float:
    workload = registry.make_workload(registry.workload_spec("ogbg"), framework)
    training = Training(workload)
    on_device, times = workload.backend.place_batch(batch()), []
    for number in range(STEPS):
        start = time.perf_counter()
        workload.backend.wait(training.step(on_device, number))
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def main() -> None:
    if len(sys.argv) == 3:
        framework = Framework(sys.argv[1])
        if sys.argv[2] == "plain":
            write_plainly(framework)
        print(step_seconds(framework))
        return
    result = {}
    for framework in [f for f in Framework if is_installed(f)]:
        times: dict[str, list[float]] = {"ours": [], "plain": []}
        for _ in range(ROUNDS):
            for formulation, values in times.items():
                command = [sys.executable, __file__, framework.value, formulation]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                values.append(float(done.stdout.splitlines()[-1]))
        ours, plain = (statistics.median(values) for values in times.values())
        reference = REFERENCE_S[framework]
        result[framework.value] = {
            "step_s": round(ours, 4),
            "plain_step_s": round(plain, 4),
            "reference_s": reference,
            "calibration": round(plain / reference, 3),
            "limit_s": round(plain, 4),
            "ratio_to_limit": round(ours / plain, 3),
        }
    print(json.dumps({"benchmark": "ogbg_step", "rounds": ROUNDS, **result}))


if __name__ == "__main__":
    main()
