"""Own cost of the baselines: nanoseconds that one update takes per parameter, without any model.

The parameters are those of a small transformer, 12 layers of matrices and vectors, with gradients that stay the same.
`ratio` is to the plain optimizer of the framework's library that does the nearest, `torch.optim.AdamW` or NAdam,
`optax.adamw` or nadamw, timed in turns with the baseline. In JAX an update is one compiled function whose buffers are
donated. Times are medians over the rounds, as are ratios.

Of SAM it is the climb and the step: the second pass is the model's, which takes as long as the first. Of Shampoo it is
the mean over a whole period of steps, in one of which the roots are computed, on one device.

Prints JSON. `optimizer_cost.py FRAMEWORK` measures one framework.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from algoperf import registry
from algoperf.search import as_hyperparameters
from algoperf.spec import Framework, ParameterType
from algoperf.submission import load, locate
from algoperf.testing.frameworks import is_installed
from algoperf_baselines.shampoo.blocks import ROOT_PERIOD_STEPS, START_STEP

LAYERS, WIDTH = 12, 256
POINT = {
    "learning_rate": 1e-3,
    "one_minus_beta1": 0.1,
    "beta2": 0.99,
    "one_minus_beta3": 1e-3,
    "alpha": 2.0,
    "warmup_factor": 0.05,
    "decay_steps_factor": 0.9,
    "end_factor": 0.01,
    "weight_decay": 0.01,
    "rho": 0.05,
}
SHAPES = {
    f"layer_{i}_{name}": shape
    for i in range(LAYERS)
    for name, shape in {"attention": (WIDTH, WIDTH), "dense": (WIDTH, 4 * WIDTH), "bias": (4 * WIDTH,)}.items()
}
NUM_PARAMETERS = sum(int(np.prod(shape)) for shape in SHAPES.values())
# Others with a point.
LEFT_OUT = ("nadamw_self_tuning", "schedule_free_adamw_self_tuning")
PLAIN = dict.fromkeys(("nadamw", "sam", "shampoo"), "plain_nadamw")

Update = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How an optimizer is timed: rounds of some steps each, after steps that are not timed."""

    warmup_steps: int = 4
    steps: int = 4
    rounds: int = 15


# The first step with roots and those until the next.
TIMINGS = {"shampoo": Timing(warmup_steps=START_STEP - 1, steps=ROOT_PERIOD_STEPS, rounds=1)}


def arrays(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: 0.02 * rng.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}


def initial_state(name: str, framework: Framework, params: Any) -> Any:
    kinds = {key: ParameterType.WEIGHT if len(shape) > 1 else ParameterType.BIAS for key, shape in SHAPES.items()}
    workload = SimpleNamespace(step_hint=10_000, model_params_types=kinds, is_output_params=lambda key: False)
    submission = load(locate(name, framework))
    return submission.init_optimizer_state(workload, params, None, as_hyperparameters(POINT), None)


def jax_update(name: str) -> Update:
    import jax
    import optax

    params, grads = jax.device_put(arrays(0)), jax.device_put(arrays(1))
    if name.startswith("plain_"):
        plain = {"plain_adamw": optax.adamw, "plain_nadamw": optax.nadamw}[name](1e-3, weight_decay=0.01)
        state, update = plain.init(params), optax.with_extra_args_support(plain).update
    else:
        state, update = initial_state(name, Framework.JAX, params)
        state = state[0] if name == "schedule_free_adamw" else state

    def step(state: Any, params: Any, grads: Any) -> Any:
        # Where gradients are asked for is an output, or XLA would leave out what SAM does to come there.
        places: list[Any] = []

        def grad_fn(params: Any, _: int) -> Any:
            places.append(params)
            return grads

        updates, state = update(grads, state, params, grad_fn=grad_fn)
        return (state, optax.apply_updates(params, updates)), places

    compiled, held = jax.jit(step, donate_argnums=(0, 1)), [(state, jax.tree.map(lambda x: x.copy(), params))]

    def run() -> Any:
        held[0], _ = jax.block_until_ready(compiled(*held[0], grads))

    return run


def torch_update(name: str) -> Update:
    import torch

    from algoperf_baselines import _pytorch
    from algoperf_baselines.sam import pytorch as sam

    torch.set_num_threads(1)
    module = torch.nn.Module()
    grads = arrays(1)
    for key, value in arrays(0).items():
        module.register_parameter(key, torch.nn.Parameter(torch.tensor(value)))
        module.get_parameter(key).grad = torch.tensor(grads[key])
    if name == "plain_adamw":
        return torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.01).step
    if name == "plain_nadamw":
        optimizer = torch.optim.NAdam(module.parameters(), lr=1e-3, weight_decay=0.01, decoupled_weight_decay=True)
        return optimizer.step
    state = initial_state(name, Framework.PYTORCH, module)
    take_gradients = sam.take_gradients if name == "sam" else _pytorch.take_gradients

    def run() -> None:
        take_gradients(lambda update_batch_norm: None, module, as_hyperparameters(POINT))
        state["optimizer"].step()
        state["scheduler"].step()

    return run


def seconds(update: Update, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        update()
    return (time.perf_counter() - start) / steps


def measure(framework: Framework) -> dict[str, Any]:
    make = jax_update if framework is Framework.JAX else torch_update
    found: dict[str, Any] = {}
    for name in registry.submission_names():
        if name in LEFT_OUT or registry.submission_spec(name).package != f"algoperf_baselines.{name}":
            continue
        timing, plain = TIMINGS.get(name, Timing()), PLAIN.get(name, "plain_adamw")
        pair = make(name), make(plain)
        for update in pair:
            seconds(update, timing.warmup_steps)
        rounds = [[seconds(update, timing.steps) for update in pair] for _ in range(timing.rounds)]
        found[name] = {
            "ns_per_parameter": round(statistics.median(own for own, _ in rounds) / NUM_PARAMETERS * 1e9, 2),
            "ratio": round(statistics.median(own / other for own, other in rounds), 2),
            "to": plain,
        }
    return found


def main() -> None:
    if len(sys.argv) == 2:
        print(json.dumps(measure(Framework(sys.argv[1]))))
        return
    result: dict[str, Any] = {"benchmark": "optimizer_cost", "parameters": NUM_PARAMETERS}
    for framework in [f for f in Framework if is_installed(f)]:
        command = [sys.executable, __file__, framework.value]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        result[framework.value] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
