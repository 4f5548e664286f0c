"""Slices to look at: what is measured gives, what all of it gives, and what a model makes of it."""

from typing import Any

import numpy as np

from algoperf.data import Dataset
from algoperf.data.pictures import Picture


def pictures(dataset: Dataset, batch: dict[str, np.ndarray], logits: Any = None) -> list[list[Picture]]:
    """For each real slice the zero-filled image, the model's (if there are `logits`) and the target.

    They are on the scale of the slice's volume.

    Args:
        dataset: not needed.
        batch: of an evaluation; see `algoperf_fastmri.data`.
        logits: float [B, S, S], or None.
    """
    shown = {"zero-filled": batch["inputs"], "model": logits, "target": batch["targets"]}
    rows = []
    for i in np.flatnonzero(batch["weights"]):
        largest = batch["volume_max"][i] or 1.0
        rows.append(
            [
                Picture(title, np.clip((images[i] * batch["std"][i] + batch["mean"][i]) / largest, 0, 1))
                for title, images in shown.items()
                if images is not None
            ]
        )
    return rows
