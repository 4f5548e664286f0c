"""Which JAX parameter is which PyTorch parameter, as a table. Numpy only."""

from collections.abc import Mapping

import numpy as np

from algoperf.weight_table import CONV_AXES, WeightRow, dense_rows, norm_rows, to_jax, to_torch
from algoperf_fastmri.spec import UNet

# PyTorch's axes of a transposed convolution, as those of JAX's kernel.
_TRANSPOSE_AXES = (2, 3, 0, 1)


def weight_table(model: UNet) -> list[WeightRow]:
    """One row per parameter of PyTorch, in its order."""
    rows: list[WeightRow] = []
    for i in range(model.num_pools):
        rows += _block_rows(model, f"down_{i}")
    rows += _block_rows(model, "bottom")
    for i in range(model.num_pools):
        rows.append(WeightRow(f"transpose_{i}/kernel", f"transpose_{i}.weight", _TRANSPOSE_AXES))
        rows += _block_rows(model, f"up_{i}")
    return rows + dense_rows("output", "output", CONV_AXES)


def _block_rows(model: UNet, block: str) -> list[WeightRow]:
    rows: list[WeightRow] = []
    for i in range(2):
        rows.append(WeightRow(f"{block}/conv_{i}/kernel", f"{block}.conv_{i}.weight", CONV_AXES))
        rows += norm_rows(f"{block}/norm_{i}", f"{block}.norm_{i}") if model.norm == "layer" else []
    return rows


def jax_to_torch(model: UNet, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's parameters by name, from JAX's by path. Raises ValueError if they are not this model's."""
    return to_torch(weight_table(model), _turned_round(params))


def torch_to_jax(model: UNet, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """JAX's parameters by path, from PyTorch's by name. Raises ValueError if they are not this model's."""
    return _turned_round(to_jax(weight_table(model), params))


def _turned_round(params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """JAX's parameters, in which the rows and columns of transposed convolutions' kernels count from the other end."""
    return {
        path: np.ascontiguousarray(array[::-1, ::-1]) if path.startswith("transpose_") else array
        for path, array in params.items()
    }
