"""Which JAX parameter is which PyTorch parameter, as a table. Numpy only."""

from collections.abc import Mapping

import numpy as np

from algoperf.weight_table import WeightRow, dense_rows, norm_rows, to_jax, to_torch
from algoperf_criteo.spec import NUM_CHUNKS, Dlrm


def weight_table(model: Dlrm) -> list[WeightRow]:
    """One row per parameter of PyTorch, in its order."""
    rows = [
        WeightRow("embedding_table", f"embedding_chunk_{i}", part=i, parts=NUM_CHUNKS, whole="jax")
        for i in range(NUM_CHUNKS)
    ]
    for mlp, dims in (("bottom_mlp", model.bottom_dims), ("top_mlp", model.top_dims)):
        for i in range(len(dims)):
            rows += dense_rows(f"{mlp}/dense_{i}", f"{mlp}.dense_{i}")
            rows += norm_rows(f"{mlp}/norm_{i}", f"{mlp}.norm_{i}") if model.layer_norm else []
    rows += dense_rows("output", "output")
    return rows + (norm_rows("embedding_norm", "embedding_norm") if model.layer_norm else [])


def jax_to_torch(model: Dlrm, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's parameters by name, from JAX's by path. Raises ValueError if they are not this model's."""
    return to_torch(weight_table(model), params)


def torch_to_jax(model: Dlrm, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """JAX's parameters by path, from PyTorch's by name. Raises ValueError if they are not this model's."""
    return to_jax(weight_table(model), params)
