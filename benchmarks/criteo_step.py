"""Seconds of one NAdamW step of Criteo, at the shapes of which the public reference's time is known.

That is a batch of 256 rows, and the table of `criteo1tb_test`, 65,536 rows. The published times (`reference_s`) were
measured on another machine, with 2 cores. So that they mean something here, the same network is also timed as the
reference writes it (`plain`): PyTorch's chunks of the table joined before they are looked up, pairs gathered by two
indices, masks of dropout from floats. Both are timed in turns, in processes of their own, so that a busy machine
disturbs both alike. `compile_s` is what the first step takes beyond the others.

Prints JSON. `criteo_step.py FRAMEWORK ours|plain` times one of them once.
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

REFERENCE_S = {Framework.JAX: 0.068, Framework.PYTORCH: 0.085}
ROWS, VOCAB_SIZE = 256, 65_536
STEPS, ROUNDS = 60, 5


def batch() -> dict[str, np.ndarray]:
    """Logarithms of integers, ids that fill the table, and a click in thirty."""
    rng = np.random.default_rng(0)
    dense, ids = rng.exponential(2, (ROWS, 13)), rng.integers(0, 2**22, (ROWS, 26))
    return {
        "inputs": np.concatenate([dense, ids], axis=1).astype(np.float32),
        "targets": (rng.random((ROWS, 1)) < 1 / 30).astype(np.float32),
    }


def write_plainly(framework: Framework) -> None:
    if framework is Framework.JAX:
        import jax
        import jax.numpy as jnp

        from algoperf_criteo import jax_model

        def products(features):
            first, second = jnp.triu_indices(features.shape[1])
            return jnp.matmul(features, features.transpose(0, 2, 1))[:, first, second]

        jax_model.dot_products = products
        jax_model.dropout = lambda x, rate, key: jnp.where(
            jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0
        )
    else:
        import torch

        from algoperf_criteo import torch_model
        from algoperf_criteo.spec import NUM_CHUNKS

        def products(features):
            first, second = torch.triu_indices(features.shape[1], features.shape[1])
            return torch.bmm(features, features.transpose(1, 2))[:, first, second]

        def embed(self, ids):
            chunks = [self.get_parameter(f"embedding_chunk_{i}") for i in range(NUM_CHUNKS)]
            return torch.cat(chunks)[ids.long()]

        torch_model.dot_products = products
        torch_model.DlrmModel.embed = embed
        torch_model.dropout = torch.nn.functional.dropout


def measure(framework: Framework) -> dict[str, float]:
    workload = registry.make_workload(registry.workload_spec("criteo1tb_test"), framework)
    training = Training(workload)
    on_device, times = workload.backend.place_batch(batch()), []
    for number in range(STEPS):
        start = time.perf_counter()
        workload.backend.wait(training.step(on_device, number))
        times.append(time.perf_counter() - start)
    step_s = statistics.median(times[2:])
    return {"step_s": step_s, "compile_s": times[0] - step_s}


def in_process(framework: Framework, formulation: str) -> dict[str, float]:
    command = [sys.executable, __file__, framework.value, formulation]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    if len(sys.argv) == 3:
        framework = Framework(sys.argv[1])
        if sys.argv[2] == "plain":
            write_plainly(framework)
        print(json.dumps(measure(framework)))
        return
    result: dict[str, object] = {}
    for framework in [f for f in Framework if is_installed(f)]:
        runs = [{one: in_process(framework, one) for one in ("ours", "plain")} for _ in range(ROUNDS)]
        ours, plain = (statistics.median(run[one]["step_s"] for run in runs) for one in ("ours", "plain"))
        result[framework.value] = {
            "step_s": round(ours, 4),
            "plain_step_s": round(plain, 4),
            "step_to_plain": round(ours / plain, 3),
            "reference_s": REFERENCE_S[framework],
            "step_to_reference": round(ours / REFERENCE_S[framework], 3),
            "compile_s": round(statistics.median(run["ours"]["compile_s"] for run in runs), 2),
        }
    print(json.dumps({"benchmark": "criteo_step", "rows": ROWS, "rounds": ROUNDS, **result}))


if __name__ == "__main__":
    main()
