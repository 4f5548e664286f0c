"""A vision transformer in JAX: Dosovitskiy et al., https://arxiv.org/abs/2010.11929, without a class token.

Fixed position embeddings and the mean over tokens are from Beyer et al., https://arxiv.org/abs/2205.01580; pooling by
attention ("MAP head") from Zhai et al., https://arxiv.org/abs/2106.04560; gated MLPs from Shazeer,
https://arxiv.org/abs/2002.05202.

In shapes, T is the number of tokens and D their width. A dropout rate is 0 in evaluation.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn

from algoperf.backends.jax_layers import dropout
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ModelInitState, ParameterType, RandomState
from algoperf_imagenet.jax_classification import JaxClassification
from algoperf_imagenet.vit.positions import position_embedding
from algoperf_imagenet.vit.spec import VisionTransformer

Rate: TypeAlias = float | jax.Array

_XAVIER = nn.initializers.xavier_uniform()
_ATTENTION_TYPES = {
    "query": ParameterType.ATTENTION_Q,
    "key": ParameterType.ATTENTION_K,
    "value": ParameterType.ATTENTION_V,
    "out": ParameterType.ATTENTION_OUT,
}


def _drop(module: nn.Module, x: jax.Array, rate: Rate) -> jax.Array:
    if isinstance(rate, (int, float)) and rate == 0:
        return x
    return dropout(x, rate, module.make_rng("dropout"))


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-6, name=name)


class Mlp(nn.Module):
    """Dense, GELU (tanh approximation), dropout, dense; the gated one multiplies by a dense layer of the activation."""

    hidden: int
    is_gated: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, dropout_rate: Rate) -> jax.Array:
        """Maps [B, T, D] to the same shape."""

        def dense(features: int, number: int) -> nn.Dense:
            bias_init = nn.initializers.normal(1e-6)
            return nn.Dense(features, kernel_init=_XAVIER, bias_init=bias_init, name=f"Dense_{number}")

        y = jax.nn.gelu(dense(self.hidden, 0)(x), approximate=True)
        if self.is_gated:
            y = y * dense(self.hidden, 1)(y)
        y = _drop(self, y, dropout_rate)
        return dense(x.shape[-1], 2 if self.is_gated else 1)(y)


class Attention(nn.Module):
    """Attention with several heads. Each kernel is initialised as one matrix, whatever its axis of heads."""

    num_heads: int

    @nn.compact
    def __call__(self, queries: jax.Array, tokens: jax.Array) -> jax.Array:
        """Maps queries [B, Q, D], which look at tokens [B, T, D], to [B, Q, D]."""
        width = queries.shape[-1]
        heads = (self.num_heads, width // self.num_heads)

        def split(x: jax.Array, name: str) -> jax.Array:
            return nn.DenseGeneral(heads, kernel_init=_XAVIER, name=name)(x)

        y = jax.nn.dot_product_attention(split(queries, "query"), split(tokens, "key"), split(tokens, "value"))
        return nn.DenseGeneral(width, axis=(-2, -1), kernel_init=_XAVIER, name="out")(y)


class EncoderBlock(nn.Module):
    """Attention and an MLP, each added to its input, with layer norms before them or after the additions."""

    config: VisionTransformer

    @nn.compact
    def __call__(self, x: jax.Array, dropout_rate: Rate) -> jax.Array:
        """Maps [B, T, D] to the same shape."""
        config = self.config
        first_norm, second_norm = _norm("LayerNorm_0"), _norm("LayerNorm_2")
        attention = Attention(config.num_heads, name="MultiHeadDotProductAttention_1")
        mlp = Mlp(config.mlp_dim, config.gated_mlp, name="MlpBlock_3")
        if config.norm == "pre":
            y = first_norm(x)
            x = x + _drop(self, attention(y, y), dropout_rate)
            return x + _drop(self, mlp(second_norm(x), dropout_rate), dropout_rate)
        x = first_norm(x + _drop(self, attention(x, x), dropout_rate))
        return second_norm(x + _drop(self, mlp(x, dropout_rate), dropout_rate))


class Encoder(nn.Module):
    """Encoder blocks, and a last layer norm if theirs come first."""

    config: VisionTransformer

    @nn.compact
    def __call__(self, x: jax.Array, dropout_rate: Rate) -> jax.Array:
        """Maps [B, T, D] to the same shape."""
        x = _drop(self, x, dropout_rate)
        for number in range(self.config.depth):
            x = EncoderBlock(self.config, name=f"encoderblock_{number}")(x, dropout_rate)
        return _norm("encoder_layernorm")(x) if self.config.norm == "pre" else x


class MapHead(nn.Module):
    """Pools tokens by the attention of one learned query, and an MLP. Dropout is in the MLP alone."""

    config: VisionTransformer

    @nn.compact
    def __call__(self, tokens: jax.Array, dropout_rate: Rate) -> jax.Array:
        """Maps [B, T, D] to [B, D]."""
        batch, _, width = tokens.shape
        probe = self.param("probe", _XAVIER, (1, 1, width))
        queries = jnp.broadcast_to(probe, (batch, 1, width))
        y = Attention(self.config.num_heads, name="MultiHeadDotProductAttention_0")(queries, tokens)
        y = y + Mlp(self.config.mlp_dim, name="MlpBlock_0")(_norm("LayerNorm_0")(y), dropout_rate)
        return y[:, 0]


class VisionTransformerModel(nn.Module):
    """Patches become tokens; an encoder, pooling, a hidden layer and the output layer follow."""

    config: VisionTransformer

    @nn.compact
    def __call__(self, images: jax.Array, dropout_rate: Rate = 0.0) -> jax.Array:
        """Maps images [B, H, W, 3] to logits [B, num_classes]."""
        config = self.config
        patch = (config.patch_size, config.patch_size)
        x = nn.Conv(config.width, patch, patch, padding="VALID", name="conv_patch_extract")(images)
        batch, rows, columns, width = x.shape
        x = x.reshape(batch, rows * columns, width) + position_embedding(rows, columns, width)
        x = Encoder(config, name="Transformer")(x, dropout_rate)
        x = MapHead(config, name="MAPHead_0")(x, dropout_rate) if config.pooling == "map" else x.mean(axis=1)
        x = jnp.tanh(nn.Dense(width, name="pre_logits")(x))
        return nn.Dense(config.num_classes, kernel_init=nn.initializers.zeros_init(), name="head")(x)


class VisionTransformerJax(JaxClassification):
    """The vision transformer and its variants in JAX."""

    @property
    def _model(self) -> VisionTransformerModel:
        return VisionTransformerModel(self.spec.model)

    def init_variables(self, rng: RandomState) -> ModelInitState:
        """Fresh parameters; there is no model state."""
        patch = self.spec.model.patch_size
        # One token is enough: no parameter depends on the size of the images.
        return self._model.init(rng, jnp.zeros((1, patch, patch, 3)))["params"], None

    def parameter_type(self, path: tuple[str, ...]) -> ParameterType:
        """By the layer's and the parameter's name; biases of attention have a type of their own."""
        *_, layer, name = path
        if layer in _ATTENTION_TYPES:
            return ParameterType.ATTENTION_BIAS if name == "bias" else _ATTENTION_TYPES[layer]
        if "norm" in layer.lower():
            return ParameterType.LAYER_NORM_SCALE if name == "scale" else ParameterType.LAYER_NORM_BIAS
        if name == "bias":
            return ParameterType.BIAS
        return ParameterType.CONV_WEIGHT if layer.startswith("conv") else ParameterType.WEIGHT

    def model_fn(
        self,
        params: Any,
        augmented_and_preprocessed_input_batch: Mapping[str, Any],
        model_state: ModelAuxiliaryState,
        mode: ForwardPassMode,
        rng: RandomState,
        update_batch_norm: bool,
        dropout_rate: float | jax.Array | None = None,
    ) -> tuple[jax.Array, ModelAuxiliaryState]:
        """Logits [B, num_classes], float32, and None.

        Raises:
            ValueError: the inputs are not images [B, image_size, image_size, 3], or there is a model state.
        """
        del update_batch_norm
        images, size = augmented_and_preprocessed_input_batch["inputs"], self.spec.model.image_size
        if model_state is not None:
            raise ValueError(f"{self.spec.name} has no model state; pass None as model_state.")
        if images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise ValueError(f"{self.spec.name} needs inputs of the shape [B, {size}, {size}, 3], not {images.shape}.")
        if mode is ForwardPassMode.EVAL:
            return self._model.apply({"params": params}, images), None
        rate = self.spec.dropout_rate if dropout_rate is None else dropout_rate
        return self._model.apply({"params": params}, images, rate, rngs={"dropout": rng}), None
