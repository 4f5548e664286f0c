"""Comparing trees of arrays."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def leaves(tree: Any) -> Iterator[np.ndarray]:
    """The arrays of a batch, whatever dicts and tuples they lie in."""
    if isinstance(tree, np.ndarray):
        yield tree
    else:
        for child in tree.values() if isinstance(tree, Mapping) else tree:
            yield from leaves(child)


def main_array(tree: Any) -> np.ndarray:
    """The labels or logits themselves, where there may be a tuple of them and their paddings."""
    array: np.ndarray = tree if isinstance(tree, np.ndarray) else tree[0]
    return array


def with_main_array(tree: Any, array: np.ndarray) -> Any:
    """The tree with another `main_array`."""
    return array if isinstance(tree, np.ndarray) else (array, *tree[1:])


def assert_same(found: Any, expected: Any) -> None:
    """Raises AssertionError unless two trees hold the same arrays."""
    for array, other in zip(leaves(found), leaves(expected), strict=True):
        np.testing.assert_array_equal(array, other)


def assert_close(found: Any, expected: Any, name: str, tolerance: float, floor: float = 0.0) -> None:
    """Raises AssertionError if arrays of two trees differ by more than `tolerance`, relative to their norm.

    `floor` is a difference that is always allowed: what rounding leaves of numbers that are zero in exact arithmetic.
    """
    for array, other in zip(leaves(found), leaves(expected), strict=True):
        assert array.shape == other.shape, f"{name}: {array.shape}, {other.shape}"
        array, other = array.astype(np.float64), other.astype(np.float64)
        error, norm = float(np.linalg.norm(array - other)), float(np.linalg.norm(other))
        assert error <= max(tolerance * norm, floor), f"{name} differ by {error}, at a norm of {norm}."
