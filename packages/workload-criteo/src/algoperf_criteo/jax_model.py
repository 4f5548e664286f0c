"""The deep learning recommendation model of Naumov et al. (https://arxiv.org/abs/1906.00091) in JAX.

Sizes, layer norms and the residual variant: AlgoPerf (https://arxiv.org/abs/2306.07179, appendix D).

In shapes, B are the examples of a batch.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from algoperf.backends.jax_layers import dropout
from algoperf_criteo.spec import NUM_DENSE, Dlrm

# Rows of the embedding table that are drawn at once: few enough to stay in a processor's cache.
_ROWS = 2**12

# flax's own is cut at two deviations.
_glorot_normal = nn.initializers.variance_scaling(1.0, "fan_avg", "normal")


def uniform_table(key: jax.Array, shape: tuple[int, int], limit: float) -> jax.Array:
    """A table [vocab_size, embed_dim] that is uniform between 0 and `limit`.

    It is drawn a few rows at a time, each into its place: the random bits of all rows would take as much memory as the
    table, which is most of the model.
    """
    vocab_size, embed_dim = shape
    rows = math.gcd(vocab_size, _ROWS)
    draw = partial(jax.random.uniform, shape=(rows, embed_dim), maxval=limit)
    return jax.lax.map(draw, jax.random.split(key, vocab_size // rows)).reshape(shape)


def dot_products(features: jax.Array) -> jax.Array:
    """Dot products of all pairs of features, each with itself too: [B, F, D] to [B, F * (F + 1) / 2].

    Pairs are in the order of the upper triangle's rows.
    """
    products = jnp.einsum("bid,bjd->bij", features, features)
    first, second = np.triu_indices(features.shape[1])
    return products[:, first, second]


class MLP(nn.Module):
    """For each width: dense, ReLU and perhaps layer norm.

    With `residual`, each layer but the first adds its output to its input, after the ReLU.
    """

    dims: tuple[int, ...]
    kernel_init: nn.initializers.Initializer
    residual: bool
    layer_norm: bool

    @nn.compact
    def __call__(self, x: jax.Array, dropout_rate: float | jax.Array | None = None) -> jax.Array:
        """Maps [B, .] to [B, dims[-1]]; with a rate, the last layer's output is dropped out (before it is added)."""
        last = len(self.dims) - 1
        for i, width in enumerate(self.dims):
            bias_init = nn.initializers.normal(width**-0.5)
            h = nn.relu(nn.Dense(width, kernel_init=self.kernel_init, bias_init=bias_init, name=f"dense_{i}")(x))
            if self.layer_norm:
                h = nn.LayerNorm(epsilon=1e-6, name=f"norm_{i}")(h)
            if i == last and dropout_rate is not None:
                h = dropout(h, dropout_rate, self.make_rng("dropout"))
            x = x + h if self.residual and i > 0 else h
        return x


class DlrmModel(nn.Module):
    """Predicts clicks from dense features and from categories, whose embeddings lie in one table.

    The table's gradient is what autodiff gives: a dense array, zero in the rows that a batch does not look up.
    Optimizers of submissions take arrays of the parameters' shapes, and momentum and weight decay move all rows.
    """

    config: Dlrm

    @nn.compact
    def __call__(self, inputs: jax.Array, dropout_rate: float | jax.Array | None = None) -> jax.Array:
        """Maps dense features and ids (as floats), [B, 13 + 26], to logits [B, 1]. A rate of None: no dropout."""
        config = self.config
        mlp = partial(MLP, residual=config.interaction == "residual", layer_norm=config.layer_norm)
        table = self.param(
            "embedding_table", uniform_table, (config.vocab_size, config.embed_dim), config.embedding_limit
        )
        # Ids need float32, whatever the parameters' type.
        dense, ids = inputs[:, :NUM_DENSE].astype(table.dtype), inputs[:, NUM_DENSE:].astype(jnp.int32)
        bottom = mlp(config.bottom_dims, nn.initializers.glorot_uniform(), name="bottom_mlp")(dense)
        embeddings = table[ids % config.vocab_size]
        if config.layer_norm:
            embeddings = nn.LayerNorm(epsilon=1e-6, name="embedding_norm")(embeddings)
        if config.interaction == "dot":
            joint = dot_products(jnp.concatenate([bottom[:, None], embeddings], axis=1))
        else:
            joint = embeddings.reshape(len(embeddings), -1)
        x = jnp.concatenate([bottom, joint], axis=1)
        x = mlp(config.top_dims, _glorot_normal, name="top_mlp")(x, dropout_rate)
        # As in the hidden layers, the bias's deviation is 1 / sqrt(width): 1 for the single logit.
        return nn.Dense(1, kernel_init=_glorot_normal, bias_init=nn.initializers.normal(1.0), name="output")(x)
