"""Positions as rotations: Su et al., "RoFormer", https://arxiv.org/abs/2104.09864, section 3.2. Numpy only."""

import numpy as np


def rotations(length: int, size: int, base: float) -> np.ndarray:
    """Cosines and sines of the angles by which pairs of components are turned.

    Pair j of the token at position t is turned by t / base^(2 j / size).

    Args:
        length: positions T.
        size: components D of a head; they are `size / 2` pairs of neighbours.
        base: see above.

    Returns:
        float32 [2, T, D / 2]: cosines, then sines.
    """
    frequencies = base ** (-np.arange(0, size, 2, dtype=np.float64) / size)
    angles = np.outer(np.arange(length), frequencies)
    return np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
