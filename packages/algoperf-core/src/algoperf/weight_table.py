"""Which JAX array is which in PyTorch, as a table that works in both directions. Numpy only.

JAX's arrays are named by their path, as `flax.traverse_util.flatten_dict(params, sep="/")` does; PyTorch's as in a
state dict.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

# PyTorch's axes, as those of JAX's kernels.
CONV_AXES = (3, 2, 0, 1)
DENSE_AXES = (1, 0)


class WeightRow(NamedTuple):
    """One JAX array, and where it is in PyTorch.

    Attributes:
        jax: its path.
        torch: the name of the PyTorch array that holds it.
        axes: PyTorch's axes, as JAX's; None where they are the same.
        shapes: JAX's shape and the one that it is brought to before its axes are exchanged, where the two differ (an
            axis that counts the heads of attention).
        part: which part of the PyTorch array, along its first axis.
        parts: how many JAX arrays it holds.
    """

    jax: str
    torch: str
    axes: tuple[int, ...] | None = None
    shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    part: int = 0
    parts: int = 1


def dense_rows(jax: str, torch: str, axes: tuple[int, ...] = DENSE_AXES) -> list[WeightRow]:
    """The kernel and the bias of a dense layer, or with `CONV_AXES` of a convolution."""
    return [WeightRow(f"{jax}/kernel", f"{torch}.weight", axes), WeightRow(f"{jax}/bias", f"{torch}.bias")]


def norm_rows(jax: str, torch: str) -> list[WeightRow]:
    """The scale and the bias of a normalisation."""
    return [WeightRow(f"{jax}/scale", f"{torch}.weight"), WeightRow(f"{jax}/bias", f"{torch}.bias")]


def to_torch(table: Sequence[WeightRow], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's arrays by name, from JAX's by path. Raises ValueError if they are not the table's."""
    _check_names(arrays, {row.jax for row in table})
    pieces: dict[str, list[np.ndarray]] = {}
    for row in sorted(table, key=lambda row: row.part):
        array = arrays[row.jax] if row.shapes is None else arrays[row.jax].reshape(row.shapes[1])
        pieces.setdefault(row.torch, []).append(array if row.axes is None else array.transpose(row.axes))
    joined = {name: parts[0] if len(parts) == 1 else np.concatenate(parts) for name, parts in pieces.items()}
    return {row.torch: np.ascontiguousarray(joined[row.torch]) for row in table}


def to_jax(table: Sequence[WeightRow], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """JAX's arrays by path, from PyTorch's by name. Raises ValueError if they are not the table's."""
    _check_names(arrays, {row.torch for row in table})
    turned = {}
    for row in table:
        array = arrays[row.torch] if row.parts == 1 else np.split(arrays[row.torch], row.parts)[row.part]
        # Sorting the axes' order undoes it.
        array = array if row.axes is None else array.transpose(np.argsort(row.axes))
        turned[row.jax] = np.ascontiguousarray(array if row.shapes is None else array.reshape(row.shapes[0]))
    return turned


def _check_names(arrays: Mapping[str, np.ndarray], expected: set[str]) -> None:
    if arrays.keys() != expected:
        differing = ", ".join(sorted(arrays.keys() ^ expected)[:3])
        raise ValueError(f"These are not the parameters of this model; the first that differ: {differing}.")
