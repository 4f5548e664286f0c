"""Which JAX parameter is which PyTorch parameter, as a table. Numpy only.

JAX's are named by their path, as `flax.traverse_util.flatten_dict(params, sep="/")` does; PyTorch's as in a state dict.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from algoperf.weight_table import CONV_AXES, DENSE_AXES, WeightRow, dense_rows, norm_rows, to_jax, to_torch
from algoperf_imagenet.vit.spec import VisionTransformer


def weight_table(model: VisionTransformer) -> list[WeightRow]:
    """One row per JAX parameter, in the order of PyTorch's parameters."""
    rows = [*dense_rows("pre_logits", "pre_logits"), *dense_rows("conv_patch_extract", "conv_patch_extract", CONV_AXES)]
    for i in range(model.depth):
        jax, torch = f"Transformer/encoderblock_{i}", f"encoder.net.{i}"
        rows += norm_rows(f"{jax}/LayerNorm_0", f"{torch}.layer_norm0")
        for name in ("query", "key", "value", "out"):
            layer = f"{jax}/MultiHeadDotProductAttention_1/{name}"
            rows += _attention(model, layer, f"{torch}.self_attention1.{name}")
        rows += norm_rows(f"{jax}/LayerNorm_2", f"{torch}.layer_norm2")
        layers = ("linear1", "glu_linear", "linear2") if model.gated_mlp else ("linear1", "linear2")
        for number, name in enumerate(layers):
            rows += dense_rows(f"{jax}/MlpBlock_3/Dense_{number}", f"{torch}.mlp3.{name}")
    if model.norm == "pre":
        rows += norm_rows("Transformer/encoder_layernorm", "encoder.encoder_norm")
    return [*rows, *dense_rows("head", "head"), *(_map_head(model) if model.pooling == "map" else ())]


def _map_head(model: VisionTransformer) -> Iterator[WeightRow]:
    jax, torch = "MAPHead_0", "map"
    attention = f"{jax}/MultiHeadDotProductAttention_0"
    yield WeightRow(f"{jax}/probe", f"{torch}.probe")
    yield from _attention(model, f"{attention}/query", f"{torch}.mha.q_proj")
    for part, name in enumerate(("key", "value")):
        yield from _attention(model, f"{attention}/{name}", f"{torch}.mha.kv_proj", part, parts=2)
    yield from _attention(model, f"{attention}/out", f"{torch}.mha.out_proj")
    yield from norm_rows(f"{jax}/LayerNorm_0", f"{torch}.layer_norm")
    yield from dense_rows(f"{jax}/MlpBlock_0/Dense_0", f"{torch}.mlp.linear1")
    yield from dense_rows(f"{jax}/MlpBlock_0/Dense_1", f"{torch}.mlp.linear2")


def _attention(model: VisionTransformer, jax: str, torch: str, part: int = 0, parts: int = 1) -> Iterator[WeightRow]:
    """In JAX an axis counts the heads; PyTorch has a matrix of width x width, and a vector."""
    heads = (model.num_heads, model.width // model.num_heads)
    is_out = jax.endswith("/out")
    kernel = (*heads, model.width) if is_out else (model.width, *heads)
    yield WeightRow(f"{jax}/kernel", f"{torch}.weight", DENSE_AXES, (kernel, (model.width, model.width)), part, parts)
    yield WeightRow(f"{jax}/bias", f"{torch}.bias", None, None if is_out else (heads, (model.width,)), part, parts)


def jax_to_torch(model: VisionTransformer, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's parameters by name, from JAX's by path. Raises ValueError if they are not this model's."""
    return to_torch(weight_table(model), params)


def torch_to_jax(model: VisionTransformer, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """JAX's parameters by path, from PyTorch's by name. Raises ValueError if they are not this model's."""
    return to_jax(weight_table(model), params)
