"""Which JAX array is which in PyTorch, as a table that works in both directions. Numpy only.

JAX's arrays are named by their path, as `flax.traverse_util.flatten_dict(params, sep="/")` does; PyTorch's as in a
state dict.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

# PyTorch's axes, as those of JAX's kernels.
CONV_AXES = (3, 2, 0, 1)
DENSE_AXES = (1, 0)


class WeightRow(NamedTuple):
    """One array of JAX and the one of PyTorch that holds the same; one of the two may hold more besides.

    Attributes:
        jax: the path of JAX's array.
        torch: the name of PyTorch's array.
        axes: PyTorch's axes, as JAX's; None where they are the same.
        shapes: JAX's shape and the one that it is brought to before its axes are exchanged, where the two differ (an
            axis that counts the heads of attention).
        part: which part of the array that is divided, along its first axis.
        parts: how many arrays of the other framework it holds.
        whole: which framework has the array that is divided.
    """

    jax: str
    torch: str
    axes: tuple[int, ...] | None = None
    shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    part: int = 0
    parts: int = 1
    whole: Literal["jax", "torch"] = "torch"


def dense_rows(jax: str, torch: str, axes: tuple[int, ...] = DENSE_AXES) -> list[WeightRow]:
    """The kernel and the bias of a dense layer, or with `CONV_AXES` of a convolution."""
    return [WeightRow(f"{jax}/kernel", f"{torch}.weight", axes), WeightRow(f"{jax}/bias", f"{torch}.bias")]


def norm_rows(jax: str, torch: str) -> list[WeightRow]:
    """The scale and the bias of a normalisation."""
    return [WeightRow(f"{jax}/scale", f"{torch}.weight"), WeightRow(f"{jax}/bias", f"{torch}.bias")]


def to_torch(table: Sequence[WeightRow], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's arrays by name, from JAX's by path. Raises ValueError if they are not the table's."""
    _check_names(arrays, {row.jax for row in table})
    pieces: dict[str, dict[int, np.ndarray]] = {row.torch: {} for row in table}
    for row in table:
        array = _part(arrays[row.jax], row) if row.whole == "jax" else arrays[row.jax]
        array = array if row.shapes is None else array.reshape(row.shapes[1])
        pieces[row.torch][row.part] = array if row.axes is None else array.transpose(row.axes)
    return {name: _joined(parts) for name, parts in pieces.items()}


def to_jax(table: Sequence[WeightRow], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """JAX's arrays by path, from PyTorch's by name. Raises ValueError if they are not the table's."""
    _check_names(arrays, {row.torch for row in table})
    pieces: dict[str, dict[int, np.ndarray]] = {row.jax: {} for row in table}
    for row in table:
        array = _part(arrays[row.torch], row) if row.whole == "torch" else arrays[row.torch]
        # Sorting the axes' order undoes it.
        array = array if row.axes is None else array.transpose(np.argsort(row.axes))
        pieces[row.jax][row.part] = array if row.shapes is None else array.reshape(row.shapes[0])
    return {name: _joined(parts) for name, parts in pieces.items()}


def _part(array: np.ndarray, row: WeightRow) -> np.ndarray:
    return array if row.parts == 1 else np.split(array, row.parts)[row.part]


def _joined(parts: Mapping[int, np.ndarray]) -> np.ndarray:
    in_order = [parts[number] for number in sorted(parts)]
    # `np.ascontiguousarray` would give a scalar an axis.
    return np.asarray(in_order[0] if len(in_order) == 1 else np.concatenate(in_order), order="C")


def _check_names(arrays: Mapping[str, np.ndarray], expected: set[str]) -> None:
    if arrays.keys() != expected:
        differing = ", ".join(sorted(arrays.keys() ^ expected)[:3])
        raise ValueError(f"These are not the parameters of this model; the first that differ: {differing}.")
