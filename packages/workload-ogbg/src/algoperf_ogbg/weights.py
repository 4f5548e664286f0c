"""Which JAX parameter is which PyTorch parameter, as a table. Numpy only."""

from collections.abc import Mapping

import numpy as np

from algoperf.weight_table import WeightRow, dense_rows, norm_rows, to_jax, to_torch
from algoperf_ogbg.spec import GraphNetwork


def weight_table(model: GraphNetwork) -> list[WeightRow]:
    """One row per parameter, in the order of execution."""
    rows = dense_rows("node_embedding", "node_embedder") + dense_rows("edge_embedding", "edge_embedder")
    for step in range(model.num_message_passing_steps):
        for mlp in ("edge_mlp", "node_mlp", "global_mlp"):
            for layer in range(len(model.hidden_dims)):
                jax, torch = f"steps_{step}/{mlp}", f"steps.{step}.{mlp}"
                rows += dense_rows(f"{jax}/dense_{layer}", f"{torch}.dense_{layer}")
                rows += norm_rows(f"{jax}/norm_{layer}", f"{torch}.norm_{layer}")
    return rows + dense_rows("decoder", "decoder")


def jax_to_torch(model: GraphNetwork, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's parameters by name, from JAX's by path. Raises ValueError if they are not this model's."""
    return to_torch(weight_table(model), params)


def torch_to_jax(model: GraphNetwork, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """JAX's parameters by path, from PyTorch's by name. Raises ValueError if they are not this model's."""
    return to_jax(weight_table(model), params)
