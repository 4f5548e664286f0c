"""Batches that are smaller than their size."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def pad_batch(batch: Mapping[str, Any], size: int) -> dict[str, np.ndarray]:
    """Fills a batch up to `size` examples with zeros and says in `weights` which examples are real.

    Args:
        batch: arrays whose first axis is the example, with `targets` among them.
        size: examples of the padded batch.

    Returns:
        The padded arrays, and `weights`: float32 of the shape of `targets` where that has rank 1 or 2, else [size];
        1 for real examples, 0 for padding. Weights that the batch has already are padded with zeros.
    """
    targets = batch["targets"]
    shape = targets.shape if targets.ndim < 3 else targets.shape[:1]
    weighted = {"weights": np.ones(shape, np.float32), **batch}
    missing = size - len(targets)
    if missing < 0:
        raise ValueError(f"A batch of {len(targets)} examples does not fit into {size}.")
    return {name: np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) for name, array in weighted.items()}
