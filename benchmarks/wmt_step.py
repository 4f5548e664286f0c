"""Seconds of a NAdamW step and of an evaluation's forward pass of WMT at full size, with 4 packed rows of 256 tokens.

The public reference's figures (`reference_*`, medians, 2 CPU cores) were measured on another machine. So that they
mean something here, the same network is also timed as the reference writes it (`plain_*`): masks that are added,
attention spelt out (in PyTorch with dropout inside), in JAX labels as probabilities, masks of dropout from floats.
Ours and the plain one take turns, in processes of their own. `step_to_plain` is their ratio; `compile_s` is what the
first step takes beyond the others. Prints JSON. `wmt_step.py FRAMEWORK ours|plain` times one of them once.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import psutil
from _training import Training

from algoperf import registry
from algoperf.seeds import random_key
from algoperf.spec import ForwardPassMode, Framework
from algoperf.testing.frameworks import is_installed

REFERENCE = {
    Framework.JAX: {"step_s": 5.3175, "forward_s": 1.7279},
    Framework.PYTORCH: {"step_s": 6.634, "forward_s": 1.6876},
}
ROWS, LENGTH, VOCAB_SIZE = 4, 256, 32_000
STEPS, ROUNDS = 5, 2


def batch() -> dict[str, np.ndarray]:
    """Rows of eight sentences of 32 random tokens."""
    rng = np.random.default_rng(0)
    arrays = {}
    for side in ("inputs", "targets"):
        arrays[side] = rng.integers(3, VOCAB_SIZE, (ROWS, LENGTH)).astype(np.int32)
        arrays[f"{side}_position"] = np.tile(np.arange(LENGTH, dtype=np.int32) % 32, (ROWS, 1))
        arrays[f"{side}_segmentation"] = np.tile(np.arange(LENGTH, dtype=np.int32) // 32 + 1, (ROWS, 1))
    return arrays | {"weights": np.ones((ROWS, LENGTH), np.float32)}


def write_plainly(framework: Framework) -> None:
    """Replaces attention, dropout and the loss by how the reference formulates them."""
    if framework is Framework.JAX:
        import jax
        import jax.numpy as jnp

        from algoperf_wmt import jax_model, jax_workload

        def attend(self, x, keys, values, mask):
            queries = self.query(self.config.attention_temperature * x) / jnp.sqrt(keys.shape[2])
            scores = jnp.einsum("bqhd,bthd->bhqt", queries, keys.transpose(0, 3, 1, 2))
            weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(jnp.float32).min))
            return self.out(jnp.einsum("bhqt,bthd->bqhd", weights, values.swapaxes(1, 2)))

        def loss_fn(self, label_batch, logits_batch, mask_batch=None, label_smoothing=0.0, **unused):
            one_hot = jax.nn.one_hot(label_batch, logits_batch.shape[-1])
            labels = (1 - label_smoothing) * one_hot + label_smoothing / logits_batch.shape[-1]
            losses = -(labels * jax.nn.log_softmax(logits_batch)).sum(-1) * mask_batch
            return {"summed": losses.sum(), "n_valid_examples": mask_batch.sum(), "per_example": losses}

        jax_model.Attention.attend, jax_workload.WmtJax.loss_fn = attend, loss_fn
        jax_model.dropout = lambda x, rate, key: jnp.where(
            jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0
        )
    else:
        import torch

        from algoperf_wmt import torch_model

        def attend(queries, keys, values, mask):
            added = torch.where(mask.visible, 0.0, -1e10)
            weights = (queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5 + added).softmax(dim=-1)
            return (torch.nn.functional.dropout(weights, 0.1) @ values).transpose(1, 2).flatten(2)

        torch_model._attend, torch_model.dropout = attend, torch.nn.functional.dropout


def timed(function: Callable[[], object], wait: Callable[[object], None]) -> list[float]:
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        wait(function())
        times.append(time.perf_counter() - start)
    return times


def measure(framework: Framework) -> dict[str, float]:
    workload = registry.make_workload(registry.workload_spec("wmt"), framework)
    training = Training(workload)
    on_device = workload.place_batch(batch())

    def forward(params: object, arrays: dict[str, object]) -> object:
        return workload.model_fn(params, arrays, None, ForwardPassMode.EVAL, random_key(3), False)[0]

    if framework is Framework.JAX:
        import jax

        forward = jax.jit(forward)
    else:
        import torch

        forward = torch.no_grad()(forward)
    steps = timed(lambda: training.step(on_device), workload.backend.wait)
    forwards = timed(lambda: forward(training.params, on_device), workload.backend.wait)
    step_s = statistics.median(steps[1:])
    return {
        "step_s": step_s,
        "forward_s": statistics.median(forwards[1:]),
        "compile_s": steps[0] - step_s,
        "resident_gib": psutil.Process().memory_info().rss / 2**30,
    }


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
    result = {}
    for framework, reference in REFERENCE.items():
        if not is_installed(framework):
            continue
        runs = [{one: in_process(framework, one) for one in ("ours", "plain")} for _ in range(ROUNDS)]
        medians = {
            one: {what: statistics.median(run[one][what] for run in runs) for what in runs[0][one]}
            for one in ("ours", "plain")
        }
        figures = {what: round(value, 3) for what, value in medians["ours"].items()}
        for what, seconds in reference.items():
            figures[f"plain_{what}"] = round(medians["plain"][what], 3)
            figures[f"{what[:-2]}_to_plain"] = round(medians["ours"][what] / medians["plain"][what], 3)
            figures[f"reference_{what}"] = seconds
            figures[f"{what[:-2]}_to_reference"] = round(medians["ours"][what] / seconds, 3)
        result[framework.value] = figures
    print(json.dumps({"benchmark": "wmt_step", "rows": ROWS, "tokens_per_row": LENGTH, "rounds": ROUNDS, **result}))


if __name__ == "__main__":
    main()
