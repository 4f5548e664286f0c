"""What of a workload's examples can be looked at."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Picture:
    """A picture of an example, of its target, or of what a model makes of it.

    Attributes:
        title: what it shows; some words, in one or two lines.
        pixels: rows from above; either grey, float [H, W] from 0 to 1, or coloured, uint8 [H, W, 3].
    """

    title: str
    pixels: np.ndarray
