"""Both models against numbers of the public implementation, and against each other."""

from functools import cache

import numpy as np
import pytest
from criteo_goldens import FULL_SPECS, SPECS, golden, golden_batch, golden_logits, golden_params, reference_names
from criteo_models import Jax, Torch, make

from algoperf.spec import ForwardPassMode, Framework
from algoperf.testing.frameworks import BOTH
from algoperf_criteo.weights import jax_to_torch, torch_to_jax

every_workload = pytest.mark.parametrize("name", SPECS)
every_framework = pytest.mark.parametrize("framework", BOTH)


@cache
def made(framework: Framework, name: str) -> Jax | Torch:
    """The workload with the goldens' table; one for all tests, so that JAX compiles once."""
    return make(framework, SPECS[name])


def decided_type(name: str, kind: str) -> str:
    """Our type of a parameter: in PyTorch the public one's are by names that do not tell embeddings and norms."""
    if name.startswith("embedding_chunk"):
        return "EMBEDDING"
    if "norm" in name:
        return "LAYER_NORM_BIAS" if name.endswith("bias") else "LAYER_NORM_SCALE"
    return kind


def deviation(actual, expected):
    """The largest difference, as a share of the largest expected magnitude."""
    return np.abs(np.asarray(actual, np.float64) - expected).max() / np.abs(expected).max()


@every_framework
@every_workload
def test_parameters_are_those_of_the_public_implementation(framework: Framework, name: str) -> None:
    parameters = {p["name"]: p for p in make(framework, FULL_SPECS[name]).workload.parameters()}
    entries = {entry["name"]: entry for entry in golden(framework, name)["params"]}
    names = reference_names(framework, name)
    assert parameters.keys() == names.keys()
    for ours, theirs in names.items():
        expected = (entries[theirs]["shape"], decided_type(ours, entries[theirs]["type"]), "float32")
        assert (parameters[ours]["shape"], parameters[ours]["type"], parameters[ours]["dtype"]) == expected, ours
    assert sum(int(np.prod(p["shape"])) for p in parameters.values()) == golden(framework, name)["total"]
    if framework is Framework.PYTORCH:
        assert list(parameters) == list(names)


@every_framework
@every_workload
def test_logits_without_gradients(framework: Framework, name: str) -> None:
    logits = made(framework, name).forward(
        golden_params(framework, name), golden_batch(), ForwardPassMode.EVAL, rate=0.9
    )
    assert deviation(logits, golden_logits(framework, name, "eval")) < 5e-6


@every_framework
@every_workload
def test_a_training_step(framework: Framework, name: str) -> None:
    logits, loss, gradients = made(framework, name).train(golden_params(framework, name), golden_batch())
    expected = golden(framework, name)
    assert deviation(logits, golden_logits(framework, name, "train")) < 5e-6
    # The golden with layer norms is itself, being float32, 1.1e-6 from what float64 gives.
    assert loss == pytest.approx(expected["train_loss"], rel=5e-6)
    entries = {entry["name"]: entry for entry in expected["params"]}
    for ours, theirs in reference_names(framework, name).items():
        entry, gradient = entries[theirs], gradients[ours].astype(np.float64)
        norm = entry["grad_l2"]
        assert np.linalg.norm(gradient) == pytest.approx(norm, rel=1e-5), ours
        np.testing.assert_allclose(gradient.ravel()[:2], entry["grad_first"], rtol=0, atol=1e-5 * norm)
        # Entries have signs: a sum is as exact as its largest possible value.
        assert abs(gradient.sum() - entry["grad_sum"]) < 1e-5 * norm * gradient.size**0.5, ours


@every_framework
@every_workload
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mask", ["mask10", "nomask"])
def test_losses(framework: Framework, name: str, mask: str, smoothing: float) -> None:
    logits, labels = golden_logits(framework, name, "eval"), golden_batch()["targets"]
    expected = golden(framework, name)["losses"][f"{mask}_ls{smoothing}"]
    ones_first = np.array([1, 0], np.float32)
    for given in [None] if mask == "nomask" else [ones_first, ones_first[:, None], ones_first > 0]:
        loss = made(framework, name).loss(labels, logits, given, label_smoothing=smoothing)
        assert loss["summed"] == pytest.approx(expected["summed"], rel=1e-6)
        assert loss["n_valid_examples"] == expected["n_valid_examples"]
        assert loss["per_example"].shape == (2,)
        np.testing.assert_allclose(loss["per_example"], expected["per_example_first"], rtol=1e-6)


@every_workload
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_the_frameworks_are_one_function(name: str, dtype: type, tolerance: float) -> None:
    """In float64 to its last digits, as no rounding moves a value over ReLU's kink."""
    model = SPECS[name].model
    batch = {key: array.astype(dtype) for key, array in golden_batch().items()}
    params = {path: array.astype(dtype) for path, array in golden_params(Framework.JAX, name).items()}
    logits, loss, gradients = made(Framework.JAX, name).train(params, batch)
    torch_logits, torch_loss, torch_gradients = made(Framework.PYTORCH, name).train(jax_to_torch(model, params), batch)
    assert logits.dtype == torch_logits.dtype == dtype
    assert deviation(torch_logits, logits) < tolerance
    assert torch_loss == pytest.approx(loss, rel=tolerance)
    for path, gradient in torch_to_jax(model, torch_gradients).items():
        difference = np.linalg.norm(gradient - gradients[path])
        assert difference < tolerance * np.linalg.norm(gradients[path]), path


@every_workload
def test_weights_travel_both_ways(name: str) -> None:
    params = golden_params(Framework.JAX, name)
    there_and_back = torch_to_jax(SPECS[name].model, jax_to_torch(SPECS[name].model, params))
    assert all(np.array_equal(params[path], there_and_back[path]) for path in params)
    with pytest.raises(ValueError, match="output/kernel"):
        jax_to_torch(SPECS[name].model, {k: v for k, v in params.items() if k != "output/kernel"})
