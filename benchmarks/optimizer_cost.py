"""Own cost of the baselines: nanoseconds that one update takes per parameter, without any model.

The parameters are those of a small transformer, 12 layers of matrices and vectors, with gradients that stay the same.
`ratio` is to the plain optimizer of the framework's library that does the nearest, `torch.optim.AdamW` or NAdam,
`optax.adamw` or nadamw, timed in turns with the baseline. In JAX an update is one compiled function whose buffers are
donated. Times are medians over the rounds, as are ratios.

Prints JSON. `optimizer_cost.py FRAMEWORK` measures one framework.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from algoperf import registry
from algoperf.search import as_hyperparameters
from algoperf.spec import Framework, ParameterType
from algoperf.submission import load, locate
from algoperf.testing.frameworks import is_installed

LAYERS, WIDTH = 12, 256
ROUNDS, STEPS = 15, 4
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
}
SHAPES = {
    f"layer_{i}_{name}": shape
    for i in range(LAYERS)
    for name, shape in {"attention": (WIDTH, WIDTH), "dense": (WIDTH, 4 * WIDTH), "bias": (4 * WIDTH,)}.items()
}
NUM_PARAMETERS = sum(int(np.prod(shape)) for shape in SHAPES.values())
# What SAM and Shampoo cost lies elsewhere: in a second pass, and in roots every so many steps. The self-tuning ones are
# others with a point.
LEFT_OUT = ("sam", "shampoo", "nadamw_self_tuning", "schedule_free_adamw_self_tuning")
PLAIN = {"adamw": "plain_adamw", "nadamw": "plain_nadamw"}

Update = Callable[[], Any]


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
    if name in PLAIN.values():
        plain = {"plain_adamw": optax.adamw, "plain_nadamw": optax.nadamw}[name](1e-3, weight_decay=0.01)
        state, update = plain.init(params), plain.update
    else:
        state, update = initial_state(name, Framework.JAX, params)
        state = state[0] if name == "schedule_free_adamw" else state

    def step(state: Any, params: Any, grads: Any) -> Any:
        updates, state = update(grads, state, params)
        return state, optax.apply_updates(params, updates)

    compiled, held = jax.jit(step, donate_argnums=(0, 1)), [(state, jax.tree.map(lambda x: x.copy(), params))]

    def run() -> Any:
        held[0] = jax.block_until_ready(compiled(*held[0], grads))

    return run


def torch_update(name: str) -> Update:
    import torch

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

    def run() -> None:
        state["optimizer"].step()
        state["scheduler"].step()

    return run


def seconds(update: Update) -> float:
    start = time.perf_counter()
    for _ in range(STEPS):
        update()
    return (time.perf_counter() - start) / STEPS


def measure(framework: Framework) -> dict[str, Any]:
    make = jax_update if framework is Framework.JAX else torch_update
    found: dict[str, Any] = {}
    for name in registry.submission_names():
        if name in LEFT_OUT or registry.submission_spec(name).package != f"algoperf_baselines.{name}":
            continue
        pair = make(name), make(PLAIN.get(name, "plain_adamw"))
        for update in pair:
            seconds(update)
        rounds = [[seconds(update) for update in pair] for _ in range(ROUNDS)]
        found[name] = {
            "ns_per_parameter": round(statistics.median(own for own, _ in rounds) / NUM_PARAMETERS * 1e9, 2),
            "ratio": round(statistics.median(own / plain for own, plain in rounds), 2),
            "to": PLAIN.get(name, "plain_adamw"),
        }
    return found


def main() -> None:
    if len(sys.argv) == 2:
        print(json.dumps(measure(Framework(sys.argv[1]))))
        return
    result: dict[str, Any] = {"benchmark": "optimizer_cost", "parameters": NUM_PARAMETERS, "rounds": ROUNDS}
    for framework in [f for f in Framework if is_installed(f)]:
        command = [sys.executable, __file__, framework.value]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        result[framework.value] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
