"""Numbers of the public implementation, by our names, and the images and parameters that they were made with.

Images and parameters are filled by a formula, the latter in that implementation's order, so the goldens depend neither
on initialisers nor on our names. JAX and PyTorch are filled differently: goldens of one say nothing about the other.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from algoperf.spec import Framework
from algoperf_fastmri.spec import FASTMRI, FASTMRI_LAYERNORM, FASTMRI_MODEL_SIZE, FASTMRI_TANH

GOLDEN = Path(__file__).parent / "golden"
SPECS = {spec.name: spec for spec in (FASTMRI, FASTMRI_MODEL_SIZE, FASTMRI_TANH, FASTMRI_LAYERNORM)}
# Of the golden outputs every so many pixels are kept.
STRIDE = 101
# Structural similarity of 0.9 * targets + 0.1 * inputs.
BLENDED_SSIM = [0.9614381194114685, 0.9643375873565674]


@cache
def golden(framework: Framework, name: str) -> dict[str, Any]:
    """`total`, `params`, statistics of the `output`, `train_loss`, `losses`, and in JAX the output's `ssim`."""
    return json.loads((GOLDEN / "models.json").read_text())[f"{name}_{framework}"]


@cache
def golden_pixels(framework: Framework, name: str) -> np.ndarray:
    """The output's pixels, in training and in evaluation."""
    return np.load(GOLDEN / "models_outputs.npz")[f"{name}_{framework}"]


@cache
def golden_batch() -> dict[str, np.ndarray]:
    """Two images of noise, as evaluations have them."""
    images = {name: 3 * hash_uniform(2 * 320 * 320, index) for name, index in (("inputs", 10_001), ("targets", 10_002))}
    scalars = {"mean": [1e-4, 2e-4], "std": [3e-4, 5e-4], "volume_max": [2e-3, 3e-3], "weights": [1, 1]}
    return {name: image.reshape(2, 320, 320) for name, image in images.items()} | {
        name: np.array(values, np.float32) for name, values in scalars.items()
    }


@cache
def golden_params(framework: Framework, name: str) -> dict[str, np.ndarray]:
    """The parameters that goldens were made with."""
    return {entry["name"]: _filled(framework, entry) for entry in golden(framework, name)["params"]}


def _filled(framework: Framework, entry: dict[str, Any]) -> np.ndarray:
    shape = entry["shape"]
    r = hash_uniform(int(np.prod(shape)), entry["index"]).reshape(shape)
    if len(shape) == 1:
        return (1 if entry["type"].endswith("_SCALE") else 0) + np.float32(0.1) * r
    fan = r.size / shape[-1 if framework is Framework.JAX else 0]
    return np.float32(np.sqrt(3 / min(4096, fan))) * r


def hash_uniform(n: int, index: int) -> np.ndarray:
    """The goldens' pseudo-random numbers in [-1, 1), float32 [n]."""
    h = (np.arange(n, dtype=np.uint64) * 2654435761 + index * 40503 + 12345) & 0xFFFFFFFF
    for _ in range(2):
        h ^= h >> np.uint64(16)
        h = (h * 0x045D9F3B) & 0xFFFFFFFF
    h ^= h >> np.uint64(16)
    return (2 * (h / 2**32) - 1).astype(np.float32)
