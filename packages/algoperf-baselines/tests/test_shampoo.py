"""Distributed Shampoo: one rule in both frameworks, and its roots."""

import itertools
import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf.spec import Framework
from algoperf.testing.frameworks import BOTH, require
from algoperf_baselines.shampoo import blocks
from algoperf_baselines.shampoo.blocks import EPSILON, Blocks

Arrays = dict[str, np.ndarray]

LR, B1, B2, EPS, WEIGHT_DECAY = 0.02, 0.9, 0.95, 1e-8, 0.1
OPTIONS = {"block_size": 4, "start_step": 4, "root_period_steps": 3}
SHAPES = {"matrix": (3, 4), "tall": (10, 3), "kernel": (3, 3, 2, 5), "row": (1, 6), "vector": (5,), "scalar": ()}


def _numbers(seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def _gradients(params: Arrays) -> Arrays:
    """Of a quadratic whose minimum is at random numbers; steep along some parameters."""
    curvature, minimum = _numbers(1), _numbers(2)
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


class Plain:
    """The rule of `blocks` in float64, one block after the other."""

    def __init__(self, params: Arrays) -> None:
        self.params = {name: value.astype(np.float64) for name, value in params.items()}
        self.states: dict[str, Any] = {
            name: SimpleNamespace(m=np.zeros(value.shape), v=np.zeros(value.shape), L={}, R={})
            for name, value in params.items()
        }
        self.t = 0

    def step(self, gradients: Arrays) -> Arrays:
        self.t += 1
        for name, gradient in gradients.items():
            direction = self._direction(self.states[name], gradient.astype(np.float64))
            self.params[name] = self.params[name] - LR * (direction + WEIGHT_DECAY * self.params[name])
        return dict(self.params)

    def _direction(self, s: Any, g: np.ndarray) -> np.ndarray:
        s.m = B1 * s.m + (1 - B1) * g
        s.v = B2 * s.v + (1 - B2) * g**2
        u = B1 * s.m + (1 - B1) * g
        a = u / (1 - B1**self.t) / (np.sqrt(s.v / (1 - B2**self.t)) + EPS)
        if sum(size > 1 for size in g.shape) < 2:
            return a
        direction = np.array(a)
        for number, block in enumerate(_slices(g.shape)):
            axes = range(g.ndim)
            for i in axes:
                rows = np.moveaxis(g[block], i, 0).reshape(g[block].shape[i], -1)
                s.L[number, i] = B2 * s.L.get((number, i), 0.0) + (1 - B2) * rows @ rows.T
                if self.t >= OPTIONS["start_step"] and (self.t - OPTIONS["start_step"]) % 3 == 0:
                    s.R[number, i] = _root(s.L[number, i], 2 * g.ndim)
            if self.t >= OPTIONS["start_step"]:
                d = u[block]
                for i in axes:
                    d = np.moveaxis(np.tensordot(s.R[number, i], d, axes=(1, i)), 0, i)
                direction[block] = d * np.linalg.norm(a[block]) / np.linalg.norm(d)
        return direction


def _root(matrix: np.ndarray, p: int) -> np.ndarray:
    relative = matrix / np.linalg.eigvalsh(matrix).max() + EPSILON * np.eye(len(matrix))
    return scipy.linalg.fractional_matrix_power(relative, -1 / p)


def _slices(shape: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
    """Blocks of at most 4 along each dimension, as equal as can be, the last one smaller."""
    ends = []
    for size in shape:
        width = math.ceil(size / math.ceil(size / OPTIONS["block_size"]))
        ends.append([slice(i, min(i + width, size)) for i in range(0, size, width)])
    return itertools.product(*ends)


@pytest.mark.parametrize("framework", BOTH)
def test_takes_the_steps_of_the_rule(framework: Framework) -> None:
    params = _numbers(0)
    stepper, plain = Stepper(framework, params, **OPTIONS), Plain(params)
    for _ in range(20):
        params = stepper.step(_gradients(params))
        expected = plain.step(_gradients(plain.params))
        for name in SHAPES:
            np.testing.assert_allclose(params[name], expected[name], rtol=0, atol=1e-5, err_msg=name)
