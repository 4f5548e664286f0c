"""The metric of images: facts of structural similarity (SSIM), and its mean over a split.

Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE Transactions on Image
Processing 13 (2004), section III-B, with a uniform window as in scikit-image.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from algoperf.data import Dataset
from algoperf.workload import sum_over_batches

# Height and width of the window, in pixels, and what stabilises the quotients, as shares of the range of values.
SSIM_WINDOW = 7
SSIM_K1 = 0.01
SSIM_K2 = 0.03


def finalize(
    outputs: Sequence[Mapping[str, np.ndarray]], num_examples: int, dataset: Dataset | None = None
) -> dict[str, float]:
    """The metrics of a split from the sums of all its batches, which are added in float64.

    Args:
        outputs: per batch the scalars `ssim` and `loss`, sums over its real examples, and `examples`, how many they
            are.
        num_examples: examples that the split has.
        dataset: not needed.

    Returns:
        `ssim` and `loss`, means over the examples.

    Raises:
        ValueError: the batches did not hold as many examples as the split has.
    """
    sums = sum_over_batches([dict(output) for output in outputs])
    if sums["examples"] != num_examples:
        raise ValueError(f"The evaluation counted {sums['examples']:.0f} examples in a split of {num_examples}.")
    return {name: float(sums[name] / num_examples) for name in ("ssim", "loss")}
