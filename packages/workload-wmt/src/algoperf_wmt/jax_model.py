"""The transformer in JAX: Vaswani et al., https://arxiv.org/abs/1706.03762, with layer norms before the branches.

Layer norms after the additions are the original's; gated MLPs are from Shazeer, https://arxiv.org/abs/2002.05202. One
embedding serves both languages and the output (Press and Wolf, https://arxiv.org/abs/1608.05859).

In shapes, B is the number of rows, S and T the tokens of an input and a target row, W the width, H the heads of
attention and D their size, V the vocabulary. While translating, K is the number of beams and L the longest
translation. A dropout rate is 0 in evaluation.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn

from algoperf.backends import jax_layers
from algoperf.backends.jax_layers import dropout
from algoperf_wmt.jax_attention import XAVIER, Attention, Tokens, attention_mask
from algoperf_wmt.positions import position_embedding
from algoperf_wmt.spec import Transformer

Rate: TypeAlias = float | jax.Array

ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {**jax_layers.ACTIVATIONS, "tanh": jnp.tanh}


class LayerCache(NamedTuple):
    """What a layer of the decoder remembers while it translates.

    Attributes:
        keys: of self attention [B, H, D, L * K]; what slot k was given at position t is number t * K + k. Flat, because
            XLA copies the cache in each step where it has to be reshaped.
        values: the same for values [B, H, L * K, D].
        source_keys: of attention to the encoder [B, H, D, S], one for all beams.
        source_values: the same for values [B, H, S, D].
    """

    keys: jax.Array
    values: jax.Array
    source_keys: jax.Array
    source_values: jax.Array


class Cache(NamedTuple):
    """What the decoder remembers: which inputs are real [B, 1, 1, S], and what each layer does."""

    source_mask: jax.Array
    layers: tuple[LayerCache, ...]


def _drop(module: nn.Module, x: jax.Array, rate: Rate) -> jax.Array:
    if isinstance(rate, (int, float)) and rate == 0:
        return x
    return dropout(x, rate, module.make_rng("dropout"))


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-6, name=name)


class Mlp(nn.Module):
    """Dense, activation, dropout, dense, dropout; the gated one multiplies by a dense layer of its input."""

    config: Transformer

    @nn.compact
    def __call__(self, x: jax.Array, dropout_rate: Rate) -> jax.Array:
        """Maps [B, T, W] to the same shape."""
        config = self.config

        def dense(features: int, number: int) -> nn.Dense:
            bias_init = nn.initializers.normal(1e-6)
            return nn.Dense(features, kernel_init=XAVIER, bias_init=bias_init, name=f"Dense_{number}")

        y = ACTIVATIONS[config.activation](dense(config.mlp_dim, 0)(x))
        if config.gated_mlp:
            y = y * dense(config.mlp_dim, 1)(x)
        y = dense(config.width, 2 if config.gated_mlp else 1)(_drop(self, y, dropout_rate))
        return _drop(self, y, dropout_rate)


class EncoderBlock(nn.Module):
    """Self attention and an MLP, each added to its input."""

    config: Transformer

    def setup(self) -> None:
        """Two branches and their norms."""
        self.norms = [_norm(f"LayerNorm_{number}") for number in range(2)]
        self.attention = Attention(self.config, name="MultiHeadDotProductAttention_0")
        self.mlp = Mlp(self.config, name="MlpBlock_0")

    def __call__(self, x: jax.Array, mask: jax.Array, dropout_rate: Rate) -> jax.Array:
        """Maps [B, S, W] to the same shape; the mask is [B, 1, S, S]."""
        y = _enter(self.config, self.norms[0], x)
        x = _leave(self.config, self.norms[0], x, _drop(self, self.attention(y, y, mask), dropout_rate))
        y = _enter(self.config, self.norms[1], x)
        return _leave(self.config, self.norms[1], x, self.mlp(y, dropout_rate))


class DecoderBlock(nn.Module):
    """Self attention, attention to the encoder and an MLP, each added to its input."""

    config: Transformer

    def setup(self) -> None:
        """Three branches and their norms."""
        self.norms = [_norm(f"LayerNorm_{number}") for number in range(3)]
        self.self_attention, self.source_attention = (
            Attention(self.config, name=f"MultiHeadDotProductAttention_{number}") for number in range(2)
        )
        self.mlp = Mlp(self.config, name="MlpBlock_0")

    def __call__(
        self, x: jax.Array, encoded: jax.Array, mask: jax.Array, source_mask: jax.Array, dropout_rate: Rate
    ) -> jax.Array:
        """Maps [B, T, W] to the same shape; encoded is [B, S, W], the masks are [B, 1, T, T] and [B, 1, T, S]."""
        y = _enter(self.config, self.norms[0], x)
        x = _leave(self.config, self.norms[0], x, _drop(self, self.self_attention(y, y, mask), dropout_rate))
        y = _enter(self.config, self.norms[1], x)
        attended = self.source_attention(y, encoded, source_mask)
        x = _leave(self.config, self.norms[1], x, _drop(self, attended, dropout_rate))
        y = _enter(self.config, self.norms[2], x)
        return _leave(self.config, self.norms[2], x, self.mlp(y, dropout_rate))

    def start(self, encoded: jax.Array, num_beams: int) -> LayerCache:
        """A cache that knows the encoder's output [B, S, W], and nothing else."""
        keys, values = self.source_attention.keys_and_values(encoded)
        batch, heads, size, _ = keys.shape
        past = self.config.max_length * num_beams
        empty_keys = jnp.zeros((batch, heads, size, past), keys.dtype)
        return LayerCache(empty_keys, jnp.zeros((batch, heads, past, size), keys.dtype), keys, values)

    def step(
        self, x: jax.Array, position: jax.Array, mask: jax.Array, source_mask: jax.Array, cache: LayerCache
    ) -> tuple[jax.Array, LayerCache]:
        """Maps [B, K, W], one token of each beam, to the same shape; the masks are [B, 1, K, L * K], [B, 1, 1, S]."""
        y = _enter(self.config, self.norms[0], x)
        new_keys, new_values = self.self_attention.keys_and_values(y)
        first = position * x.shape[1]
        keys = jax.lax.dynamic_update_slice_in_dim(cache.keys, new_keys, first, axis=3)
        values = jax.lax.dynamic_update_slice_in_dim(cache.values, new_values, first, axis=2)
        attended = self.self_attention.attend(y, keys, values, mask)
        x = _leave(self.config, self.norms[0], x, attended)
        y = _enter(self.config, self.norms[1], x)
        attended = self.source_attention.attend(y, cache.source_keys, cache.source_values, source_mask)
        x = _leave(self.config, self.norms[1], x, attended)
        y = _enter(self.config, self.norms[2], x)
        x = _leave(self.config, self.norms[2], x, self.mlp(y, 0.0))
        return x, cache._replace(keys=keys, values=values)


def _enter(config: Transformer, norm: nn.LayerNorm, x: jax.Array) -> jax.Array:
    """What a branch is given."""
    return norm(x) if config.norm == "pre" else x


def _leave(config: Transformer, norm: nn.LayerNorm, x: jax.Array, branch: jax.Array) -> jax.Array:
    """Adds a branch to its input."""
    return x + branch if config.norm == "pre" else norm(x + branch)


class Encoder(nn.Module):
    """Blocks, and a last layer norm if theirs come first."""

    config: Transformer

    def setup(self) -> None:
        """All layers."""
        self.encoderblock = [EncoderBlock(self.config) for _ in range(self.config.num_layers)]
        self.last_norm = _norm("encoder_layernorm") if self.config.norm == "pre" else None

    def __call__(self, x: jax.Array, mask: jax.Array, dropout_rate: Rate) -> jax.Array:
        """Maps [B, S, W] to the same shape; the mask is [B, 1, S, S]."""
        x = _drop(self, x, dropout_rate)
        for block in self.encoderblock:
            x = block(x, mask, dropout_rate)
        return x if self.last_norm is None else self.last_norm(x)


class Decoder(nn.Module):
    """Blocks, and a last layer norm if theirs come first."""

    config: Transformer

    def setup(self) -> None:
        """All layers."""
        self.encoderdecoderblock = [DecoderBlock(self.config) for _ in range(self.config.num_layers)]
        self.last_norm = _norm("encoderdecoder_layernorm") if self.config.norm == "pre" else None

    def __call__(
        self, x: jax.Array, encoded: jax.Array, mask: jax.Array, source_mask: jax.Array, dropout_rate: Rate
    ) -> jax.Array:
        """As of a block."""
        x = _drop(self, x, dropout_rate)
        for block in self.encoderdecoderblock:
            x = block(x, encoded, mask, source_mask, dropout_rate)
        return x if self.last_norm is None else self.last_norm(x)

    def start(self, encoded: jax.Array, num_beams: int) -> tuple[LayerCache, ...]:
        """As of a block, for each."""
        return tuple(block.start(encoded, num_beams) for block in self.encoderdecoderblock)

    def step(self, x: jax.Array, position: jax.Array, mask: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """As of a block."""
        layers = []
        for block, old in zip(self.encoderdecoderblock, cache.layers, strict=True):
            x, new = block.step(x, position, mask, cache.source_mask, old)
            layers.append(new)
        return x if self.last_norm is None else self.last_norm(x), cache._replace(layers=tuple(layers))


class TransformerModel(nn.Module):
    """Encoder and decoder around one embedding of tokens."""

    config: Transformer

    def setup(self) -> None:
        """Embedding, encoder, decoder."""
        config = self.config
        self.shared_embedding = nn.Embed(
            config.vocab_size, config.width, embedding_init=nn.initializers.normal(stddev=1.0)
        )
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    def __call__(self, inputs: Tokens, targets: Tokens, dropout_rate: Rate = 0.0) -> jax.Array:
        """Maps inputs [B, S] and targets [B, T] to logits [B, T, V], each of which has seen earlier targets only."""
        return self.decode(self.encode(inputs, dropout_rate), inputs, targets, dropout_rate)

    def encode(self, inputs: Tokens, dropout_rate: Rate = 0.0) -> jax.Array:
        """Maps inputs [B, S] to [B, S, W]."""
        x = self._embed(inputs.ids, inputs.positions)
        return self.encoder(x, attention_mask(inputs, inputs), dropout_rate)

    def decode(self, encoded: jax.Array, inputs: Tokens, targets: Tokens, dropout_rate: Rate = 0.0) -> jax.Array:
        """As `__call__`, from what `encode` returned."""
        # Over the whole row: in a packed one, a sentence starts with the end of the one before it.
        shifted = jnp.pad(targets.ids, ((0, 0), (1, 0)))[:, :-1]
        x = self._embed(shifted, targets.positions)
        earlier = jnp.tri(targets.ids.shape[1], dtype=bool)
        mask = attention_mask(targets, targets) & earlier
        return self._logits(self.decoder(x, encoded, mask, attention_mask(targets, inputs), dropout_rate))

    def start_decoding(self, encoded: jax.Array, inputs: jax.Array, num_beams: int) -> Cache:
        """A cache for translating inputs [B, S], one sentence per row, with what `encode` made of them."""
        return Cache((inputs > 0)[:, None, None], self.decoder.start(encoded, num_beams))

    def decode_step(
        self, tokens: jax.Array, position: jax.Array, history: jax.Array, cache: Cache
    ) -> tuple[jax.Array, Cache]:
        """One token of each beam.

        Nothing in the cache moves when a beam goes on with another one's sentence: it says where its past lies.

        Args:
            tokens: int32 [B, K], what each slot is given.
            position: of these tokens, an integer; may be traced.
            history: int32 [B, K, L]; the slot that was given the token of beam k's sentence at position t is at
                [:, k, t], and at `position` it is k. Later ones do not matter.
            cache: of `start_decoding`, or of the step before.

        Returns:
            Logits of each beam's next token [B, K, V], and the cache.
        """
        batch, beams, length = history.shape
        seen = (history[..., None] == jnp.arange(beams)) & (jnp.arange(length) <= position)[:, None]
        mask = seen.reshape(batch, 1, beams, length * beams)
        x = self._embed(tokens, jnp.broadcast_to(position, tokens.shape))
        x, cache = self.decoder.step(x, position, mask, cache)
        return self._logits(x), cache

    def _embed(self, ids: jax.Array, positions: jax.Array | None) -> jax.Array:
        table = position_embedding(self.config.max_length, self.config.width)
        places = table[: ids.shape[1]] if positions is None else jnp.asarray(table)[positions]
        x = self.shared_embedding(ids)
        # In the parameters' type, which a submission may have made a shorter one.
        return (x + places).astype(x.dtype)

    def _logits(self, x: jax.Array) -> jax.Array:
        # Scaled before there are V of them.
        return self.shared_embedding.attend(x * self.config.width**-0.5)
