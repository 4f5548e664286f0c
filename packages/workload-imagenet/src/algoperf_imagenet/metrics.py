"""The metrics of image classification."""

from collections.abc import Mapping, Sequence

import numpy as np

from algoperf.data import Dataset
from algoperf.workload import sum_over_batches


def finalize(
    outputs: Sequence[Mapping[str, np.ndarray]], num_examples: int, dataset: Dataset | None = None
) -> dict[str, float]:
    """Metrics of a split from the sums of all its batches.

    Args:
        outputs: per batch the scalars `loss` and `correct`, sums over its real images, and `images`, how many they are.
        num_examples: images that the split has.
        dataset: not needed.

    Returns:
        `accuracy`, the share of images whose largest logit is that of their class, and `loss`, the mean cross entropy.

    Raises:
        ValueError: the batches did not hold as many images as the split has.
    """
    sums = sum_over_batches([dict(output) for output in outputs])
    if sums["images"] != num_examples:
        raise ValueError(f"The evaluation counted {sums['images']:.0f} images in a split of {num_examples}.")
    return {"accuracy": float(sums["correct"] / num_examples), "loss": float(sums["loss"] / num_examples)}
