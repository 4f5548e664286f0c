"""Batch norm of padded frames in PyTorch: which statistics normalise, which move, and that processes do not matter."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

require(Framework.PYTORCH)

import torch  # noqa: E402
from speech_models_torch import EVAL, TRAIN, logits_of, make, make_batch, statistics_of  # noqa: E402

from algoperf_librispeech.torch_layers import MaskedBatchNorm, batch_norm_mode  # noqa: E402

SCRIPT = Path(__file__).parent / "run_speech_torch.py"
NAMES = ["librispeech_conformer", "librispeech_deepspeech"]
BATCH, OTHER = make_batch(96, [90, 60]), make_batch(96, [50, 88])

every_model = pytest.mark.parametrize("name", NAMES)


def noisy_norm(width: int, momentum: float) -> MaskedBatchNorm:
    norm = MaskedBatchNorm(width, momentum)
    torch.manual_seed(0)
    for tensor in (norm.scale, norm.bias, norm.running_mean):
        torch.nn.init.normal_(tensor)
    return norm


def test_statistics_are_those_of_real_frames() -> None:
    norm = noisy_norm(3, 0.75)
    # Far from zero, where a careless variance loses its digits.
    x = torch.randn(2, 7, 3) * torch.tensor([0.1, 1, 2]) + 1000
    mask = (torch.arange(7) < torch.tensor([[7], [4]])).float()[..., None]
    x[1, 4:] = 1e6
    real = torch.cat((x[0], x[1, :4])).double()
    before_mean, before_var = norm.running_mean.clone(), norm.running_var.clone()
    y = norm(x, mask)
    mean, variance = real.mean(dim=0), real.var(dim=0, correction=0)
    torch.testing.assert_close(norm.running_mean.double(), 0.75 * before_mean + 0.25 * mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(norm.running_var.double(), 0.75 * before_var + 0.25 * variance, rtol=1e-4, atol=0)
    expected = (x.double() - mean) / (variance + 1e-3).sqrt() * (1 + norm.scale) + norm.bias
    torch.testing.assert_close(y.double(), expected * mask, rtol=1e-3, atol=1e-3)
    assert (y[1, 4:] == 0).all()
    # Running statistics, in evaluation.
    norm.eval()
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    y = norm(x, mask)
    expected = (x - norm.running_mean) / (norm.running_var + 1e-3).sqrt() * (1 + norm.scale) + norm.bias
    torch.testing.assert_close(y, expected * mask, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(buffer, before[name]) for name, buffer in norm.named_buffers())


def test_gradients() -> None:
    norm = noisy_norm(2, 0.9).double()
    mask = torch.tensor([[1.0, 1, 1], [1, 0, 0]], dtype=torch.float64)[..., None]
    x, scale, bias = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3, 2), (2,), (2,)))

    def function(x: Any, scale: Any, bias: Any) -> Any:
        return torch.func.functional_call(norm, {"scale": scale, "bias": bias}, (x, mask))

    assert torch.autograd.gradcheck(function, (x, scale, bias))


def test_padding_alone_has_no_statistics() -> None:
    norm = noisy_norm(3, 0.9)
    x = torch.randn(2, 4, 3, requires_grad=True)
    y = norm(x, torch.zeros(2, 4, 1))
    assert (y == 0).all()
    y.sum().backward()
    assert x.grad is not None
    assert (x.grad == 0).all()
    assert all(buffer.isfinite().all() for buffer in norm.buffers())


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


@every_model
def test_mode_and_update_decide_on_statistics(name: str) -> None:
    """What normalises is seen in logits: whether they depend on the other utterances of the batch."""
    case = make(name)
    model = case[1]
    joined = {"inputs": tuple(torch.stack((a[0], b[1])) for a, b in zip(BATCH["inputs"], OTHER["inputs"], strict=True))}
    fresh = statistics_of(model)
    still, _ = logits_of(case, BATCH, TRAIN)
    assert same(statistics_of(model), fresh)
    moved, _ = logits_of(case, BATCH, TRAIN, update=True)
    after = statistics_of(model)
    assert not any(torch.equal(fresh[name], after[name]) for name in fresh)
    # Batch statistics normalise in training, whether or not they move the running ones.
    assert torch.equal(still, moved)
    assert abs(logits_of(case, joined, TRAIN)[0][0] - moved[0]).max() > 1e-3
    # Running ones normalise in evaluation, and stay as they are.
    evaluated, _ = logits_of(case, BATCH, EVAL)
    torch.testing.assert_close(logits_of(case, joined, EVAL)[0][0], evaluated[0], rtol=0, atol=1e-5)
    assert abs(evaluated - moved).max() > 1e-3
    assert same(statistics_of(model), after)
    with pytest.raises(ValueError, match="EVAL mode"):
        logits_of(case, BATCH, EVAL, update=True)
    assert same(statistics_of(model), after)


@every_model
@pytest.mark.parametrize("update", [True, False])
def test_running_statistics_may_be_demanded(name: str, update: bool) -> None:
    case = make(name)
    logits_of(case, BATCH, TRAIN, update=True)
    before, (evaluated, _) = statistics_of(case[1]), logits_of(case, OTHER, EVAL)
    assert torch.equal(logits_of(case, OTHER, TRAIN, update=update, use_running_average_bn=True)[0], evaluated)
    assert same(statistics_of(case[1]), before)
    # Only for that call.
    trained, _ = logits_of(case, OTHER, TRAIN)
    assert abs(trained - evaluated).max() > 1e-3
    assert torch.equal(logits_of(case, OTHER, EVAL, use_running_average_bn=False)[0], trained)
    assert same(statistics_of(case[1]), before)


@every_model
def test_a_module_moves_its_statistics_unless_told_otherwise(name: str) -> None:
    case = make(name)
    model = case[1].train()
    fresh = statistics_of(model)
    # An error within a pass that moves nothing must not keep later ones from moving.
    with pytest.raises(RuntimeError), batch_norm_mode(model, uses_running=True, moves=False):
        raise RuntimeError
    assert all(module.training for module in model.modules())
    model(*BATCH["inputs"])
    assert not any(torch.equal(array, fresh[name]) for name, array in statistics_of(model).items())


@every_model
def test_statistics_travel_with_a_module(name: str) -> None:
    case = make(name)
    workload, model = case
    logits_of(case, BATCH, TRAIN, update=True)
    expected = {name for name, _ in model.named_parameters()} | statistics_of(model).keys()
    assert model.state_dict().keys() == expected
    twin, fresh = copy.deepcopy(model), workload.build_model().to(workload.backend.device)
    fresh.load_state_dict(model.state_dict())
    for other in (twin, fresh):
        assert torch.equal(logits_of((workload, other), OTHER)[0], logits_of(case, OTHER)[0])


def test_layer_norms_leave_no_statistics() -> None:
    case = make("librispeech_deepspeech_norm_and_spec_aug")
    assert statistics_of(case[1]) == {}
    assert logits_of(case, BATCH, TRAIN, update=True)[0].isfinite().all()


def step_in_processes(name: str, path: Path, sizes: str) -> dict[str, np.ndarray]:
    """Logits, losses, gradients and running statistics of one training step, from a process of its own or several."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
    command, processes = [str(SCRIPT), name, str(path), sizes], sizes.count(",") + 1
    if processes > 1:
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), *command]
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", ["librispeech_conformer", "librispeech_deepspeech_tanh"])
@pytest.mark.timeout(600)
def test_a_step_does_not_depend_on_the_number_of_processes(name: str, tmp_path: Path) -> None:
    one, other = (step_in_processes(name, tmp_path / f"{sizes}.npz", sizes) for sizes in ("5", "2,3"))
    assert {name.partition("/")[0] for name in one} == {"logits", "losses", "gradients", "state"}
    assert other.keys() == one.keys()
    total = np.sqrt(sum(np.square(array).sum() for name, array in one.items() if name.startswith("gradients")))
    for name, array in one.items():
        # Sums in another order; statistics of a part of the batch would be off by a tenth. Gradients of attention's
        # key biases are zero but for rounding.
        floor = 1e-4 * total if name.startswith("gradients") else 0
        assert np.linalg.norm(other[name] - array) < 2e-5 * max(np.linalg.norm(array), floor), name
