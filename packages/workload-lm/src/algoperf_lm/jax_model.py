"""The language model in JAX: a transformer (Vaswani et al., https://arxiv.org/abs/1706.03762) that is a decoder alone.

Norms are by the root mean square (Zhang and Sennrich, https://arxiv.org/abs/1910.07467), MLPs are gated (Shazeer,
https://arxiv.org/abs/2002.05202), positions are rotations (see `rotary`), and queries and keys are normalised (Henry et
al., https://arxiv.org/abs/2010.04245). One embedding serves the input and the output (Press and Wolf,
https://arxiv.org/abs/1608.05859). No layer has a bias.

In shapes, B is the number of sequences, T of tokens in each, W the width, H the heads and D their size, F the width
inside MLPs, V the vocabulary.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.initializers import constant, normal

from algoperf_lm.rotary import rotations
from algoperf_lm.spec import LanguageModel

EPS = 1e-6
GATES: Mapping[str, Callable[[jax.Array], jax.Array]] = {"sigmoid": jax.nn.sigmoid, "silu": jax.nn.silu}


def _norm(name: str) -> nn.RMSNorm:
    return nn.RMSNorm(epsilon=EPS, name=name)


def unit(x: jax.Array) -> jax.Array:
    """X / (|x| + EPS) along the last axis; the gradient at 0 is finite."""
    squares = jnp.sum(x * x, axis=-1, keepdims=True)
    return x / (jnp.sqrt(squares + jnp.finfo(x.dtype).tiny) + EPS)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Turns pairs of neighbouring components of [B, T, H, D] by angles whose cosines and sines are [T, D / 2]."""
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    first, second = pairs[..., 0], pairs[..., 1]
    cos, sin = cos[:, None], sin[:, None]
    turned = jnp.stack([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)


def attend(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    """Each query's mean of the values up to its own, by the softmax of its products with their keys.

    Args:
        queries: [B, H, T, D].
        keys: [B, H, D, T], the order that is quick on CPUs.
        values: [B, H, T, D].

    Returns:
        [B, H, T, D].
    """
    scores = queries @ keys
    # After the multiplication by the temperature, which may be of any sign.
    scores = jnp.where(jnp.tri(queries.shape[2], dtype=bool), scores, jnp.finfo(scores.dtype).min)
    return jax.nn.softmax(scores) @ values


class Attention(nn.Module):
    """Attention of tokens to those before them and to themselves."""

    config: LanguageModel

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, T, W] to the same shape."""
        config, length = self.config, x.shape[1]
        heads = (config.num_heads, config.head_size)
        query, key, value = (
            nn.DenseGeneral(heads, use_bias=False, kernel_init=normal(config.deviation), name=name)(x)
            for name in ("query", "key", "value")
        )
        cos, sin = jnp.asarray(rotations(length, config.head_size, config.rotary_base))
        query, key = (unit(rotate(y, cos, sin)) for y in (query, key))
        temperature: float | jax.Array = config.temperature
        if config.learned_temperature:
            temperature = self.param("temperature", constant(config.temperature), ())
        queries, keys, values = (query * temperature).swapaxes(1, 2), key.transpose(0, 2, 3, 1), value.swapaxes(1, 2)
        # The scores of all layers at once are most of the memory of a training step; made again, they take little time.
        y = jax.checkpoint(attend)(queries, keys, values).swapaxes(1, 2).reshape(x.shape)
        return nn.Dense(config.width, use_bias=False, kernel_init=normal(config.residual_deviation), name="out")(y)


class Mlp(nn.Module):
    """A dense layer whose one half is gated by the other, and a second one."""

    config: LanguageModel

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, T, W] to the same shape."""
        config = self.config
        y = nn.Dense(2 * config.mlp_dim, use_bias=False, kernel_init=normal(config.deviation), name="up")(x)
        values, gate = jnp.split(y, 2, axis=-1)
        y = values * GATES[config.gate](gate)
        return nn.Dense(config.width, use_bias=False, kernel_init=normal(config.residual_deviation), name="down")(y)


class Block(nn.Module):
    """Attention and an MLP, each added to its input."""

    config: LanguageModel

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, T, W] to the same shape."""
        for branch in (Attention(self.config, name="attention"), Mlp(self.config, name="mlp")):
            norm = _norm(f"{branch.name}_norm")
            x = x + branch(norm(x)) if self.config.norm == "pre" else norm(x + branch(x))
        return x


class LmModel(nn.Module):
    """Blocks between an embedding of tokens and the same as the output."""

    config: LanguageModel

    def setup(self) -> None:
        """Embedding, blocks, and a last norm if those of blocks come first."""
        config = self.config
        self.embedding = nn.Embed(config.vocab_size, config.width, embedding_init=normal(config.deviation))
        self.block = [Block(config) for _ in range(config.num_layers)]
        self.last_norm = _norm("last_norm") if config.norm == "pre" else None

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps tokens [B, T] to logits [B, T, V] of the next ones."""
        return self.logits(self.hidden(tokens))

    def hidden(self, tokens: jax.Array) -> jax.Array:
        """Maps tokens [B, T] to [B, T, W]."""
        x = self.embedding(tokens)
        for block in self.block:
            x = block(x)
        return x if self.last_norm is None else self.last_norm(x)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Maps [..., W] to [..., V]."""
        return self.embedding.attend(hidden)
