"""Batch norm of padded frames in JAX: which statistics normalise, which move, and that devices do not matter."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

require(Framework.JAX)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from speech_models_jax import EVAL, TRAIN, forward, loss_and_gradients, make, make_batch  # noqa: E402

from algoperf_librispeech.jax_layers import BatchNorm  # noqa: E402

NAMES = ["librispeech_conformer", "librispeech_deepspeech"]
BATCH, OTHER = make_batch(96, [90, 60]), make_batch(96, [50, 88])

every_model = pytest.mark.parametrize("name", NAMES)
case_of = cache(make)


def noisy_norm(width: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(width, np.float32) for name in ("scale", "bias")}
    statistics = {"mean": rng.standard_normal(width, np.float32), "var": rng.random(width, np.float32) + 1}
    return {"params": params, "batch_stats": statistics}


def test_statistics_are_those_of_real_frames() -> None:
    rng, norm, variables = np.random.default_rng(1), BatchNorm(0.75), noisy_norm(3)
    # Far from zero, where a careless variance loses its digits.
    x = (rng.standard_normal((2, 7, 3)) * [0.1, 1, 2] + 100).astype(np.float32)
    mask = (np.arange(7) < np.array([[7], [4]])).astype(np.float32)[..., None]
    x[1, 4:] = 1e6
    real = np.concatenate([x[0], x[1, :4]]).astype(np.float64)
    y, moved = norm.apply(variables, x, mask, False, mutable=["batch_stats"])
    before, after, params = variables["batch_stats"], moved["batch_stats"], variables["params"]
    np.testing.assert_allclose(after["mean"], 0.75 * before["mean"] + 0.25 * real.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(after["var"], 0.75 * before["var"] + 0.25 * real.var(axis=0), rtol=1e-4)
    expected = (x - real.mean(axis=0)) / np.sqrt(real.var(axis=0) + 1e-3) * (1 + params["scale"]) + params["bias"]
    np.testing.assert_allclose(y, expected * mask, rtol=1e-3, atol=1e-3)
    assert (y[1, 4:] == 0).all()
    # Running statistics.
    y, still = norm.apply(variables, x, mask, True, mutable=["batch_stats"])
    expected = (x - before["mean"]) / np.sqrt(before["var"] + 1e-3) * (1 + params["scale"]) + params["bias"]
    np.testing.assert_allclose(y, expected * mask, rtol=1e-4, atol=1e-4)
    assert same(still["batch_stats"], before)


def test_padding_alone_has_no_statistics() -> None:
    x, norm, variables = jnp.ones((2, 4, 3)), BatchNorm(0.9), noisy_norm(3)

    def output(x: Any) -> Any:
        y, moved = norm.apply(variables, x, jnp.zeros((2, 4, 1)), False, mutable=["batch_stats"])
        return y.sum(), (y, moved)

    (_, (y, moved)), gradient = jax.value_and_grad(output, has_aux=True)(x)
    assert (y == 0).all()
    assert (gradient == 0).all()
    assert all(jnp.isfinite(array).all() for array in jax.tree.leaves(moved))


def same(one: Any, other: Any) -> bool:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)))


@every_model
def test_mode_and_update_decide_on_statistics(name: str) -> None:
    """What normalises is seen in logits: whether they depend on the other utterances of the batch."""
    case = case_of(name)
    joined = jax.tree.map(lambda a, b: np.stack([a[0], b[1]]), BATCH, OTHER)
    (still, _), state = forward(case, BATCH, TRAIN)
    assert same(state, case.state)
    (moved, _), state = forward(case, BATCH, TRAIN, update=True)
    assert not any(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(case.state)))
    kinds = [jax.tree.map(lambda a: (a.shape, a.dtype), one) for one in (state, case.state)]
    assert kinds[0] == kinds[1]
    assert {a.shape for a in jax.tree.leaves(state)} == {(case.workload.spec.model.width,)}
    # Batch statistics normalise in training, whether or not they move the running ones.
    np.testing.assert_allclose(still, moved, rtol=0, atol=1e-6)
    assert abs(forward(case, joined, TRAIN)[0][0][0] - moved[0]).max() > 1e-3
    # Running ones normalise in evaluation, and stay as they are.
    case = case._replace(state=state)
    (evaluated, _), after = forward(case, BATCH, EVAL)
    np.testing.assert_allclose(forward(case, joined, EVAL)[0][0][0], evaluated[0], rtol=0, atol=1e-5)
    assert abs(evaluated - moved).max() > 1e-3
    assert same(after, state)
    with pytest.raises(ValueError, match="EVAL mode"):
        forward(case, BATCH, EVAL, update=True)


@every_model
def test_running_statistics_may_be_demanded(name: str) -> None:
    case = case_of(name)
    case = case._replace(state=forward(case, BATCH, TRAIN, update=True)[1])
    (evaluated, _), _ = forward(case, OTHER, EVAL)
    (found, _), state = forward(case, OTHER, TRAIN, update=True, running=True)
    np.testing.assert_allclose(found, evaluated, rtol=0, atol=1e-5)
    assert same(state, case.state)
    (trained, _), _ = forward(case, OTHER, TRAIN)
    (found, _), state = forward(case, OTHER, EVAL, running=False)
    np.testing.assert_allclose(found, trained, rtol=0, atol=1e-5)
    assert abs(trained - evaluated).max() > 1e-3
    assert same(state, case.state)


def test_layer_norms_leave_no_statistics() -> None:
    case = case_of("librispeech_deepspeech_norm_and_spec_aug")
    assert case.state is None
    (logits, _), state = forward(case, BATCH, TRAIN, update=True)
    assert state is None
    assert np.isfinite(logits).all()


def step(name: str) -> Any:
    """What a training step makes of a batch that can be divided, one row of which is padding."""
    case = case_of(name)
    batch = make_batch(96, [90, 0, 44, 61], [5, 0, 3, 4])
    return loss_and_gradients(case, case.workload.backend.place_batch(batch), TRAIN)


ON_FOUR_DEVICES = """
import sys
sys.path.insert(0, {folder!r})
import jax, numpy as np
import test_batch_norm_jax as here
assert jax.device_count() == 4
np.savez({path!r}, *jax.tree.leaves(here.step({name!r})))
"""


@pytest.mark.parametrize("name", ["librispeech_conformer", "librispeech_deepspeech_tanh"])
def test_a_step_does_not_depend_on_the_number_of_devices(name: str, tmp_path: Path) -> None:
    path = str(tmp_path / "step.npz")
    code = ON_FOUR_DEVICES.format(folder=os.path.dirname(__file__), path=path, name=name)
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    expected = jax.tree.leaves(step(name))
    with np.load(path) as arrays:
        found = list(arrays.values())
    for one, other in zip(found, expected, strict=True):
        # Sums in another order; statistics of a part of the batch would be off by a tenth. Gradients of attention's key
        # biases are zero but for rounding.
        assert np.linalg.norm(one - other) < 2e-5 * max(np.linalg.norm(other), 0.1)
