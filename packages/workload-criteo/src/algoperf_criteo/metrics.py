"""The metric of click prediction."""

from collections.abc import Mapping, Sequence

import numpy as np

from algoperf.data import Dataset
from algoperf.workload import sum_over_batches


def finalize(
    outputs: Sequence[Mapping[str, np.ndarray]], num_examples: int, dataset: Dataset | None = None
) -> dict[str, float]:
    """The metric of a split from the sums of all its batches, which are added in float64.

    Args:
        outputs: per batch the scalars `loss`, the sum over its real examples, and `examples`, how many they are.
        num_examples: examples that the split has.
        dataset: not needed.

    Returns:
        `loss`, the mean cross entropy.

    Raises:
        ValueError: the batches did not hold as many examples as the split has.
    """
    sums = sum_over_batches([dict(output) for output in outputs])
    if sums["examples"] != num_examples:
        raise ValueError(f"The evaluation counted {sums['examples']:.0f} examples in a split of {num_examples}.")
    return {"loss": float(sums["loss"] / num_examples)}
