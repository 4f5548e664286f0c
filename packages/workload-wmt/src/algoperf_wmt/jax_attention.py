"""Attention in JAX: Vaswani et al., https://arxiv.org/abs/1706.03762, section 3.2; and which tokens see which.

In shapes, B is the number of rows, Q of queries in each, T of the tokens that they look at, W the width, H the heads
and D their size.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from algoperf_wmt.spec import Transformer

XAVIER = nn.initializers.xavier_uniform()


class Tokens(NamedTuple):
    """One side of a batch.

    Attributes:
        ids: tokens [B, L], integers; 0 is padding.
        positions: of each token in its sentence [B, L]; None means that a row is one sentence.
        segments: numbers of the sentences in a row [B, L], which do not see each other; None as above.
    """

    ids: jax.Array
    positions: jax.Array | None = None
    segments: jax.Array | None = None


def attention_mask(queries: Tokens, keys: Tokens) -> jax.Array:
    """Which keys a query may look at, bool [B, 1, queries, keys]: both are real, and of one sentence."""
    mask = (queries.ids > 0)[:, :, None] & (keys.ids > 0)[:, None, :]
    if queries.segments is not None and keys.segments is not None:
        mask &= queries.segments[:, :, None] == keys.segments[:, None, :]
    return mask[:, None]


class Attention(nn.Module):
    """Attention with several heads. Each kernel is initialised as one matrix, whatever its axis of heads."""

    config: Transformer

    def setup(self) -> None:
        """Four projections without biases."""
        config = self.config
        heads = (config.num_heads, config.width // config.num_heads)
        self.query, self.key, self.value = (
            nn.DenseGeneral(heads, use_bias=False, kernel_init=XAVIER, name=name) for name in ("query", "key", "value")
        )
        self.out = nn.DenseGeneral(config.width, axis=(-2, -1), use_bias=False, kernel_init=XAVIER)

    def __call__(self, x: jax.Array, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        """Maps x [B, Q, W], which looks at tokens [B, T, W] where the mask [B, 1, Q, T] says so, to [B, Q, W]."""
        return self.attend(x, *self.keys_and_values(tokens), mask)

    def keys_and_values(self, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Maps [B, T, W] to keys [B, H, D, T] and values [B, H, T, D]."""
        return self.key(tokens).transpose(0, 2, 3, 1), self.value(tokens).swapaxes(1, 2)

    def attend(self, x: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array) -> jax.Array:
        """As `__call__`, with keys [B, H, D, T] and values [B, H, T, D].

        Who may look at nothing looks at everything evenly. The order of the axes is the one that is quick on CPUs where
        queries are few and keys many: up to eight times as quick as keys [B, H, T, D].
        """
        queries = self.query(self.config.attention_temperature * x).swapaxes(1, 2)
        scores = jnp.einsum("bhqd,bhdt->bhqt", queries * queries.shape[-1] ** -0.5, keys)
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
        return self.out(jnp.einsum("bhqt,bhtd->bhqd", jax.nn.softmax(scores), values).swapaxes(1, 2))
