"""Both models against numbers of the public implementation, and against each other."""

from functools import cache

import numpy as np
import pytest
from fastmri_goldens import SPECS, STRIDE, golden, golden_batch, golden_params, golden_pixels
from fastmri_models import Jax, Torch, make

from algoperf.spec import ForwardPassMode, Framework
from algoperf.testing.frameworks import BOTH
from algoperf_fastmri.weights import jax_to_torch, torch_to_jax

every_workload = pytest.mark.parametrize("name", SPECS)
every_framework = pytest.mark.parametrize("framework", BOTH)
# Of gradients' norms. Rounding moves values over the kink of leaky ReLU, where the slope changes by 0.8: the goldens
# themselves, being float32, are up to 6e-4 from what float64 gives. For tanh they are 5e-7 from it.
TOLERANCES = {name: 5e-6 if name == "fastmri_tanh" else 2e-3 for name in SPECS}


@cache
def made(framework: Framework, name: str) -> Jax | Torch:
    """The workload at full scale; one for all tests, so that JAX compiles once."""
    return make(framework, SPECS[name])


@cache
def evaluated(framework: Framework, name: str) -> np.ndarray:
    """The golden images' outputs, without gradients and, whatever the rate, without dropout."""
    return made(framework, name).forward(golden_params(framework, name), golden_batch(), ForwardPassMode.EVAL, rate=0.9)


def decided_type(name: str, kind: str) -> str:
    """Our type of a parameter: in PyTorch the public one's are by names that do not tell norms."""
    if "norm" in name:
        return "LAYER_NORM_BIAS" if name.endswith("bias") else "LAYER_NORM_SCALE"
    return kind


def deviation(actual, expected):
    """The largest difference, as a share of the largest expected magnitude."""
    return np.abs(np.asarray(actual, np.float64) - expected).max() / np.abs(expected).max()


@every_framework
@every_workload
def test_parameters_are_those_of_the_public_implementation(framework: Framework, name: str) -> None:
    parameters = {p["name"]: p for p in made(framework, name).workload.parameters()}
    entries = {entry["name"]: entry for entry in golden(framework, name)["params"]}
    assert parameters.keys() == entries.keys()
    for ours, entry in entries.items():
        expected = (entry["shape"], decided_type(ours, entry["type"]), "float32")
        assert (parameters[ours]["shape"], parameters[ours]["type"], parameters[ours]["dtype"]) == expected, ours
    assert sum(int(np.prod(p["shape"])) for p in parameters.values()) == golden(framework, name)["total"]


@every_framework
@every_workload
def test_outputs_without_gradients(framework: Framework, name: str) -> None:
    outputs, expected = evaluated(framework, name), golden(framework, name)["output"]
    assert outputs.dtype == np.float32
    assert outputs.shape == (2, 320, 320)
    assert deviation(outputs.ravel()[::STRIDE], golden_pixels(framework, name)) < 2e-5
    # Of all pixels.
    for statistic, value in {"mean": outputs.mean(), "std": outputs.std(), "absmax": abs(outputs).max()}.items():
        assert value == pytest.approx(expected[statistic], rel=1e-5)


@every_framework
@every_workload
def test_a_training_step(framework: Framework, name: str) -> None:
    outputs, loss, gradients = made(framework, name).train(golden_params(framework, name), golden_batch())
    expected = golden(framework, name)
    assert deviation(outputs.ravel()[::STRIDE], golden_pixels(framework, name)) < 2e-5
    assert loss == pytest.approx(expected["train_loss"], rel=2e-6)
    for entry in expected["params"]:
        gradient, norm = gradients[entry["name"]].astype(np.float64), entry["grad_l2"]
        # The last bias's is a sum over all pixels, of which PyTorch's golden is 1.5e-5 from what float64 gives.
        tolerance = max(TOLERANCES[name], 2e-5 if entry["name"] == "output.bias" else 0)
        assert np.linalg.norm(gradient) == pytest.approx(norm, rel=tolerance), entry["name"]
        np.testing.assert_allclose(gradient.ravel()[:2], entry["grad_first"], rtol=0, atol=tolerance * norm)
        # Entries have signs: a sum is as exact as its largest possible value.
        assert abs(gradient.sum() - entry["grad_sum"]) < tolerance * norm * gradient.size**0.5, entry["name"]


@every_framework
@every_workload
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mask", ["mask10", "nomask"])
def test_losses(framework: Framework, name: str, mask: str, smoothing: float) -> None:
    outputs, targets = evaluated(framework, name), golden_batch()["targets"]
    expected = golden(framework, name)["losses"][f"{mask}_ls{smoothing}"]
    for given in [None] if mask == "nomask" else [np.array([1, 0], np.float32), np.array([True, False])]:
        loss = made(framework, name).loss(targets, outputs, given, label_smoothing=smoothing)
        assert loss["summed"] == pytest.approx(expected["summed"], rel=2e-6)
        assert loss["n_valid_examples"] == expected["n_valid_examples"]
        assert loss["per_example"].shape == (2,)
        np.testing.assert_allclose(loss["per_example"], expected["per_example_first"], rtol=2e-6)


@every_workload
def test_similarities_of_outputs(name: str) -> None:
    batch = golden_batch()
    scalars = (batch[key] for key in ("mean", "std", "volume_max"))
    found = made(Framework.JAX, name).ssim(evaluated(Framework.JAX, name), batch["targets"], *scalars)
    np.testing.assert_allclose(found, golden(Framework.JAX, name)["ssim"], rtol=0, atol=1e-6)


@every_framework
def test_sums_of_an_evaluation_are_over_real_examples(framework: Framework) -> None:
    """The first example counts; the second is padding, hence zero throughout."""
    name = "fastmri_tanh"
    real = np.array([1, 0], np.float32)
    batch = {key: array * real.reshape(2, *[1] * (array.ndim - 1)) for key, array in golden_batch().items()}
    sums = made(framework, name).evaluation_sums(golden_params(framework, name), batch)
    assert sums.keys() == {"ssim", "loss", "examples"}
    assert all(value.shape == () for value in sums.values())
    assert sums["examples"] == 1
    expected = golden(framework, name)["losses"]["mask10_ls0.0"]["summed"]
    assert sums["loss"] == pytest.approx(expected, rel=2e-6)
    scalars = (batch[key] for key in ("mean", "std", "volume_max"))
    similarity = made(framework, name).ssim(evaluated(framework, name), batch["targets"], *scalars)[0]
    assert sums["ssim"] == pytest.approx(similarity, abs=1e-6)


def small(name: str, dtype: type, size: tuple[int, int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The goldens' parameters and a corner of their images, in another type."""
    height, width = size
    batch = {key: golden_batch()[key][:, :height, :width].astype(dtype) for key in ("inputs", "targets")}
    return {path: array.astype(dtype) for path, array in golden_params(Framework.JAX, name).items()}, batch


@every_workload
def test_the_frameworks_are_one_function(name: str) -> None:
    """In float64, where no rounding moves a value over a kink, and with sizes that cannot be halved evenly."""
    size = (45, 58)
    params, batch = small(name, np.float64, size)
    outputs, loss, gradients = made(Framework.JAX, name).train(params, batch)
    torch_params = jax_to_torch(SPECS[name].model, params)
    torch_outputs, torch_loss, torch_gradients = made(Framework.PYTORCH, name).train(torch_params, batch)
    assert outputs.dtype == torch_outputs.dtype == np.float64
    assert outputs.shape == torch_outputs.shape == (2, *size)
    assert deviation(torch_outputs, outputs) < 1e-11
    assert torch_loss == pytest.approx(loss, rel=1e-11)
    for path, gradient in torch_to_jax(SPECS[name].model, torch_gradients).items():
        difference = np.linalg.norm(gradient - gradients[path])
        assert difference < 1e-10 * np.linalg.norm(gradients[path]), path


@every_workload
def test_the_frameworks_agree_in_float32(name: str) -> None:
    params, batch = small(name, np.float32, (96, 96))
    outputs, loss, gradients = made(Framework.JAX, name).train(params, batch)
    torch_params = jax_to_torch(SPECS[name].model, params)
    torch_outputs, torch_loss, torch_gradients = made(Framework.PYTORCH, name).train(torch_params, batch)
    assert deviation(torch_outputs, outputs) < 2e-5
    assert torch_loss == pytest.approx(loss, rel=5e-6)
    for path, gradient in torch_to_jax(SPECS[name].model, torch_gradients).items():
        difference = np.linalg.norm(gradient - gradients[path])
        assert difference < 10 * TOLERANCES[name] * np.linalg.norm(gradients[path]), path


@every_workload
def test_weights_travel_both_ways(name: str) -> None:
    model, params = SPECS[name].model, golden_params(Framework.JAX, name)
    there_and_back = torch_to_jax(model, jax_to_torch(model, params))
    assert all(np.array_equal(params[path], there_and_back[path]) for path in params)
    with pytest.raises(ValueError, match="output/kernel"):
        jax_to_torch(model, {k: v for k, v in params.items() if k != "output/kernel"})
