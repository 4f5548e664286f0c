"""The Conformer in JAX: Gulati et al., https://arxiv.org/abs/2005.08100, with positions that are added to the input.

In shapes, B is the number of examples, T the frames of each, W the width, H the heads of attention and D their size.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from algoperf_librispeech.jax_layers import (
    ACTIVATIONS,
    XAVIER,
    BatchNorm,
    LayerNorm,
    Pass,
    Rate,
    Subsampling,
    dense,
    drop,
)
from algoperf_librispeech.spec import Conformer


def position_embedding(length: int, width: int) -> np.ndarray:
    """Sines of all frequencies, then cosines, float32 [length, width]: Vaswani et al., section 3.5."""
    half = width // 2
    angles = np.arange(length)[:, None] * np.exp(np.arange(half) * (-np.log(10_000) / (half - 1)))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


class FeedForward(nn.Module):
    """Layer norm, and two dense layers."""

    config: Conformer

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, dropout_rate: Rate) -> jax.Array:
        """Maps [B, T, W] to the same shape."""
        config = self.config
        y = ACTIVATIONS[config.activation](dense(config.mlp_dim, "Dense_0")(LayerNorm(name="LayerNorm_0")(x)))
        y = dense(config.width, "Dense_1")(drop(self, y, dropout_rate) * mask)
        return drop(self, y * mask, dropout_rate)


class QueryScaler(nn.Module):
    """Scales queries, each element by a learned positive number that is 1 at first."""

    @nn.compact
    def __call__(self, queries: jax.Array) -> jax.Array:
        """Maps [..., D] to the same shape."""
        scale = self.param("scale", nn.initializers.zeros, queries.shape[-1:])
        return queries * (jax.nn.softplus(scale) / np.log(2))


class SelfAttention(nn.Module):
    """Layer norm, and attention with several heads. Each kernel is initialised as one matrix."""

    config: Conformer

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, dropout_rate: Rate) -> jax.Array:
        """Maps [B, T, W] to the same shape. Padding may look at frames: no frame looks back at it."""
        config = self.config
        heads = (config.num_heads, config.width // config.num_heads)
        y = LayerNorm(name="LayerNorm_0")(x)
        queries, keys, values = (
            nn.DenseGeneral(heads, kernel_init=XAVIER, name=name)(y) for name in ("query", "key", "value")
        )
        queries = QueryScaler(name="QueryScaler_0")(queries) * heads[1] ** -0.5
        scores = jnp.einsum("bqhd,bkhd->bhqk", queries, keys)
        scores = jnp.where(mask[:, None, None, :, 0] > 0, scores, jnp.finfo(scores.dtype).min)
        attended = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), values) * config.attention_temperature
        out = nn.DenseGeneral(config.width, axis=(-2, -1), kernel_init=XAVIER, name="out")
        return drop(self, out(attended), dropout_rate)


class DepthwiseConv(nn.Module):
    """A convolution over time of each channel for itself, without a bias."""

    kernel_size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, T, W] to the same shape."""
        (length, width), size = x.shape[1:], self.kernel_size
        kernel = self.param("kernel", XAVIER, (size, 1, width))
        padded = jnp.pad(x, ((0, 0), (size // 2, size // 2), (0, 0)))
        # On CPUs, ten times as quick as XLA's convolution.
        return sum(padded[:, i : i + length] * kernel[i, 0] for i in range(size))


class Convolution(nn.Module):
    """Layer norm, a gate, a convolution over time with a batch norm, and a dense layer."""

    config: Conformer

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, how: Pass) -> jax.Array:
        """Maps [B, T, W] to the same shape."""
        config = self.config
        y = LayerNorm(name="LayerNorm_0")(x)
        y = dense(config.width, "Dense_0")(y) * jax.nn.sigmoid(dense(config.width, "Dense_1")(y)) * mask
        y = DepthwiseConv(config.kernel_size, name="Conv_0")(y)
        y = BatchNorm(config.statistics_momentum, name="BatchNorm_0")(y, mask, how.use_running_average)
        y = dense(config.width, "Dense_2")(ACTIVATIONS[config.activation](y))
        return drop(self, y, how.dropout_rate)


class ConformerBlock(nn.Module):
    """Half a feed-forward module, attention, convolution, the other half, each added to its input; and a layer norm."""

    config: Conformer

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, how: Pass) -> jax.Array:
        """Maps [B, T, W] to the same shape."""
        config, rate = self.config, how.dropout_rate
        x = x + 0.5 * FeedForward(config, name="FeedForwardModule_0")(x, mask, rate)
        x = x + SelfAttention(config, name="MultiHeadedSelfAttention_0")(x, mask, rate)
        x = x + Convolution(config, name="ConvolutionBlock_0")(x, mask, how)
        x = x + 0.5 * FeedForward(config, name="FeedForwardModule_1")(x, mask, rate)
        return LayerNorm(name="LayerNorm_0")(x) if config.block_norm else x


class ConformerModel(nn.Module):
    """Subsampling, positions, blocks, a layer norm, and a dense layer."""

    config: Conformer

    @nn.compact
    def __call__(self, features: jax.Array, paddings: jax.Array, how: Pass) -> tuple[jax.Array, jax.Array]:
        """Maps features [B, F, K] and paddings [B, F] to logits [B, T, vocab_size], 0 at padding, and [B, T]."""
        config = self.config
        x, paddings = Subsampling(config, "relu", name="Subsample_0")(features, paddings)
        mask = 1 - paddings[:, :, None]
        x = drop(self, x + position_embedding(*x.shape[1:]), how.dropout_rate)
        for number in range(config.num_blocks):
            x = ConformerBlock(config, name=f"ConformerBlock_{number}")(x, mask, how)
        return dense(config.vocab_size, "output")(LayerNorm(name="LayerNorm_0")(x)) * mask, paddings
