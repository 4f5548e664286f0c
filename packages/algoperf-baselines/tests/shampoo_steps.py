"""Shampoo's steps on a quadratic, in each framework."""

from collections.abc import Callable
from typing import Any

import numpy as np

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

Arrays = dict[str, np.ndarray]

LR, B1, B2, EPS, WEIGHT_DECAY = 0.02, 0.9, 0.95, 1e-8, 0.1
OPTIONS = {"block_size": 4, "start_step": 4, "root_period_steps": 3}
SHAPES = {
    "matrix": (3, 4), "tall": (10, 3), "embedding": (13, 3), "kernel": (3, 3, 2, 5), "row": (1, 6), "vector": (5,),
    "scalar": (),
}  # fmt: skip


def numbers(seed: int) -> Arrays:
    """Random parameters."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def gradients(params: Arrays) -> Arrays:
    """Of a quadratic whose minimum is at random numbers; steep along some parameters."""
    curvature, minimum = numbers(1), numbers(2)
    return {name: np.exp(curvature[name]) * (value - minimum[name]) for name, value in params.items()}


class Stepper:
    """Shampoo in one framework, given gradients as numpy arrays."""

    def __init__(self, framework: Framework, params: Arrays, **options: int) -> None:
        require(framework)
        self.step: Callable[[Arrays], Arrays] = getattr(self, f"_{framework.value}")(params, options)

    def _jax(self, params: Arrays, options: Any) -> Callable[[Arrays], Arrays]:
        import jax
        import optax

        from algoperf_baselines.shampoo.jax import shampoo

        optimizer = shampoo(LR, B1, B2, EPS, WEIGHT_DECAY, **options)
        update = jax.jit(optimizer.update)
        self.params, self.state = jax.tree.map(jax.numpy.asarray, params), optimizer.init(params)

        def step(gradients: Arrays) -> Arrays:
            updates, self.state = update(gradients, self.state, self.params)
            self.params = optax.apply_updates(self.params, updates)
            return {name: np.asarray(value) for name, value in self.params.items()}

        return step

    def _pytorch(self, params: Arrays, options: Any) -> Callable[[Arrays], Arrays]:
        import torch

        from algoperf_baselines.shampoo.pytorch import Shampoo

        self.params = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in params.items()}
        self.state = Shampoo(self.params.values(), LR, (B1, B2), EPS, WEIGHT_DECAY, **options)

        def step(gradients: Arrays) -> Arrays:
            for name, gradient in gradients.items():
                self.params[name].grad = torch.tensor(gradient)
            self.state.step()
            return {name: value.detach().numpy().copy() for name, value in self.params.items()}

        return step
