"""Pictures as an evaluation sees them, with their classes and those that a model finds."""

from typing import Any

import numpy as np

from algoperf.data import Dataset
from algoperf.data.pictures import Picture


def pictures(dataset: Dataset, batch: dict[str, np.ndarray], logits: Any = None) -> list[list[Picture]]:
    """Each real picture with the number of its class, and of the class whose logit is largest.

    Args:
        dataset: not needed.
        batch: of an evaluation; `inputs` uint8 [B, H, W, 3], `targets` int32 [B], `weights` float32 [B].
        logits: float [B, classes], or None.
    """
    rows = []
    for i in np.flatnonzero(batch["weights"]):
        found = "" if logits is None else f", model: {int(logits[i].argmax())}"
        rows.append([Picture(f"class {batch['targets'][i]}{found}", batch["inputs"][i])])
    return rows
