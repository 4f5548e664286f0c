"""Numbers of the public implementation, by our names, and the tokens and parameters that they were made with.

Parameters are filled by a formula in that implementation's order, so the goldens depend neither on initialisers nor on
our names. JAX and PyTorch are filled differently: goldens of one say nothing about the other.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from algoperf.spec import Framework

GOLDEN = Path(__file__).parent / "golden"
# Temperatures of about 1; of about 20, as at the start of training; and all parameters as large as then.
FILLS = ("plain", "attn20", "initscale")
# Of the golden logits every so many are kept; of those of a long sequence fewer.
STRIDE, LONG_STRIDE = 1_570, 12_564
_BLOCK = 2**22


@dataclass(frozen=True)
class Parameter:
    """What the public implementation says of a parameter: also the mean, deviation and largest size of a fresh one."""

    name: str
    shape: list[int]
    type: str
    mean: float
    deviation: float
    largest: float


@cache
def _numbers() -> dict[str, Any]:
    return json.loads((GOLDEN / "models.json").read_text())


def golden(framework: Framework, fill: str) -> dict[str, Any]:
    """`losses` by mask and smoothing, `train_loss`, `gradients` (norm, sum, first two) in order, maybe `long_loss`."""
    return _numbers()[f"{fill}_{framework}"]


def golden_parameters(framework: Framework) -> list[Parameter]:
    """All parameters, in the public implementation's order."""
    return [Parameter(*facts) for facts in _numbers()[f"parameters_{framework}"]]


@cache
def golden_logits(framework: Framework, fill: str) -> np.ndarray:
    """The kept logits of two sequences, or, with "_long" behind the name of the fill, of a long one."""
    name, _, long = fill.partition("_")
    return np.load(GOLDEN / "models_logits.npz")[f"{name}_{framework}" + (f"_{long}" if long else "")]


@cache
def golden_batch() -> dict[str, np.ndarray]:
    """Two sequences of 64 tokens: `inputs`, `targets`, `weights`, `fractional_weights`; `long_*` one of 1,024."""
    with np.load(GOLDEN / "models_inputs.npz") as arrays:
        return {name: array if "weights" in name else array.astype(np.int32) for name, array in arrays.items()}


def filled(framework: Framework, fill: str) -> Iterator[tuple[str, np.ndarray]]:
    """Name and value of each parameter that goldens were made with, one at a time."""
    for index, parameter in enumerate(golden_parameters(framework)):
        yield parameter.name, _value(framework, fill, parameter, index)


def _value(framework: Framework, fill: str, parameter: Parameter, index: int) -> np.ndarray:
    shape = parameter.shape
    r = hash_uniform(int(np.prod(shape)), index).reshape(shape)
    if len(shape) <= 1:
        scale = 1 + np.float32(0.1) * r
        is_temperature = parameter.name.endswith("temperature") and fill != "plain"
        return np.float32(20) * scale if is_temperature else scale
    if fill == "initscale":
        is_residual = any(
            layer in parameter.name for layer in ("attention/out", "mlp/down", "attention.out", "mlp.down")
        )
        r *= np.float32(np.sqrt(3) * 0.02 / (np.sqrt(24) if is_residual else 1))
        return r
    if parameter.type != "EMBEDDING":
        fan = r.size / shape[-1 if framework is Framework.JAX else 0]
        r *= np.float32(np.sqrt(3 / min(4096, fan)))
    return r


def hash_uniform(n: int, index: int) -> np.ndarray:
    """The goldens' pseudo-random numbers in [-1, 1), float32 [n]."""
    result = np.empty(n, np.float32)
    for start in range(0, n, _BLOCK):
        # Arithmetic of 32 bits, without their overflow.
        h = np.arange(start, min(n, start + _BLOCK), dtype=np.uint32) * np.uint32(2654435761)
        h += np.uint32(index * 40503 + 12345)
        for _ in range(2):
            h ^= h >> np.uint32(16)
            h *= np.uint32(0x045D9F3B)
        h ^= h >> np.uint32(16)
        result[start : start + _BLOCK] = 2 * (h / 2**32) - 1
    return result


def statistics(gradient: np.ndarray) -> list[float]:
    """Norm, sum and first two values, as the goldens have them of a gradient; a scalar has one value."""
    values = gradient.reshape(-1)
    doubles = values.astype(np.float64)
    return [float(np.sqrt(doubles @ doubles)), float(doubles.sum()), *values[:2].tolist()]


def assert_gradients(framework: Framework, fill: str, found: dict[str, list[float]]) -> None:
    """Compares `statistics` of all gradients with the goldens.

    A temperature's gradient is a sum that mostly cancels, in some layers down to a two hundredth of what it is in
    others: its error is measured by five times the root mean square of all layers'.
    """
    parameters, rows = golden_parameters(framework), golden(framework, fill)["gradients"]
    assert set(found) == {parameter.name for parameter in parameters}
    usual = np.sqrt(np.mean([row[0] ** 2 for row, p in zip(rows, parameters, strict=True) if not p.shape]))
    for parameter, expected in zip(parameters, rows, strict=True):
        size, name = int(np.prod(parameter.shape)), parameter.name
        norm = expected[0] if parameter.shape else 5 * usual
        assert abs(found[name][0] - expected[0]) < 1e-5 * norm, name
        assert abs(found[name][1] - expected[1]) < 1e-5 * norm * size**0.5, name
        # Single values by what is usual among them.
        atol = 1e-5 * norm / size**0.5
        np.testing.assert_allclose(found[name][2:], expected[2:], rtol=1e-4, atol=atol, err_msg=name)


def assert_losses(framework: Framework, fill: str, losses: Any) -> None:
    """Compares `losses(mask, label_smoothing)` with the goldens."""
    masks = {"nomask": None, "weights": "weights", "fractional": "fractional_weights"}
    for name, (summed, count, *first) in golden(framework, fill)["losses"].items():
        mask, _, smoothing = name.partition("_ls")
        found = losses(masks[mask] and golden_batch()[masks[mask]], float(smoothing))
        np.testing.assert_allclose(found["summed"], summed, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(found["n_valid_examples"], count, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(found["per_example"].ravel()[:16], first, rtol=1e-4, atol=1e-4, err_msg=name)
        assert found["per_example"].shape == (2, 64)


def assert_logits(framework: Framework, fill: str, logits: np.ndarray, tolerance: float = 3e-5) -> None:
    """Compares logits with the goldens; the tolerance is in standard deviations of them."""
    expected = golden_logits(framework, fill)
    found = logits.ravel()[:: LONG_STRIDE if fill.endswith("_long") else STRIDE]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * expected.std())
