"""Runs of different lengths that lie end to end in one array, such as the tokens of sentences."""

import numpy as np


def offsets(counts: np.ndarray) -> np.ndarray:
    """Where each of several runs begins if they lie end to end. Shape of `counts`, int64."""
    return np.cumsum(counts, dtype=np.int64) - counts


def runs(starts: np.ndarray | int, counts: np.ndarray) -> np.ndarray:
    """`start … start + count - 1` for each pair, end to end. Shape [sum of counts], int64."""
    return np.repeat(starts - offsets(counts), counts) + np.arange(counts.sum())
