"""Which JAX parameter is which PyTorch parameter, as a table. Numpy only.

JAX parameters are named by their path, as `flax.traverse_util.flatten_dict(params, sep="/")` does; PyTorch
parameters as in a state dict.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from algoperf_ogbg.spec import GraphNetwork


class WeightRow(NamedTuple):
    """One parameter in both frameworks; `transpose` if one is the other's transpose."""

    jax: str
    torch: str
    transpose: bool


def weight_table(model: GraphNetwork) -> list[WeightRow]:
    """One row per parameter, in the order of execution."""
    rows = [*_affine("node_embedding", "node_embedder"), *_affine("edge_embedding", "edge_embedder")]
    for step in range(model.num_message_passing_steps):
        for mlp in ("edge_mlp", "node_mlp", "global_mlp"):
            for layer in range(len(model.hidden_dims)):
                jax, torch = f"steps_{step}/{mlp}", f"steps.{step}.{mlp}"
                rows += _affine(f"{jax}/dense_{layer}", f"{torch}.dense_{layer}")
                rows.append(WeightRow(f"{jax}/norm_{layer}/scale", f"{torch}.norm_{layer}.weight", False))
                rows.append(WeightRow(f"{jax}/norm_{layer}/bias", f"{torch}.norm_{layer}.bias", False))
    return [*rows, *_affine("decoder", "decoder")]


def _affine(jax: str, torch: str) -> Iterator[WeightRow]:
    yield WeightRow(f"{jax}/kernel", f"{torch}.weight", True)
    yield WeightRow(f"{jax}/bias", f"{torch}.bias", False)


def jax_to_torch(model: GraphNetwork, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's parameters by name, from JAX's by path. Raises ValueError if they are not this model's."""
    table = weight_table(model)
    _check_names(params, {row.jax for row in table})
    return {row.torch: _turned(params[row.jax], row.transpose) for row in table}


def torch_to_jax(model: GraphNetwork, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """JAX's parameters by path, from PyTorch's by name. Raises ValueError if they are not this model's."""
    table = weight_table(model)
    _check_names(params, {row.torch for row in table})
    return {row.jax: _turned(params[row.torch], row.transpose) for row in table}


def _turned(array: np.ndarray, transpose: bool) -> np.ndarray:
    return np.ascontiguousarray(array.T) if transpose else array


def _check_names(params: Mapping[str, np.ndarray], expected: set[str]) -> None:
    if params.keys() != expected:
        differing = ", ".join(sorted(params.keys() ^ expected)[:3])
        raise ValueError(f"These are not the parameters of this graph network; the first that differ: {differing}.")
