"""Rows of several sentence pairs each, so that little of a batch is padding."""

import numpy as np


def pack(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """Which pairs share a row: best fit, the longest pairs first (Johnson, 1973, for two dimensions).

    Args:
        lengths: tokens of the source and of the target of each pair, [N, 2] integers, at most `size`.
        size: tokens that a row has room for, on either side.

    Returns:
        Per row the numbers of its pairs, ascending: in the order in which they were given, and not the longest first.
    """
    rooms = np.full((2, len(lengths)), size)
    rows: list[list[int]] = []
    for pair in np.argsort(-lengths.max(axis=1), kind="stable").tolist():
        # One row more than there are: a new one, which is taken if the pair fits into no other.
        source, target = rooms[:, : len(rows) + 1] - lengths[pair, :, None]
        slack = source + target
        # The sign of either is the sign of this.
        slack[source | target < 0] = 2 * size
        row = int(slack.argmin())
        if row == len(rows):
            rows.append([])
        rows[row].append(pair)
        rooms[:, row] -= lengths[pair]
    return [np.sort(row) for row in rows]
