"""Which JAX parameter is which PyTorch parameter, as a table. Numpy only.

JAX's are named by their path, as `flax.traverse_util.flatten_dict(params, sep="/")` does; PyTorch's as in a state dict.
"""

from collections.abc import Mapping

import numpy as np

from algoperf.weight_table import DENSE_AXES, WeightRow, to_jax, to_torch
from algoperf_lm.spec import LanguageModel


def weight_table(model: LanguageModel) -> list[WeightRow]:
    """One row per JAX parameter, in the order of PyTorch's parameters."""
    rows = [WeightRow("embedding/embedding", "embedding.weight")]
    for i in range(model.num_layers):
        rows += _block(model, f"block_{i}", f"block.{i}")
    if model.norm == "pre":
        rows.append(WeightRow("last_norm/scale", "last_norm.weight"))
    return rows


def _block(model: LanguageModel, jax: str, torch: str) -> list[WeightRow]:
    shapes = ((model.width, model.num_heads, model.head_size), (model.width, model.width))
    rows = [WeightRow(f"{jax}/attention_norm/scale", f"{torch}.attention_norm.weight")]
    if model.learned_temperature:
        rows.append(WeightRow(f"{jax}/attention/temperature", f"{torch}.attention.temperature"))
    rows += [
        WeightRow(f"{jax}/attention/{name}/kernel", f"{torch}.attention.in_proj.weight", DENSE_AXES, shapes, part, 3)
        for part, name in enumerate(("query", "key", "value"))
    ]
    rows.append(WeightRow(f"{jax}/attention/out/kernel", f"{torch}.attention.out.weight", DENSE_AXES))
    rows.append(WeightRow(f"{jax}/mlp_norm/scale", f"{torch}.mlp_norm.weight"))
    rows += [WeightRow(f"{jax}/mlp/{name}/kernel", f"{torch}.mlp.{name}.weight", DENSE_AXES) for name in ("up", "down")]
    return rows


def jax_to_torch(model: LanguageModel, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's parameters by name, from JAX's by path. Raises ValueError if they are not this model's."""
    return to_torch(weight_table(model), params)


def torch_to_jax(model: LanguageModel, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """JAX's parameters by path, from PyTorch's by name. Raises ValueError if they are not this model's."""
    return to_jax(weight_table(model), params)
