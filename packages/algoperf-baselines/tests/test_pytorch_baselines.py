"""The PyTorch baselines' optimizers, schedule and mean over processes."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

require(Framework.PYTORCH)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from algoperf_baselines import _pytorch, _pytorch_optimizer  # noqa: E402
from algoperf_baselines.adamw import pytorch as adamw  # noqa: E402
from algoperf_baselines.nadamw import pytorch as nadamw  # noqa: E402

MODULES = {"adamw": adamw, "nadamw": nadamw}


def _begin(name: str, c: Any) -> tuple[nn.ParameterDict, dict[str, Any]]:
    params = nn.ParameterDict({k: nn.Parameter(torch.tensor(v)) for k, v in c.params.items()})
    init = MODULES[name].init_optimizer_state
    return params, init(c.workload, params, None, c.hyperparameters, None)


def _step(params: nn.ParameterDict, optimizer: torch.optim.Optimizer, gradients: Any) -> None:
    for key, gradient in gradients.items():
        params[key].grad = torch.tensor(gradient)
    optimizer.step()


def _check(params: nn.ParameterDict, expected: Any) -> None:
    for key in expected:
        np.testing.assert_allclose(params[key].detach(), expected[key], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MODULES)
def test_steps_are_those_of_the_reference(name: str, case: Any) -> None:
    c = case(name, Framework.PYTORCH)
    params, state = _begin(name, c)
    for gradients, expected in zip(c.gradients, c.expected, strict=True):
        _step(params, state["optimizer"], gradients)
        state["scheduler"].step()
        _check(params, expected)


@pytest.mark.parametrize("name", MODULES)
def test_continues_from_its_state_dict(name: str, case: Any) -> None:
    c = case(name, Framework.PYTORCH)
    params, state = _begin(name, c)
    for gradients in c.gradients[:2]:
        _step(params, state["optimizer"], gradients)
        state["scheduler"].step()
    fresh_params, fresh = _begin(name, c)
    fresh_params.load_state_dict(params.state_dict())
    for key, value in state.items():
        fresh[key].load_state_dict(value.state_dict())
    _step(fresh_params, fresh["optimizer"], c.gradients[2])
    _check(fresh_params, c.expected[2])
    assert fresh["scheduler"].last_epoch == 2


def test_nadamw_takes_closures_and_leaves_parameters_without_gradient_alone() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = nadamw.NAdamW([used, unused], lr=0.1)

    def closure() -> float:
        loss = used.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 2.0
    assert (used < 1).all()
    assert (unused == 1).all()


@pytest.mark.parametrize("shape", [(), (1,), (7, 5), (2, 3, 4), (0, 3)])
def test_nadamw_in_blocks_is_nadamw_as_a_whole(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def train(block_size: int) -> torch.Tensor:
        monkeypatch.setattr(_pytorch_optimizer, "BLOCK_SIZE", block_size)
        generator = torch.Generator().manual_seed(0)
        param = nn.Parameter(torch.randn(shape, generator=generator))
        optimizer = nadamw.NAdamW([param], lr=0.1)
        for _ in range(3):
            param.grad = torch.randn(shape, generator=generator)
            optimizer.step()
        return param.detach()

    whole = train(10**6)
    for block_size in (1, 6, 11):
        assert torch.equal(train(block_size), whole)


def test_blocks_are_rows_of_all_that_an_update_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pytorch_optimizer, "BLOCK_SIZE", 11)
    param, grad, mu = torch.ones(7, 5), torch.ones(7, 5), torch.ones(7, 5)
    for p, g, state in _pytorch_optimizer._blocks(param, grad, {"mu": mu, "step": 3}):
        assert [len(p), len(g), len(state["mu"]), state["step"]] in ([2, 2, 2, 3], [1, 1, 1, 3])
        p += 1
    assert (param == 2).all()


def test_nadamw_takes_all_parameters_at_once_where_they_are_on_no_cpu() -> None:
    param = nn.Parameter(torch.ones(3, device="meta"))
    param.grad = torch.ones_like(param)
    optimizer = nadamw.NAdamW([param], lr=0.1)
    optimizer.step()
    assert optimizer.state[param]["step"] == 1


def test_schedule_is_linear_then_a_cosine() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    hyperparameters = SimpleNamespace(warmup_factor=0.1)
    state = _pytorch.initial_state(optimizer, SimpleNamespace(step_hint=200), hyperparameters)
    values = []
    for _ in range(301):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        state["scheduler"].step()
    quarter = 1.0 + math.cos(math.pi / 4)
    expected = [0.0, 0.5, 2.0, quarter, 1.0, 0.0, 0.0]
    assert [values[step] for step in (0, 5, 20, 65, 110, 200, 300)] == pytest.approx(expected, abs=1e-9)


def test_gradients_are_clipped_to_a_global_norm(start: Any) -> None:
    run = start("adamw", Framework.PYTORCH, grad_clip=0.01)
    run.step()
    gradients = [p.grad for p in run.state[1].parameters()]
    assert float(torch.nn.utils.get_total_norm(gradients)) == pytest.approx(0.01, rel=1e-4)


_PROCESS = """
import sys, torch, torch.distributed as dist
from algoperf_baselines._pytorch import over_all_processes
from torch.nn.parallel import DistributedDataParallel
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
model = torch.nn.Linear(3, 1)
with torch.no_grad():
    model.weight.fill_(1.0), model.bias.fill_(0.5)
x, mask = torch.arange(12.0).reshape(4, 3), torch.tensor([1.0, 0.0, 1.0, 1.0])
def summed(model, rows):
    losses = model(x[rows]).square().squeeze(1) * mask[rows]
    return {"summed": losses.sum(), "n_valid_examples": mask[rows].sum()}
ddp = DistributedDataParallel(model)
loss, mean_loss = over_all_processes(summed(ddp, slice(2 * rank, 2 * rank + 2)))
loss.backward()
sharded = model.weight.grad.clone()
whole = summed(model, slice(0, 4))
mean = whole["summed"] / whole["n_valid_examples"]
(expected,) = torch.autograd.grad(mean, model.weight)
torch.testing.assert_close(mean_loss, mean.detach())
torch.testing.assert_close(sharded, expected)
dist.destroy_process_group()
"""


def test_loss_and_gradients_are_means_over_all_processes(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", _PROCESS, str(rank), str(tmp_path / "store")]) for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
