"""What the goldens of both frameworks start from: a batch of noise, and parameters by a formula.

`golden/inputs.npz` holds the number of samples of each example and its targets; the samples themselves are computed.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from algoperf.spec import Framework

GOLDEN = Path(__file__).parent / "golden"
NUM_SAMPLES = 48_000


def hash_uniform(n: int, index: int) -> np.ndarray:
    """The goldens' pseudo-random numbers in [-1, 1), float32 [n]."""
    h = (np.arange(n, dtype=np.uint64) * 2654435761 + index * 40503 + 12345) & 0xFFFFFFFF
    for _ in range(2):
        h ^= h >> np.uint64(16)
        h = (h * 0x045D9F3B) & 0xFFFFFFFF
    h ^= h >> np.uint64(16)
    return (2 * (h / 2**32) - 1).astype(np.float32)


@cache
def golden_inputs() -> dict[str, Any]:
    """Two examples as submissions get them: 3 s of noise, of which the second one has 2.5 s."""
    with np.load(GOLDEN / "inputs.npz") as arrays:
        lengths, ids, target_paddings = (arrays[name] for name in ("lengths", "ids", "target_paddings"))
    paddings = (np.arange(NUM_SAMPLES) >= lengths[:, None]).astype(np.float32)
    audio = np.float32(3_000) * hash_uniform(paddings.size, 10_001).reshape(paddings.shape)
    return {"inputs": (audio * (1 - paddings), paddings), "targets": (ids, target_paddings)}


def filled(framework: Framework, index: int, shape: list[int]) -> np.ndarray:
    """The parameter of this number. Scales are zero-centred here, and filled like biases."""
    r = hash_uniform(int(np.prod(shape)), index).reshape(shape)
    if len(shape) == 1:
        return np.float32(0.1) * r
    fan = min(4096, r.size // shape[-1 if framework is Framework.JAX else 0])
    return np.float32(np.sqrt(3 / fan)) * r


def filled_statistics(index: int, width: int) -> dict[str, np.ndarray]:
    """Running mean and variance, of which the mean has this number and the variance the next one."""
    return {
        "mean": np.float32(0.1) * hash_uniform(width, index),
        "var": 1 + np.float32(0.5) * np.abs(hash_uniform(width, index + 1)),
    }
