"""The JAX baselines' optimizers, schedule and compiled step."""

import logging
import math
from types import SimpleNamespace
from typing import Any

import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

require(Framework.JAX)

import jax  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from algoperf_baselines import _jax  # noqa: E402
from algoperf_baselines.adamw import jax as adamw  # noqa: E402
from algoperf_baselines.nadamw import jax as nadamw  # noqa: E402

MODULES = {"adamw": adamw, "nadamw": nadamw}


@pytest.mark.parametrize("name", MODULES)
def test_steps_are_those_of_the_reference(name: str, case: Any) -> None:
    c = case(name, Framework.JAX)
    params = jax.tree.map(jax.numpy.asarray, c.params)
    init = MODULES[name].init_optimizer_state
    state, update = init(c.workload, params, None, c.hyperparameters, None)
    for gradients, expected in zip(c.gradients, c.expected, strict=True):
        updates, state = update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        for key in expected:
            np.testing.assert_allclose(params[key], expected[key], rtol=0, atol=1e-6)


def test_schedule_is_linear_then_a_cosine() -> None:
    schedule = _jax.warmup_cosine(SimpleNamespace(step_hint=200), SimpleNamespace(learning_rate=2.0, warmup_factor=0.1))
    values = [float(schedule(step)) for step in (0, 5, 20, 65, 110, 200, 300)]
    quarter = 1.0 + math.cos(math.pi / 4)
    assert values == pytest.approx([0.0, 0.5, 2.0, quarter, 1.0, 0.0, 0.0], abs=1e-6)


def test_gradients_are_clipped_to_a_global_norm(start: Any) -> None:
    run = start("adamw", Framework.JAX, grad_clip=0.01)
    run.step()
    (_, (adam, *_)), _ = run.state[0]
    norm = optax.tree.norm(adam.mu) / run.hyperparameters.one_minus_beta1
    assert float(norm) == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("name", [*MODULES, "sam", "schedule_free_adamw", "shampoo"])
def test_the_step_is_compiled_once(name: str, start: Any, caplog: pytest.LogCaptureFixture) -> None:
    run = start(name, Framework.JAX, label_smoothing=0.1, dropout_rate=0.1)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for _ in range(5):
            run.step()
    compiled = [r for r in caplog.messages if r.startswith("Finished XLA compilation of")]
    assert len(compiled) == 1, compiled
    assert "train_step" in compiled[0]
