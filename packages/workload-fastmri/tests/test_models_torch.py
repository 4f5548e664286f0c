"""What is PyTorch's own: modes, types of tensors, work in place; and the layers, errors, the output layer."""

from typing import Any

import numpy as np
import pytest
from fastmri_goldens import SPECS

from algoperf.seeds import random_key
from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.frameworks import require
from algoperf_fastmri.spec import FASTMRI

require(Framework.PYTORCH)

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from algoperf.backends.pytorch import TorchBackend  # noqa: E402
from algoperf_fastmri.torch_model import pad_like  # noqa: E402
from algoperf_fastmri.torch_workload import FastmriTorch  # noqa: E402

TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL


def make(name: str) -> tuple[FastmriTorch, Any]:
    workload = FastmriTorch(SPECS[name].at(Scale.MINI), TorchBackend())
    return workload, workload.init_model_fn(random_key(0))[0]


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=shape), dtype=torch.float32)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    return {"inputs": images(4, 16, 16), "targets": images(4, 16, 16, seed=1)}


def test_the_mode_of_each_call_decides(batch: Any) -> None:
    workload, params = make("fastmri")
    for mode in (TRAIN, EVAL, TRAIN):
        workload.model_fn(params, batch, None, mode, None, True)
        assert {module.training for module in params.modules()} == {mode is TRAIN}


def test_masks_may_be_fractions_and_options_unknown(batch: Any) -> None:
    workload, mask = FastmriTorch(FASTMRI.at(Scale.MINI), TorchBackend()), torch.tensor([1, 0.25, 0, 2])
    plain = workload.loss_fn(batch["targets"], batch["inputs"])
    masked = workload.loss_fn(batch["targets"], batch["inputs"], mask, label_smoothing=0.3, unheard_of=1)
    np.testing.assert_array_equal(masked["per_example"], plain["per_example"] * mask)
    assert masked["n_valid_examples"] == 3.25
    for entry in (*plain.values(), *masked.values()):
        assert isinstance(entry, Tensor)
        assert entry.dtype == torch.float32


@pytest.mark.parametrize("name", ["fastmri", "fastmri_layernorm"])
def test_parameters_of_a_shorter_type_are_computed_in_it(name: str, batch: Any) -> None:
    workload, params = make(name)
    outputs = workload.model_fn(params.bfloat16(), batch, None, TRAIN, None, True, dropout_rate=0.1)[0]
    assert outputs.dtype == torch.bfloat16
    loss, exact = (workload.loss_fn(batch["targets"], x) for x in (outputs, outputs.float()))
    for key, value in exact.items():
        assert loss[key].dtype == torch.float32
        assert torch.equal(loss[key], value)


def test_a_model_state_is_refused(batch: Any) -> None:
    workload, params = make("fastmri")
    with pytest.raises(ValueError, match="model_state"):
        workload.model_fn(params, batch, {}, EVAL, None, False)


def test_inputs_stay_as_they_are(batch: Any) -> None:
    """Activations work in place."""
    workload, params = make("fastmri")
    before = batch["inputs"].clone()
    workload.model_fn(params, batch, None, TRAIN, None, True)
    assert torch.equal(batch["inputs"], before)


@pytest.mark.parametrize("name", SPECS)
def test_gradients_have_gradients(name: str) -> None:
    """As methods of second order need them; along a direction, the gradient changes as it says."""
    workload, params = make(name)
    params, batch = params.double(), {"inputs": images(2, 16, 16).double()}
    weights = params.get_parameter("bottom.conv_0.weight")
    direction = images(*weights.shape).double()

    def gradient(create_graph: bool) -> Tensor:
        outputs = workload.model_fn(params, batch, None, TRAIN, None, True, dropout_rate=0.0)[0]
        return torch.autograd.grad(outputs.square().sum(), weights, create_graph=create_graph)[0]

    along = torch.autograd.grad((gradient(True) * direction).sum(), weights)[0]
    step = 1e-7
    with torch.no_grad():
        weights += step * direction
    after = gradient(False)
    with torch.no_grad():
        weights -= 2 * step * direction
    expected = (after - gradient(False)) / (2 * step)
    assert (along - expected).norm() < 1e-4 * expected.norm()


def test_an_odd_row_or_column_is_reflected() -> None:
    x = images(2, 3, 4, 6)
    for height, width in ((4, 6), (5, 6), (4, 7), (5, 7)):
        padded = pad_like(x, torch.zeros(2, 3, height, width))
        expected = np.pad(x, ((0, 0), (0, 0), (0, height - 4), (0, width - 6)), mode="reflect")
        np.testing.assert_array_equal(padded, expected)


def test_gradients_of_black_images_are_finite() -> None:
    workload, params = make("fastmri")
    batch = {"inputs": torch.zeros(2, 16, 16)}
    outputs = workload.model_fn(params, batch, None, TRAIN, None, True)[0]
    outputs.sum().backward()
    assert all(p.grad.isfinite().all() for p in params.parameters())


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_output_parameters_are_those_of_the_last_layer(spec: Any) -> None:
    workload = FastmriTorch(spec, TorchBackend())
    assert [key for key in workload.param_shapes if workload.is_output_params(key)] == ["output.weight", "output.bias"]
