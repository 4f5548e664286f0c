"""Distributed Shampoo: one rule in both frameworks, and its roots."""

import itertools
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from shampoo_steps import B1, B2, EPS, LR, OPTIONS, SHAPES, WEIGHT_DECAY, Arrays, Stepper, gradients, numbers

from algoperf.spec import Framework
from algoperf.testing.frameworks import BOTH, require
from algoperf_baselines.shampoo import blocks
from algoperf_baselines.shampoo.blocks import EPSILON, Blocks

LARGE_DIMENSION = 13
# Statistics of fewer columns than rows have small eigenvalues, which float32 gives to about EPSILON / 10.
ATOL = {"tall": 3e-5}


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
        axes = [i for i, size in enumerate(g.shape) if size < LARGE_DIMENSION]
        for number, block in enumerate(_slices(g.shape)):
            for i in axes:
                rows = np.moveaxis(g[block], i, 0).reshape(g[block].shape[i], -1)
                s.L[number, i] = B2 * s.L.get((number, i), 0.0) + (1 - B2) * rows @ rows.T
                if self.t >= OPTIONS["start_step"] and (self.t - OPTIONS["start_step"]) % 3 == 0:
                    s.R[number, i] = _root(s.L[number, i], 2 * len(axes))
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
    """Blocks of at most 4 along each dimension but large ones, as equal as can be, the last one smaller."""
    ends = []
    for size in shape:
        count = math.ceil(size / OPTIONS["block_size"]) if size < LARGE_DIMENSION else 1
        width = math.ceil(size / count)
        ends.append([slice(i, min(i + width, size)) for i in range(0, size, width)])
    return itertools.product(*ends)


@pytest.mark.parametrize("framework", BOTH)
def test_takes_the_steps_of_the_rule(framework: Framework, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "LARGE_DIMENSION", LARGE_DIMENSION)
    params = numbers(0)
    stepper, plain = Stepper(framework, params, **OPTIONS), Plain(params)
    for _ in range(20):
        params = stepper.step(gradients(params))
        expected = plain.step(gradients(plain.params))
        for name in SHAPES:
            np.testing.assert_allclose(params[name], expected[name], rtol=0, atol=ATOL.get(name, 3e-6), err_msg=name)


def _inverse_root(framework: Framework, matrices: np.ndarray, p: int) -> np.ndarray:
    require(framework)
    if framework is Framework.JAX:
        from algoperf_baselines.shampoo import jax as shampoo_jax

        return np.asarray(shampoo_jax.inverse_root(matrices, p))
    import torch

    from algoperf_baselines.shampoo import pytorch as shampoo_pytorch

    return shampoo_pytorch.inverse_root(torch.tensor(matrices), p).numpy()


def _statistics(seed: int, size: int, rank: int, log10: float = 0.0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((2, size, rank)) * 10 ** (log10 / 2)
    return (rows @ rows.swapaxes(1, 2)).astype(np.float32)


SIZES = st.sampled_from([1, 3, 6])
POWERS = st.sampled_from([2, 4, 8])
SEEDS = st.integers(0, 2**32 - 1)
KERNELS = st.lists(st.integers(1, 7), min_size=2, max_size=4).filter(lambda shape: sum(n > 1 for n in shape) > 1)


@pytest.mark.parametrize("framework", BOTH)
@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=SIZES, p=POWERS, log10=st.floats(-30, 30))
def test_roots_are_those_of_scipy(framework: Framework, seed: int, size: int, p: int, log10: float) -> None:
    matrices = _statistics(seed, size, 3 * size + 3, log10)
    for matrix, root in zip(matrices, _inverse_root(framework, matrices, p), strict=True):
        np.testing.assert_allclose(root, _root(matrix.astype(np.float64), p), rtol=0, atol=1e-4 * np.abs(root).max())


@pytest.mark.parametrize("framework", BOTH)
@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=SIZES, p=POWERS, rank=st.integers(0, 2), log10=st.floats(-45, 35))
def test_roots_of_singular_matrices_are_bounded(
    framework: Framework, seed: int, size: int, p: int, rank: int, log10: float
) -> None:
    matrices = _statistics(seed, size, rank, log10)
    values = np.linalg.eigvalsh(_inverse_root(framework, matrices, p))
    assert (values > 0.99).all()
    assert (values < 1.01 * EPSILON ** (-1 / p)).all()


@pytest.mark.parametrize("framework", BOTH)
def test_epsilon_is_relative_to_the_largest_eigenvalue(framework: Framework) -> None:
    (root,) = _inverse_root(framework, np.diag([3e5, 3e-7, 0.0]).astype(np.float32)[None], 2)
    # 0 is known up to the rounding of 1, a tenth of EPSILON.
    np.testing.assert_allclose(root, np.diag([1.0, EPSILON**-0.5, EPSILON**-0.5]), rtol=0.06, atol=1e-4)


@pytest.mark.parametrize("framework", BOTH)
def test_roots_of_statistics_that_are_next_to_0_in_part(framework: Framework) -> None:
    # As of rare words. Of the statistics themselves `torch.linalg.eigh` finds no eigenvalues on CPUs.
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((512, 4)) * 10.0 ** -rng.uniform(0, 30, (512, 1))
    values = np.linalg.eigvalsh(_inverse_root(framework, (rows @ rows.T).astype(np.float32), 4))
    assert (values > 0.99).all()
    assert (values < 1.01 * EPSILON ** (-1 / 4)).all()


@pytest.mark.parametrize("framework", BOTH)
@settings(max_examples=20, deadline=None)
@given(shape=KERNELS, block_size=st.integers(1, 8))
def test_blocks_hold_a_parameter_once(framework: Framework, shape: list[int], block_size: int) -> None:
    require(framework)
    found = Blocks.of(shape, block_size)
    x = np.arange(1.0, 1.0 + math.prod(shape), dtype=np.float32).reshape(shape)
    if framework is Framework.JAX:
        from algoperf_baselines.shampoo.jax import _join, _split

        split = np.asarray(_split(x, found))
        joined = np.asarray(_join(split, found))
    else:
        import torch

        from algoperf_baselines.shampoo.pytorch import _join, _split

        split = _split(torch.tensor(x), found).numpy()
        joined = _join(torch.tensor(split), found).numpy()
    assert split.shape == (math.prod(found.counts), *found.sizes)
    assert sorted(split[split > 0]) == x.flatten().tolist()
    assert joined.flatten().tolist() == x.flatten().tolist()
    assert all(size <= block_size for axis, size in enumerate(found.sizes) if axis in found.axes)


def test_which_preconditioners_there_are() -> None:
    assert Blocks.of((32_000, 1025)).statistics == [(2, 513, 513)]
    assert Blocks.of((1536, 384)).statistics == [(2, 768, 768), (2, 384, 384)]
    assert Blocks.of((1, 1, 64, 1)).statistics == []
    assert Blocks.of((4096, 4096)).statistics == []
    assert Blocks.of(()).statistics == []


@pytest.mark.parametrize("framework", BOTH)
@pytest.mark.parametrize("scale", [0.0, 1e-25, 1e-12, 1e15])
def test_gradients_of_any_size_and_of_rank_one_give_finite_steps(framework: Framework, scale: float) -> None:
    params = {"w": np.ones((6, 5), np.float32)}
    stepper = Stepper(framework, params, **OPTIONS)
    gradient = scale * np.outer(np.arange(6.0), np.arange(5.0)).astype(np.float32)
    for _ in range(8):
        before, params = params["w"], stepper.step({"w": gradient})
        # A step is about as long as one of Adam, after which the parameters decay.
        assert np.abs(params["w"] - before).max() < 10 * LR, scale


@pytest.mark.parametrize("framework", BOTH)
def test_a_trial_that_diverges_goes_on(framework: Framework) -> None:
    stepper = Stepper(framework, {"w": np.ones((6, 5), np.float32)}, **OPTIONS)
    for _ in range(5):
        params = stepper.step({"w": np.full((6, 5), np.nan, np.float32)})
    assert np.isnan(params["w"]).all()
