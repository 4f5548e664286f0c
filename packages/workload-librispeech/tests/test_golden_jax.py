"""The JAX models at full size against numbers of the public implementation in JAX.

The goldens fill parameters and running statistics by a formula in that implementation's order, so they do not depend on
initialisers and names. Gradients are compared in float64: rounding flips ReLU at its kink here and there, which moves
those of single layers by more than what separates the goldens from exact numbers.
"""

import itertools
import json
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from speech_goldens import GOLDEN, filled, filled_statistics, golden_inputs

from algoperf.spec import Framework
from algoperf.testing.frameworks import require
from algoperf_librispeech.spec import BLANK, Conformer

require(Framework.JAX)

import jax  # noqa: E402
from flax.traverse_util import flatten_dict, unflatten_dict  # noqa: E402
from speech_models_jax import EVAL, SHOWN, SPECS, TRAIN, make_workload  # noqa: E402

# Goldens are of float32 themselves: where kinks of ReLU and batch norms amplify rounding, those of DeepSpeech deviate
# from numbers of float64 by 2e-4, and by 1.1e-3 without residual connections.
GRADIENT_TOLERANCE = {name: 1e-4 for name in SPECS} | {
    "librispeech_deepspeech": 5e-4,
    "librispeech_deepspeech_no_resnet": 2e-3,
}
LOGIT_TOLERANCE = {name: 2e-5 for name in SPECS} | {"librispeech_deepspeech_no_resnet": 1e-4}

every_workload = pytest.mark.parametrize("name", SPECS)


@cache
def golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / "models_jax.json").read_text())[name]


@cache
def golden_logits(name: str, mode: str) -> np.ndarray:
    """Every 211th logit at real frames."""
    with np.load(GOLDEN / "logits_jax.npz") as arrays:
        return arrays[f"{name}_{mode}"]


@cache
def golden_parameters(name: str) -> list[dict[str, Any]]:
    """Names, which are ours; shapes and types of the public implementation, in its order."""
    variant = name.removeprefix("librispeech_")
    has_file = variant in ("conformer_layernorm", "deepspeech_norm_and_spec_aug")
    variant = variant if has_file else variant.partition("_")[0]
    return json.loads((GOLDEN / f"parameters_{variant}_jax.json").read_text())


def golden_variables(name: str) -> tuple[Any, Any]:
    """Parameters and running statistics."""
    entries = golden_parameters(name)
    params = {entry["name"]: filled(Framework.JAX, i, entry["shape"]) for i, entry in enumerate(entries)}
    statistics = {}
    for number, path in enumerate(norm_paths(name)):
        arrays = filled_statistics(len(entries) + 2 * number, SPECS[name].model.width)
        statistics |= {f"batch_stats/{path}/{kind}": array for kind, array in arrays.items()}
    return unflatten_dict(params, sep="/"), unflatten_dict(statistics, sep="/") or None


def make_golden_workload(name: str) -> Any:
    spec = SPECS[name]
    return make_workload(replace(spec, model=replace(spec.model, spec_augment=SHOWN)))


def norm_paths(name: str) -> list[str]:
    paths = [entry["name"] for entry in golden_parameters(name)]
    return [path.removesuffix("/scale") for path in paths if path.endswith("BatchNorm_0/scale")]


@dataclass
class Computed:
    """What a model makes of the golden inputs: sampled logits, losses, best tokens, facts of the running statistics."""

    logits: dict[str, np.ndarray]
    losses: dict[str, dict[str, Any]]
    predictions: np.ndarray
    statistics: list[np.ndarray]


@cache
def computed(name: str) -> Computed:
    workload, (params, state) = make_golden_workload(name), golden_variables(name)
    batch = golden_inputs() | {"weights": np.ones(2, np.float32)}

    def run(params: Any, state: Any, batch: Any) -> Any:
        evaluated, _ = workload.model_fn(params, batch, state, EVAL, None, False)
        masks = {"all": None, "first": np.array([1.0, 0.0])}
        losses = {
            key: workload.loss_fn(batch["targets"], evaluated, mask, label_smoothing=0.1) for key, mask in masks.items()
        }
        predictions = workload.eval_step(params, state, batch, None)["predictions"]
        trained, moved = workload.model_fn(params, batch, state, TRAIN, jax.random.key(0), True, dropout_rate=0.0)
        losses["train"] = workload.loss_fn(batch["targets"], trained)
        return evaluated, trained, losses, predictions, moved

    evaluated, trained, losses, predictions, moved = jax.device_get(jax.jit(run)(params, state, batch))
    assert [(row == 0).sum() for row in evaluated[1]] == [75, 63]
    logits = {}
    for key, (array, paddings) in (("eval", evaluated), ("train", trained)):
        assert (array[paddings > 0] == 0).all()
        logits[key] = array[paddings == 0].ravel()[::211]
    norms = flatten_dict(moved or {}, sep="/")
    norms = [norms[f"batch_stats/{path}/{kind}"] for path in norm_paths(name) for kind in ("mean", "var")]
    statistics = [np.array([b.mean(dtype=np.float64), b.std(dtype=np.float64), *b[:2]]) for b in norms]
    return Computed(logits, losses, predictions, statistics)


@cache
def gradients(name: str) -> dict[str, np.ndarray]:
    """Of each parameter the norm and the first two entries, computed in float64."""
    workload = make_golden_workload(name)

    def mean_loss(params: Any, state: Any, batch: Any) -> Any:
        output, _ = workload.model_fn(params, batch, state, TRAIN, jax.random.key(0), False, dropout_rate=0.0)
        loss = workload.loss_fn(batch["targets"], output)
        return loss["summed"] / loss["n_valid_examples"]

    with jax.enable_x64(True):
        variables = jax.tree.map(np.float64, (*golden_variables(name), golden_inputs()))
        arrays = jax.device_get(jax.jit(jax.grad(mean_loss))(*variables))
    flat = {path: array.ravel() for path, array in flatten_dict(arrays, sep="/").items()}
    assert {array.dtype for array in flat.values()} == {np.dtype(np.float64)}
    return {path: np.concatenate([[norm(array)], array[:2]]) for path, array in flat.items()}


def norm(array: np.ndarray) -> float:
    return float(np.sqrt(np.square(array, dtype=np.float64).sum()))


@every_workload
def test_parameters_are_those_of_the_public_implementation(name: str) -> None:
    ours = {p["name"]: (p["shape"], p["type"]) for p in make_workload(SPECS[name]).parameters()}
    assert ours == {entry["name"]: (entry["shape"], entry["type"]) for entry in golden_parameters(name)}
    assert {p["dtype"] for p in make_workload(SPECS[name]).parameters()} == {"float32"}


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
    mean = losses["train"]["summed"] / losses["train"]["n_valid_examples"]
    assert mean == pytest.approx(golden(name)["train_loss"], rel=5e-6)


@every_workload
def test_predictions(name: str) -> None:
    collapsed = [[token for token, _ in itertools.groupby(row) if token != BLANK] for row in computed(name).predictions]
    assert collapsed == golden(name)["greedy"]


@every_workload
def test_gradients(name: str) -> None:
    expected = np.array(golden(name)["gradients"])
    total = norm(expected[:, 0])
    assert len(gradients(name)) == len(expected)
    for entry, (size, *first) in zip(golden_parameters(name), expected, strict=True):
        gradient = gradients(name)[entry["name"]]
        # Some are nothing but rounding, as those of attention's key biases.
        bound = GRADIENT_TOLERANCE[name] * max(size, 1e-3 * total)
        assert abs(gradient[0] - size) < bound, entry["name"]
        np.testing.assert_allclose(gradient[1:], first, rtol=0, atol=bound, err_msg=entry["name"])


@every_workload
def test_running_statistics(name: str) -> None:
    expected, found = golden(name)["statistics"], computed(name).statistics
    is_conformer = isinstance(SPECS[name].model, Conformer)
    assert len(found) == len(expected) == (0 if "norm_and" in name else 8 if is_conformer else 18)
    if expected:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
