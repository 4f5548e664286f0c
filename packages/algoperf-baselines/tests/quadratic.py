"""Baselines one update at a time, on a quadratic of a few small arrays."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from algoperf.search import as_hyperparameters
from algoperf.spec import Framework, ParameterType
from algoperf.submission import load, locate
from algoperf.testing.frameworks import require

NUM_STEPS = 20
STEP_HINT = 40
# What any of the rules asks for; each is there to be seen in 20 steps.
POINT = {
    "learning_rate": 0.01,
    "one_minus_beta1": 0.1,
    "beta2": 0.99,
    "one_minus_beta3": 0.02,
    "alpha": 3.0,
    "warmup_factor": 0.1,
    "decay_steps_factor": 0.4,
    "end_factor": 0.3,
    "weight_decay": 0.1,
}
# Shapes in JAX and types of parameters; `to_torch` says how they lie in PyTorch.
PARAMS = {
    "matrix": ((6, 5), ParameterType.WEIGHT),
    "kernel": ((2, 2, 4, 5), ParameterType.CONV_WEIGHT),
    "vector": ((7,), ParameterType.BIAS),
    "scalar": ((), ParameterType.LAYER_NORM_SCALE),
    "embedding": ((11, 4), ParameterType.EMBEDDING),
    "output": ((5, 3), ParameterType.WEIGHT),
}
MATRICES = ("matrix", "kernel")
AXES = {2: (1, 0), 4: (3, 2, 0, 1)}


def to_torch(x: np.ndarray) -> np.ndarray:
    """Outputs first."""
    return np.ascontiguousarray(x.transpose(AXES.get(x.ndim, range(x.ndim))))


def from_torch(x: np.ndarray) -> np.ndarray:
    return x.transpose(np.argsort(AXES.get(x.ndim, range(x.ndim))))


def numbers(seed: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: np.asarray(scale * rng.standard_normal(shape), np.float32) for name, (shape, _) in PARAMS.items()}


def gradients(params: dict[str, np.ndarray], step: int) -> dict[str, np.ndarray]:
    """Of a quadratic of which each direction is as steep as it likes. Some rows of the embedding are not in a batch."""
    centre, steepness = numbers(1), numbers(2)
    found = {name: steepness[name] ** 2 * (params[name] - centre[name]) for name in PARAMS}
    found["embedding"][step % 3 :: 3] = 0
    return found


def workload() -> Any:
    return SimpleNamespace(
        step_hint=STEP_HINT,
        model_params_types={name: kind for name, (_, kind) in PARAMS.items()},
        is_output_params=lambda name: name == "output",
    )


class InJax:
    def __init__(self, name: str, params: dict[str, np.ndarray], hyperparameters: Any) -> None:
        import jax

        self._module = load(locate(name, Framework.JAX))
        self._optimizer = self._module.init_optimizer_state(workload(), params, None, hyperparameters, None)
        self.params = params
        self._update = jax.jit(self._optimizer[1])
        # Schedule-free algorithms keep what is evaluated beside it.
        self.state = self._optimizer[0][0] if name == "schedule_free_adamw" else self._optimizer[0]

    @property
    def average(self) -> dict[str, np.ndarray]:
        _, params, _ = self._module.prepare_for_eval(
            optimizer_state=((self.state, None), None), current_param_container=self.params, model_state=None
        )
        return {name: np.asarray(p) for name, p in params.items()}

    def step(self, gradients: dict[str, np.ndarray]) -> None:
        import optax

        updates, self.state = self._update(gradients, self.state, self.params)
        self.params = {name: np.asarray(p) for name, p in optax.apply_updates(self.params, updates).items()}


class InTorch:
    def __init__(self, name: str, params: dict[str, np.ndarray], hyperparameters: Any) -> None:
        from torch import nn, tensor

        self.module = nn.Module()
        for key, p in params.items():
            self.module.register_parameter(key, nn.Parameter(tensor(to_torch(p))))
        self._module = load(locate(name, Framework.PYTORCH))
        self.state = self._module.init_optimizer_state(workload(), self.module, None, hyperparameters, None)

    @property
    def params(self) -> dict[str, np.ndarray]:
        return {name: from_torch(p.detach().numpy().copy()) for name, p in self.module.named_parameters()}

    @property
    def average(self) -> dict[str, np.ndarray]:
        self.state, self.module, _ = self._module.prepare_for_eval(
            optimizer_state=self.state, current_param_container=self.module, model_state=None
        )
        return self.params

    def step(self, gradients: dict[str, np.ndarray]) -> None:
        from torch import tensor

        for name, gradient in gradients.items():
            self.module.get_parameter(name).grad = tensor(to_torch(gradient))
        self.state["optimizer"].step()
        self.state["scheduler"].step()


def begin(name: str, framework: Framework, params: dict[str, np.ndarray], **changes: float) -> Any:
    """A baseline in a framework: `params` as they lie in JAX, `step` with gradients, `average`, which is evaluated."""
    require(framework)
    return (InJax if framework is Framework.JAX else InTorch)(name, params, as_hyperparameters(POINT | changes))


def train(algorithm: Any) -> dict[str, np.ndarray]:
    """The parameters after all steps."""
    for step in range(NUM_STEPS):
        algorithm.step(gradients(algorithm.params, step))
    return {name: np.atleast_1d(p) for name, p in algorithm.params.items()}
