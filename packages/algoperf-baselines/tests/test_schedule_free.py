"""Schedule-free AdamW between evaluations: what is averaged, where statistics belong, that training does not notice."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoperf.spec import ForwardPassMode, Framework
from algoperf.submission import load, locate
from algoperf.testing.frameworks import BOTH, require

NAME = "schedule_free_adamw"
INPUTS = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
POINT = SimpleNamespace(
    learning_rate=0.3, one_minus_beta1=0.3, beta2=0.9, warmup_factor=0.0, weight_decay=0.1, dropout_rate=0.25
)
MOMENTUM = 0.75


@pytest.mark.parametrize("framework", BOTH)
def test_evaluations_do_not_change_training(start: Any, framework: Framework) -> None:
    evaluated, other = start(NAME, framework, dropout_rate=0.1), start(NAME, framework, dropout_rate=0.1)
    for step in range(6):
        evaluated.step(), other.step()
        for _ in range(step % 3):
            evaluated.prepare_for_eval()
    for found, expected in zip(evaluated.arrays().values(), other.arrays().values(), strict=True):
        assert not np.array_equal(found, expected)
    other.prepare_for_eval()
    for found, expected in zip(evaluated.arrays().values(), other.arrays().values(), strict=True):
        np.testing.assert_array_equal(found, expected)


class Statistics:
    """A workload whose state is a moving average of the parameters of its passes, as that of batch norm would be.

    `rates` are the dropout rates of its passes; in JAX, of those that were traced.
    """

    step_hint, metrics_logger, loss_type, model_params_types = 10, None, None, None

    def __init__(self, move: Callable[[Any, Any], Any]) -> None:
        self._move = move
        self.rates: list[Any] = []

    def model_fn(
        self,
        params: Any,
        augmented_and_preprocessed_input_batch: Any,
        model_state: Any,
        mode: ForwardPassMode,
        rng: Any,
        update_batch_norm: bool,
        dropout_rate: Any,
    ) -> tuple[Any, Any]:
        assert mode is ForwardPassMode.TRAIN
        self.rates.append(dropout_rate)
        w, logits = self._forward(params, augmented_and_preprocessed_input_batch["inputs"])
        return logits, self._move(model_state, w) if update_batch_norm else model_state

    def _forward(self, params: Any, inputs: Any) -> tuple[Any, Any]:
        w = params["w"] if isinstance(params, dict) else params.w
        return w, (inputs - w) ** 2

    def loss_fn(
        self, label_batch: Any, logits_batch: Any, mask_batch: Any = None, label_smoothing: Any = 0.0
    ) -> dict[str, Any]:
        return {"summed": logits_batch.sum(), "n_valid_examples": label_batch.sum()}


def _jax() -> tuple[Statistics, Any, Any, Any]:
    import jax.numpy as jnp

    workload = Statistics(lambda state, w: {"mean": MOMENTUM * state["mean"] + (1 - MOMENTUM) * w})
    batch = {"inputs": jnp.array(INPUTS), "targets": jnp.ones(4)}
    return workload, batch, {"w": jnp.ones(6)}, {"mean": jnp.zeros(6)}


def _pytorch() -> tuple[Statistics, Any, Any, Any]:
    import torch

    model = torch.nn.Module()
    model.register_parameter("w", torch.nn.Parameter(torch.ones(6)))
    model.register_buffer("running_mean", torch.zeros(6))

    def move(state: None, w: torch.Tensor) -> None:
        model.get_buffer("running_mean").lerp_(w.detach(), 1 - MOMENTUM)

    return Statistics(move), {"inputs": torch.tensor(INPUTS), "targets": torch.ones(4)}, model, None


@pytest.mark.parametrize("framework", BOTH)
def test_statistics_are_those_of_the_average(framework: Framework) -> None:
    require(framework)
    workload, batch, params, model_state = _jax() if framework is Framework.JAX else _pytorch()
    submission = load(locate(NAME, framework))
    assert submission.prepare_for_eval is not None
    state = submission.init_optimizer_state(workload, params, model_state, POINT, None)
    expected = np.zeros(6)
    for step in range(4):
        common = {"workload": workload, "hyperparameters": POINT, "global_step": step, "rng": np.zeros(2, np.uint32)}
        common |= {"current_params_types": None, "loss_type": None, "eval_results": []}
        state, params, model_state = submission.update_params(
            **common, current_param_container=params, model_state=model_state, batch=batch, optimizer_state=state
        )
        state, params, model_state = submission.prepare_for_eval(
            **common, current_param_container=params, model_state=model_state, optimizer_state=state
        )
        x = params["w"] if framework is Framework.JAX else params.w.detach().numpy()
        expected = MOMENTUM * expected + (1 - MOMENTUM) * np.asarray(x)
    found = model_state["mean"] if framework is Framework.JAX else params.running_mean
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    if framework is Framework.PYTORCH:
        assert workload.rates == [POINT.dropout_rate] * 8


@given(step=st.integers(1, 300), warmup_steps=st.integers(1, 100))
def test_weights_of_the_average_are_shares_of_squared_learning_rates(step: int, warmup_steps: int) -> None:
    require(Framework.PYTORCH)
    from algoperf_baselines.schedule_free_adamw.pytorch import average_weight

    squares = [min(1.0, t / warmup_steps) ** 2 for t in range(1, step + 1)]
    assert average_weight(step, warmup_steps) == pytest.approx(squares[-1] / sum(squares))
