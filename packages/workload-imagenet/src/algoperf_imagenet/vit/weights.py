"""Which JAX parameter is which PyTorch parameter, as a table. Numpy only.

JAX's are named by their path, as `flax.traverse_util.flatten_dict(params, sep="/")` does; PyTorch's as in a state dict.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from algoperf_imagenet.vit.spec import VisionTransformer


class WeightRow(NamedTuple):
    """One JAX parameter, and where it is in PyTorch.

    Attributes:
        jax: its path.
        torch: the name of the PyTorch parameter that holds it.
        axes: turn JAX's array into PyTorch's.
        heads: JAX's shape, where one of its axes counts heads; PyTorch has a matrix of width x width, or a vector.
        part: which third, half, ... of the PyTorch parameter, along its first axis.
        parts: how many JAX parameters it holds.
    """

    jax: str
    torch: str
    axes: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    part: int = 0
    parts: int = 1


# Axes of the PyTorch parameter, as axes of JAX's.
_CONV = (3, 2, 0, 1)
_DENSE = (1, 0)


def weight_table(model: VisionTransformer) -> list[WeightRow]:
    """One row per JAX parameter, in the order of PyTorch's parameters."""
    rows = [*_dense("pre_logits", "pre_logits"), *_dense("conv_patch_extract", "conv_patch_extract", _CONV)]
    for i in range(model.depth):
        jax, torch = f"Transformer/encoderblock_{i}", f"encoder.net.{i}"
        rows += _norm(f"{jax}/LayerNorm_0", f"{torch}.layer_norm0")
        for name in ("query", "key", "value", "out"):
            layer = f"{jax}/MultiHeadDotProductAttention_1/{name}"
            rows += _attention(model, layer, f"{torch}.self_attention1.{name}")
        rows += _norm(f"{jax}/LayerNorm_2", f"{torch}.layer_norm2")
        layers = ("linear1", "glu_linear", "linear2") if model.gated_mlp else ("linear1", "linear2")
        for number, name in enumerate(layers):
            rows += _dense(f"{jax}/MlpBlock_3/Dense_{number}", f"{torch}.mlp3.{name}")
    if model.norm == "pre":
        rows += _norm("Transformer/encoder_layernorm", "encoder.encoder_norm")
    return [*rows, *_dense("head", "head"), *(_map_head(model) if model.pooling == "map" else ())]


def _map_head(model: VisionTransformer) -> Iterator[WeightRow]:
    jax, torch = "MAPHead_0", "map"
    attention = f"{jax}/MultiHeadDotProductAttention_0"
    yield WeightRow(f"{jax}/probe", f"{torch}.probe")
    yield from _attention(model, f"{attention}/query", f"{torch}.mha.q_proj")
    for part, name in enumerate(("key", "value")):
        yield from _attention(model, f"{attention}/{name}", f"{torch}.mha.kv_proj", part, parts=2)
    yield from _attention(model, f"{attention}/out", f"{torch}.mha.out_proj")
    yield from _norm(f"{jax}/LayerNorm_0", f"{torch}.layer_norm")
    yield from _dense(f"{jax}/MlpBlock_0/Dense_0", f"{torch}.mlp.linear1")
    yield from _dense(f"{jax}/MlpBlock_0/Dense_1", f"{torch}.mlp.linear2")


def _dense(jax: str, torch: str, axes: tuple[int, ...] = _DENSE) -> Iterator[WeightRow]:
    yield WeightRow(f"{jax}/kernel", f"{torch}.weight", axes)
    yield WeightRow(f"{jax}/bias", f"{torch}.bias")


def _norm(jax: str, torch: str) -> Iterator[WeightRow]:
    yield WeightRow(f"{jax}/scale", f"{torch}.weight")
    yield WeightRow(f"{jax}/bias", f"{torch}.bias")


def _attention(model: VisionTransformer, jax: str, torch: str, part: int = 0, parts: int = 1) -> Iterator[WeightRow]:
    heads = (model.num_heads, model.width // model.num_heads)
    is_out = jax.endswith("/out")
    kernel = (*heads, model.width) if is_out else (model.width, *heads)
    yield WeightRow(f"{jax}/kernel", f"{torch}.weight", _DENSE, kernel, part, parts)
    yield WeightRow(f"{jax}/bias", f"{torch}.bias", None, None if is_out else heads, part, parts)


def jax_to_torch(model: VisionTransformer, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's parameters by name, from JAX's by path. Raises ValueError if they are not this model's."""
    table = weight_table(model)
    _check_names(params, {row.jax for row in table})
    pieces: dict[str, list[np.ndarray]] = {}
    for row in table:
        array = params[row.jax]
        if row.heads is not None:
            array = array.reshape((model.width, model.width) if row.axes else (model.width,))
        pieces.setdefault(row.torch, []).append(array if row.axes is None else array.transpose(row.axes))
    return {name: np.concatenate(arrays) for name, arrays in pieces.items()}


def torch_to_jax(model: VisionTransformer, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """JAX's parameters by path, from PyTorch's by name. Raises ValueError if they are not this model's."""
    table = weight_table(model)
    _check_names(params, {row.torch for row in table})
    turned = {}
    for row in table:
        array = np.split(params[row.torch], row.parts)[row.part]
        # Sorting the axes' order undoes it.
        array = array if row.axes is None else array.transpose(np.argsort(row.axes))
        turned[row.jax] = np.ascontiguousarray(array if row.heads is None else array.reshape(row.heads))
    return turned


def _check_names(params: Mapping[str, np.ndarray], expected: set[str]) -> None:
    if params.keys() != expected:
        differing = ", ".join(sorted(params.keys() ^ expected)[:3])
        raise ValueError(
            f"These are not the parameters of this vision transformer; the first that differ: {differing}."
        )
