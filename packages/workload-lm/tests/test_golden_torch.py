"""The PyTorch model at full size against numbers of the public implementation in PyTorch: logits, losses, gradients.

That implementation adds the epsilon to each component of a normalised query or key, where ours, and its own in JAX,
adds it to the norm. `published_unit` does as it does; without it logits differ by 7e-5 of their deviation, which is
more than ten times as much.
"""

from functools import cache

import numpy as np
import pytest
from lm_goldens import (
    FILLS,
    assert_gradients,
    assert_logits,
    assert_losses,
    filled,
    golden,
    golden_batch,
    statistics,
)

from algoperf.spec import ForwardPassMode, Framework
from algoperf.testing.frameworks import require
from algoperf_lm.spec import FINEWEBEDU_LM

require(Framework.PYTORCH)

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from algoperf.backends.pytorch import TorchBackend  # noqa: E402
from algoperf_lm import torch_model  # noqa: E402
from algoperf_lm.torch_workload import LmTorch  # noqa: E402

WORKLOAD = LmTorch(FINEWEBEDU_LM, TorchBackend())
every_fill = pytest.mark.parametrize("fill", FILLS)


@cache
def model() -> nn.Module:
    """One for all fills: it takes a gigabyte."""
    return WORKLOAD.init_model_fn(np.zeros(2, np.uint32))[0]


def fill_model(fill: str) -> nn.Module:
    for name, value in filled(Framework.PYTORCH, fill):
        model().get_parameter(name).data.copy_(torch.from_numpy(np.asarray(value)))
    return model()


def logits_of(params: nn.Module, inputs: np.ndarray, mode: ForwardPassMode) -> Tensor:
    batch = {"inputs": torch.from_numpy(inputs)}
    return WORKLOAD.model_fn(params, batch, None, mode, np.zeros(2, np.uint32), update_batch_norm=False)[0]


@cache
def measured(fill: str) -> tuple[Tensor, float, dict[str, list[float]]]:
    """Logits, the mean loss, and what is compared of gradients."""
    params, batch = fill_model(fill), golden_batch()
    with torch.no_grad():
        logits = logits_of(params, batch["inputs"], ForwardPassMode.EVAL)
    trained = logits_of(params, batch["inputs"], ForwardPassMode.TRAIN)
    loss = WORKLOAD.loss_fn(torch.from_numpy(batch["targets"]), trained)
    mean = loss["summed"] / loss["n_valid_examples"]
    mean.backward()
    found = {name: statistics(value.grad.numpy()) for name, value in params.named_parameters()}
    params.zero_grad(set_to_none=True)
    return logits, mean.item(), found


def published_unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True) + 1e-6


@pytest.fixture
def slip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_model, "unit", published_unit)


@every_fill
def test_logits_are_nearly_the_published_ones(fill: str) -> None:
    with torch.no_grad():
        logits = logits_of(fill_model(fill), golden_batch()["inputs"], ForwardPassMode.EVAL)
    assert_logits(Framework.PYTORCH, fill, logits.numpy(), tolerance=1e-4)


@every_fill
@pytest.mark.usefixtures("slip")
def test_logits_are_the_published_ones(fill: str) -> None:
    assert_logits(Framework.PYTORCH, fill, measured(fill)[0].numpy())


@every_fill
@pytest.mark.usefixtures("slip")
def test_losses_are_the_published_ones(fill: str) -> None:
    logits, targets = measured(fill)[0], torch.from_numpy(golden_batch()["targets"])

    def losses(mask: np.ndarray | None, smoothing: float) -> dict[str, np.ndarray]:
        mask_batch = None if mask is None else torch.from_numpy(mask)
        return {name: x.numpy() for name, x in WORKLOAD.loss_fn(targets, logits, mask_batch, smoothing).items()}

    assert_losses(Framework.PYTORCH, fill, losses)


@every_fill
@pytest.mark.usefixtures("slip")
def test_gradients_are_the_published_ones(fill: str) -> None:
    _, loss, gradients = measured(fill)
    np.testing.assert_allclose(loss, golden(Framework.PYTORCH, fill)["train_loss"], rtol=1e-6)
    assert_gradients(Framework.PYTORCH, fill, gradients)


@pytest.mark.slow
@pytest.mark.usefixtures("slip")
@pytest.mark.parametrize("fill", ["attn20", "initscale"])
def test_a_long_sequence_is_as_published(fill: str) -> None:
    batch = golden_batch()
    with torch.no_grad():
        logits = logits_of(fill_model(fill), batch["long_inputs"], ForwardPassMode.EVAL)
        loss = WORKLOAD.loss_fn(torch.from_numpy(batch["long_targets"]), logits)["summed"]
    assert_logits(Framework.PYTORCH, f"{fill}_long", logits.numpy())
    np.testing.assert_allclose(loss, golden(Framework.PYTORCH, fill)["long_loss"], rtol=1e-6)
