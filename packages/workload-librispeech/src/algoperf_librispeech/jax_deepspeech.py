"""DeepSpeech in JAX: Amodei et al., https://arxiv.org/abs/1512.02595, with LSTMs and residual connections.

In shapes, B is the number of examples, T the frames of each, W the width, H half of it: what one direction of an LSTM
has.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from algoperf_librispeech.jax_layers import ACTIVATIONS, BatchNorm, LayerNorm, Pass, Subsampling, dense, drop
from algoperf_librispeech.spec import DeepSpeech

# Input, forget, cell, output.
_GATES = "ifgo"
# A gate that is given this is closed, to the last bit, in every type of numbers.
_CLOSED = -1e4


def _direction(key: jax.Array, width: int, size: int) -> dict[str, Any]:
    """Fresh parameters of one direction, a matrix for each gate: of its inputs, and of its outputs of the frame before.

    The recurrent ones are orthogonal: Saxe et al., https://arxiv.org/abs/1312.6120.
    """
    input_keys, keys = jax.random.split(key, (2, len(_GATES)))
    # Mapped, because batches of factorisations can wait for each other for ever on CPUs of few cores.
    inputs = jax.lax.map(lambda key: nn.initializers.lecun_normal()(key, (width, size)), input_keys)
    outputs = jax.lax.map(lambda key: nn.initializers.orthogonal()(key, (size, size)), keys)
    of_inputs = {f"i{gate}": {"kernel": kernel} for gate, kernel in zip(_GATES, inputs)}
    of_outputs = {f"h{gate}": {"kernel": kernel, "bias": jnp.zeros(size)} for gate, kernel in zip(_GATES, outputs)}
    return of_inputs | of_outputs


class BidirectionalLSTM(nn.Module):
    """Hochreiter and Schmidhuber, 1997, https://doi.org/10.1162/neco.1997.9.8.1735, forwards and backwards."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """Maps [B, T, W] to the same shape: a half from each direction. Padding is not read, and becomes 0."""
        width = x.shape[-1]
        directions = [self.param(name, _direction, width, width // 2) for name in ("forward", "backward")]

        def gates(kind: str, name: str) -> list[jax.Array]:
            return [jnp.concatenate([d[f"{kind}{gate}"][name] for gate in _GATES], axis=-1) for d in directions]

        # Of all frames at once; what is left for the loop is what depends on the frame before.
        inputs = [x @ kernel + bias for kernel, bias in zip(gates("i", "kernel"), gates("h", "bias"))]
        # Closed gates forget: each direction starts from nothing at its first frame that is no padding.
        ahead, back = (jnp.where(mask > 0, y, _CLOSED).swapaxes(0, 1) for y in inputs)
        outputs = _lstm(jnp.stack([ahead, back[::-1]], axis=1), jnp.stack(gates("h", "kernel")))
        return jnp.concatenate([outputs[:, 0], outputs[::-1, 1]], axis=-1).swapaxes(0, 1)


def _lstm(inputs: jax.Array, kernels: jax.Array) -> jax.Array:
    """Runs both directions; maps [T, 2, B, 4 * H] with recurrent kernels [2, H, 4 * H] to [T, 2, B, H]."""

    def step(state: tuple[jax.Array, jax.Array], x: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        output, cell = state
        i, f, g, o = jnp.split(x + jnp.einsum("dbh,dhg->dbg", output, kernels), len(_GATES), axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        output = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (output, cell), output

    nothing = jnp.zeros((*inputs.shape[1:3], kernels.shape[1]), inputs.dtype)
    return jax.lax.scan(step, (nothing, nothing), inputs)[1]


def _norm(config: DeepSpeech, x: jax.Array, mask: jax.Array, how: Pass) -> jax.Array:
    """What comes before each layer."""
    if config.norm == "layer":
        return LayerNorm(name="LayerNorm_0")(x)
    return BatchNorm(config.statistics_momentum, name="BatchNorm_0")(x, mask, how.use_running_average)


class RecurrentLayer(nn.Module):
    """A norm and an LSTM."""

    config: DeepSpeech

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, how: Pass) -> jax.Array:
        """Maps [B, T, W] to the same shape."""
        return BidirectionalLSTM(name="LSTM_0")(_norm(self.config, x, mask, how), mask)


class FeedForward(nn.Module):
    """A norm, a dense layer, activation, dropout."""

    config: DeepSpeech

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, how: Pass) -> jax.Array:
        """Maps [B, T, W] to the same shape."""
        y = dense(self.config.width, "Dense_0")(_norm(self.config, x, mask, how))
        return drop(self, ACTIVATIONS[self.config.activation](y) * mask, how.dropout_rate)


class DeepSpeechModel(nn.Module):
    """Subsampling, LSTMs, dense layers, and a last one."""

    config: DeepSpeech

    @nn.compact
    def __call__(self, features: jax.Array, paddings: jax.Array, how: Pass) -> tuple[jax.Array, jax.Array]:
        """Maps features [B, F, K] and paddings [B, F] to logits [B, T, vocab_size], 0 at padding, and [B, T]."""
        config = self.config
        x, paddings = Subsampling(config, config.activation, name="Subsample_0")(features, paddings)
        mask = 1 - paddings[:, :, None]
        x = drop(self, x, how.dropout_rate)
        layers = [RecurrentLayer(config, name=f"BatchRNN_{number}") for number in range(config.num_lstm_layers)]
        layers += [FeedForward(config, name=f"FeedForwardModule_{number}") for number in range(config.num_mlp_layers)]
        for layer in layers:
            y = layer(x, mask, how)
            x = x + y if config.residual else y
        if config.norm == "batch":
            x = LayerNorm(name="LayerNorm_0")(x)
        return dense(config.vocab_size, "output")(x) * mask, paddings
