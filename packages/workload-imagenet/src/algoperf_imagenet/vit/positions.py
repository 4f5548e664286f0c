"""The position embedding of the vision transformer, a constant. Numpy only."""

import numpy as np


def position_embedding(rows: int, columns: int, width: int) -> np.ndarray:
    """Sines and cosines of each token's column and row, as in Beyer et al., https://arxiv.org/abs/2205.01580.

    Args:
        rows: of the grid of tokens.
        columns: of the grid of tokens.
        width: of a token, a multiple of 4.

    Returns:
        float32 [rows * columns, width], row by row; a quarter of the width each for the sine and the cosine of the
        column, and those of the row, at wavelengths that grow geometrically from 2 pi to 20,000 pi.
    """
    frequencies = 10_000.0 ** -np.linspace(0, 1, width // 4)
    row, column = np.indices((rows, columns)).reshape(2, -1, 1) * frequencies
    return np.concatenate([np.sin(column), np.cos(column), np.sin(row), np.cos(row)], axis=1).astype(np.float32)
