"""The PyTorch models at full size against numbers of the public implementation in PyTorch.

The goldens fill parameters and running statistics by a formula in that implementation's order, so they do not depend on
initialisers and names. Where it is another function than ours, a test makes ours that function.
"""

import json
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from speech_goldens import GOLDEN, filled, filled_statistics, golden_inputs

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

require(Framework.PYTORCH)

import torch  # noqa: E402
from speech_models_torch import CONFORMERS, EVAL, SHOWN, SPECS, TRAIN, logits_of, make_workload  # noqa: E402

# Goldens themselves deviate from numbers of float64 where kinks of ReLU and batch norms amplify rounding: those of
# DeepSpeech by 2e-4, and by 1.1e-3 without residual connections.
GRADIENT_TOLERANCE = {name: 1e-4 for name in SPECS} | dict.fromkeys(
    ("librispeech_deepspeech", "librispeech_deepspeech_no_resnet"), 3e-3
)
LOGIT_TOLERANCE = {name: 2e-5 for name in SPECS} | {"librispeech_deepspeech_no_resnet": 1e-4}

every_workload = pytest.mark.parametrize("name", SPECS)


@cache
def golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / "models_pytorch.json").read_text())[name]


@cache
def golden_logits(name: str, mode: str) -> np.ndarray:
    """Every 211th logit at real frames."""
    with np.load(GOLDEN / "logits_pytorch.npz") as arrays:
        return arrays[f"{name}_{mode}"]


@cache
def golden_parameters(name: str) -> list[dict[str, Any]]:
    """Names, which are ours; shapes and types of the public implementation, in its order."""
    variant = name.removeprefix("librispeech_")
    has_file = variant in ("conformer_layernorm", "deepspeech_norm_and_spec_aug")
    variant = variant if has_file else variant.partition("_")[0]
    return json.loads((GOLDEN / f"parameters_{variant}_pytorch.json").read_text())


def make_golden_model(name: str) -> tuple[Any, Any]:
    spec = SPECS[name]
    workload = make_workload(replace(spec, model=replace(spec.model, spec_augment=SHOWN)))
    model = workload.build_model()
    with torch.no_grad():
        parameters = list(model.parameters())
        for index, parameter in enumerate(parameters):
            parameter.copy_(torch.from_numpy(filled(Framework.PYTORCH, index, list(parameter.shape))))
        norms = [module for module in model.modules() if hasattr(module, "running_mean")]
        for number, norm in enumerate(norms):
            statistics = filled_statistics(len(parameters) + 2 * number, len(norm.running_mean))
            norm.running_mean.copy_(torch.from_numpy(statistics["mean"]))
            norm.running_var.copy_(torch.from_numpy(statistics["var"]))
    if spec.model.activation == "gelu":
        # The public implementation's convolution modules have the exact function, not the approximation by tanh.
        for block in model.blocks:
            block.convolution.activation = torch.nn.functional.gelu
    return workload, model.to(workload.backend.device)


@dataclass
class Computed:
    """What a model makes of the golden inputs: sampled logits, losses, norms and first two entries of gradients."""

    logits: dict[str, np.ndarray]
    losses: dict[str, dict[str, Any]]
    train_loss: float
    gradients: list[np.ndarray]
    statistics: list[np.ndarray]


@cache
def computed(name: str) -> Computed:
    workload, model = make_golden_model(name)
    batch = {key: workload.backend.place_batch(value) for key, value in golden_inputs().items()}
    logits, losses = {}, {}
    with torch.no_grad():
        evaluated = logits_of((workload, model), batch, EVAL)
    assert [(row == 0).sum().item() for row in evaluated[1]] == [75, 63]
    for key, mask in (("all", None), ("first", torch.tensor([1.0, 0.0]))):
        mask = mask if mask is None else workload.backend.place_batch(mask.numpy())
        losses[key] = workload.loss_fn(batch["targets"], evaluated, mask, label_smoothing=0.1)
    trained = logits_of((workload, model), batch, TRAIN, update=True)
    loss = workload.loss_fn(batch["targets"], trained)
    mean = loss["summed"] / loss["n_valid_examples"]
    mean.backward()
    for key, (array, paddings) in (("eval", evaluated), ("train", trained)):
        assert (array[paddings > 0] == 0).all()
        logits[key] = array[paddings == 0].detach().cpu().numpy().ravel()[::211]
    norms = [b.cpu().numpy() for n, b in model.named_buffers() if "running" in n]
    losses = {key: {name: value.cpu().numpy() for name, value in loss.items()} for key, loss in losses.items()}
    gradients = [np.concatenate([[norm(g)], g[:2]]) for g in (p.grad.cpu().numpy().ravel() for p in model.parameters())]
    statistics = [np.array([b.mean(dtype=np.float64), b.std(dtype=np.float64), *b[:2]]) for b in norms]
    return Computed(logits, losses, mean.item(), gradients, statistics)


def norm(array: np.ndarray) -> float:
    return float(np.sqrt(np.square(array, dtype=np.float64).sum()))


@every_workload
def test_parameters_are_those_of_the_public_implementation(name: str) -> None:
    ours = make_workload(SPECS[name]).parameters()
    assert [{key: p[key] for key in ("name", "shape", "type")} for p in ours] == golden_parameters(name)
    assert {p["dtype"] for p in ours} == {"float32"}


@every_workload
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_logits(name: str, mode: str) -> None:
    expected = golden_logits(name, mode)
    deviation = abs(computed(name).logits[mode] - expected).max() / abs(expected).max()
    assert deviation < (LOGIT_TOLERANCE[name] if mode == "train" else 5e-6)


@every_workload
def test_losses(name: str) -> None:
    losses, expected = computed(name).losses, golden(name)["eval_losses"]
    np.testing.assert_allclose(losses["all"]["per_example"], expected, rtol=5e-6)
    np.testing.assert_allclose(losses["all"]["summed"], sum(expected), rtol=5e-6)
    # Labels, of which the end of the sentence is one.
    assert losses["all"]["n_valid_examples"] == 31
    np.testing.assert_allclose(losses["first"]["per_example"], [expected[0], 0], rtol=5e-6)
    assert losses["first"]["n_valid_examples"] == 20
    assert computed(name).train_loss == pytest.approx(golden(name)["train_loss"], rel=5e-6)


@every_workload
def test_gradients(name: str) -> None:
    expected = np.array(golden(name)["gradients"])
    total = norm(expected[:, 0])
    for entry, gradient, (size, *first) in zip(
        golden_parameters(name), computed(name).gradients, expected, strict=True
    ):
        # Some are nothing but rounding, as those of attention's key biases.
        bound = GRADIENT_TOLERANCE[name] * max(size, 1e-3 * total)
        assert abs(gradient[0] - size) < bound, entry["name"]
        np.testing.assert_allclose(gradient[1:], first, rtol=0, atol=bound, err_msg=entry["name"])


@every_workload
def test_running_statistics(name: str) -> None:
    expected, found = golden(name)["statistics"], computed(name).statistics
    assert len(found) == len(expected) == (0 if "norm_and" in name else 8 if SPECS[name] in CONFORMERS else 18)
    if expected:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
