"""Sharpness-aware minimization: two passes a step, at the right places, also on several devices."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from algoperf.spec import Framework
from algoperf.submission import load, locate
from algoperf.testing.frameworks import BOTH, require

INPUTS = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
STEEPNESS = (0.1, 0.5, 1.0, 1.5, 2.0, 5.0)
NUM_STEPS = 5
POINT = SimpleNamespace(
    learning_rate=0.05, one_minus_beta1=0.1, beta2=0.99, warmup_factor=0.0, weight_decay=0.1, rho=0.3, grad_clip=2.0
)


class Quadratic:
    """A workload whose losses are squared distances of a vector to the examples, times the steepness.

    Its state says how often a pass has updated the statistics of batch norm. `passes` are those that were traced.
    """

    step_hint, metrics_logger, loss_type, model_params_types = 10**8, None, None, None

    def __init__(self, forward: Callable[[Any, Any], Any]) -> None:
        self._forward = forward
        self.passes: list[bool] = []

    def model_fn(
        self,
        params: Any,
        augmented_and_preprocessed_input_batch: Any,
        model_state: Any,
        mode: Any,
        rng: Any,
        update_batch_norm: bool,
        dropout_rate: Any,
    ) -> Any:
        self.passes.append(update_batch_norm)
        losses = self._forward(params, augmented_and_preprocessed_input_batch["inputs"])
        return losses, model_state + update_batch_norm

    def loss_fn(self, label_batch: Any, logits_batch: Any, **unused: Any) -> Any:
        return {"summed": logits_batch.sum(), "n_valid_examples": (logits_batch * 0 + 1).sum()}


def _plain() -> np.ndarray:
    """Algorithm 1 of arXiv 2010.01412 around NAdamW, in float64."""
    h, steepness, centre = POINT, np.array(STEEPNESS), INPUTS.astype(np.float64).mean(axis=0)
    w, m, v, b1 = np.ones(6), 0.0, 0.0, 1 - h.one_minus_beta1
    for t in range(1, NUM_STEPS + 1):
        g = steepness * (w - centre)
        g = steepness * (w + h.rho * g / np.linalg.norm(g) - centre)
        g = g * min(1.0, h.grad_clip / np.linalg.norm(g))
        m, v = b1 * m + (1 - b1) * g, h.beta2 * v + (1 - h.beta2) * g**2
        momentum, variance = (b1 * m + (1 - b1) * g) / (1 - b1**t), v / (1 - h.beta2**t)
        w = w - h.learning_rate * (momentum / (np.sqrt(variance) + 1e-8) + h.weight_decay * w)
    return w


def _jax() -> tuple[Any, ...]:
    import jax.numpy as jnp

    from algoperf.jax_sharding_utils import replicate

    def forward(params: Any, inputs: Any) -> Any:
        return 0.5 * (jnp.array(STEEPNESS) * (params["w"] - inputs) ** 2).sum(axis=1)

    params, model_state = replicate(({"w": jnp.ones(6)}, jnp.zeros([], jnp.int32)))
    return Quadratic(forward), params, model_state, {"inputs": INPUTS, "targets": INPUTS}


def _pytorch(rank: int = 0, num_processes: int = 1) -> tuple[Any, ...]:
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(6))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return 0.5 * (torch.tensor(STEEPNESS) * (self.w - inputs) ** 2).sum(dim=1)

    model: torch.nn.Module = Model()
    if num_processes > 1:
        model = torch.nn.parallel.DistributedDataParallel(model)
    inputs = torch.tensor(INPUTS[rank::num_processes])
    return Quadratic(lambda model, inputs: model(inputs)), model, 0, {"inputs": inputs, "targets": inputs}


def check_steps(framework: Framework, workload: Any, params: Any, model_state: Any, batch: Any) -> None:
    sam = load(locate("sam", framework))
    optimizer_state = sam.init_optimizer_state(workload, params, model_state, POINT, None)
    for step in range(NUM_STEPS):
        optimizer_state, params, model_state = sam.update_params(
            workload=workload,
            current_param_container=params,
            current_params_types=None,
            model_state=model_state,
            hyperparameters=POINT,
            batch=batch,
            loss_type=None,
            optimizer_state=optimizer_state,
            eval_results=[],
            global_step=step,
            rng=np.zeros(2, np.uint32),
        )
    w = params["w"] if framework is Framework.JAX else next(params.parameters()).detach()
    np.testing.assert_allclose(w, _plain(), rtol=0, atol=1e-6)
    # In JAX the step is traced once.
    assert workload.passes == [True, False] * (1 if framework is Framework.JAX else NUM_STEPS)
    assert int(model_state) == NUM_STEPS


@pytest.mark.parametrize("framework", BOTH)
def test_takes_the_steps_of_the_rule_and_updates_batch_norm_once_a_step(framework: Framework) -> None:
    require(framework)
    check_steps(framework, *(_jax() if framework is Framework.JAX else _pytorch()))


@pytest.mark.parametrize("framework", BOTH)
def test_climbs_along_the_gradient_of_all_devices(framework: Framework, tmp_path: Path) -> None:
    require(framework)
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    ranks = [0] if framework is Framework.JAX else [0, 1]
    processes = [
        subprocess.Popen([sys.executable, __file__, framework, str(rank), str(tmp_path / "store")], env=environment)
        for rank in ranks
    ]
    assert [process.wait(timeout=120) for process in processes] == [0] * len(ranks)


@pytest.mark.parametrize("framework", BOTH)
def test_is_nadamw_where_rho_is_0_with_the_same_dropout(start: Any, framework: Framework) -> None:
    sam, nadamw = (start(name, framework, rho=0.0, dropout_rate=0.5) for name in ("sam", "nadamw"))
    for _ in range(3):
        sam.step(), nadamw.step()
    for found, expected in zip(sam.arrays().values(), nadamw.arrays().values(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("framework", BOTH)
def test_stays_finite_where_all_gradients_are_0(framework: Framework, monkeypatch: pytest.MonkeyPatch) -> None:
    require(framework)
    monkeypatch.setattr(sys.modules[__name__], "STEEPNESS", (0.0,) * 6)
    monkeypatch.setattr(sys.modules[__name__], "_plain", lambda: np.full(6, (1 - 0.05 * 0.1) ** NUM_STEPS))
    check_steps(framework, *(_jax() if framework is Framework.JAX else _pytorch()))


if __name__ == "__main__":
    if sys.argv[1] == Framework.JAX:
        import jax

        assert jax.device_count() == 2
        check_steps(Framework.JAX, *_jax())
    else:
        import torch.distributed as dist

        dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=int(sys.argv[2]), world_size=2)
        check_steps(Framework.PYTORCH, *_pytorch(int(sys.argv[2]), 2))
        dist.destroy_process_group()
