"""Which JAX parameter is which PyTorch parameter, as a table. Numpy only.

JAX's are named by their path, as `flax.traverse_util.flatten_dict(params, sep="/")` does; PyTorch's as in a state dict.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from algoperf.weight_table import DENSE_AXES, WeightRow, dense_rows, norm_rows, to_jax, to_torch
from algoperf_wmt.spec import Transformer


def weight_table(model: Transformer) -> list[WeightRow]:
    """One row per JAX parameter, in the order of PyTorch's parameters."""
    rows = [WeightRow("shared_embedding/embedding", "shared_embedding.weight")]
    for i in range(model.num_layers):
        jax, torch = f"encoder/encoderblock_{i}", f"encoder.encoder.layers.{i}"
        rows += _self_attention(model, f"{jax}/MultiHeadDotProductAttention_0", f"{torch}.self_attn")
        rows += _mlp_and_norms(model, jax, torch, num_norms=2)
    if model.norm == "pre":
        rows += norm_rows("encoder/encoder_layernorm", "encoder.encoder.norm")
    for i in range(model.num_layers):
        jax, torch = f"decoder/encoderdecoderblock_{i}", f"decoder.decoder.layers.{i}"
        rows += _self_attention(model, f"{jax}/MultiHeadDotProductAttention_0", f"{torch}.self_attn")
        rows += _source_attention(model, f"{jax}/MultiHeadDotProductAttention_1", f"{torch}.multihead_attn")
        rows += _mlp_and_norms(model, jax, torch, num_norms=3)
    if model.norm == "pre":
        rows += norm_rows("decoder/encoderdecoder_layernorm", "decoder.decoder.norm")
    return rows


def _self_attention(model: Transformer, jax: str, torch: str) -> Iterator[WeightRow]:
    for part, name in enumerate(("query", "key", "value")):
        yield _projection(model, f"{jax}/{name}", f"{torch}.in_proj", part, parts=3)
    yield _projection(model, f"{jax}/out", f"{torch}.out_proj")


def _source_attention(model: Transformer, jax: str, torch: str) -> Iterator[WeightRow]:
    yield _projection(model, f"{jax}/query", f"{torch}.q_proj")
    for part, name in enumerate(("key", "value")):
        yield _projection(model, f"{jax}/{name}", f"{torch}.kv_proj", part, parts=2)
    yield _projection(model, f"{jax}/out", f"{torch}.out_proj")


def _projection(model: Transformer, jax: str, torch: str, part: int = 0, parts: int = 1) -> WeightRow:
    """In JAX an axis counts the heads; PyTorch has a matrix of width x width."""
    heads = (model.num_heads, model.width // model.num_heads)
    kernel = (*heads, model.width) if jax.endswith("/out") else (model.width, *heads)
    return WeightRow(f"{jax}/kernel", f"{torch}.weight", DENSE_AXES, (kernel, (model.width, model.width)), part, parts)


def _mlp_and_norms(model: Transformer, jax: str, torch: str, num_norms: int) -> Iterator[WeightRow]:
    layers = ("linear1", "linear_glu", "linear2") if model.gated_mlp else ("linear1", "linear2")
    for number, name in enumerate(layers):
        yield from dense_rows(f"{jax}/MlpBlock_0/Dense_{number}", f"{torch}.{name}")
    for number in range(num_norms):
        yield from norm_rows(f"{jax}/LayerNorm_{number}", f"{torch}.norm{number + 1}")


def jax_to_torch(model: Transformer, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's parameters by name, from JAX's by path. Raises ValueError if they are not this model's."""
    return to_torch(weight_table(model), params)


def torch_to_jax(model: Transformer, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """JAX's parameters by path, from PyTorch's by name. Raises ValueError if they are not this model's."""
    return to_jax(weight_table(model), params)
