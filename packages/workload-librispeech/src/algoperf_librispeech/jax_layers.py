"""What both models are made of in JAX.

In shapes, B is the number of examples, T the frames of each, W the width. Paddings [B, T] are 1 where a frame is
padding and else 0; masks [B, T, 1] are 1 less that.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn

from algoperf.backends import jax_layers
from algoperf.backends.jax_layers import dropout
from algoperf_librispeech.spec import Acoustic

Rate: TypeAlias = float | jax.Array

XAVIER = nn.initializers.xavier_uniform()
_MANY_CHANNELS = 128
ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {**jax_layers.ACTIVATIONS, "tanh": jnp.tanh}


class Pass(NamedTuple):
    """How layers behave in a forward pass.

    Attributes:
        dropout_rate: 0 in evaluation.
        use_running_average: whether batch norm normalises with its running statistics, and leaves them as they are.
    """

    dropout_rate: Rate = 0.0
    use_running_average: bool = True


def drop(module: nn.Module, x: jax.Array, rate: Rate) -> jax.Array:
    """Dropout with a random key of the module."""
    if isinstance(rate, (int, float)) and rate == 0:
        return x
    return dropout(x, rate, module.make_rng("dropout"))


def dense(features: int, name: str) -> nn.Dense:
    """A dense layer with a bias."""
    return nn.Dense(features, kernel_init=XAVIER, name=name)


class LayerNorm(nn.Module):
    """Layer norm whose scale is stored less 1."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., W] to the same shape."""
        scale, bias = (self.param(name, nn.initializers.zeros, x.shape[-1:]) for name in ("scale", "bias"))
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + 1e-6) * (1 + scale) + bias


class BatchNorm(nn.Module):
    """Batch norm, of frames that are no padding, whose scale is stored less 1.

    Under `jax.jit` its statistics are those of the whole batch, on however many devices it lies.

    Attributes:
        momentum: share of the running statistics that a pass keeps.
    """

    momentum: float

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, use_running_average: bool) -> jax.Array:
        """Maps [B, T, W] to the same shape; padding becomes 0."""
        shape = x.shape[-1:]
        scale, bias = (self.param(name, nn.initializers.zeros, shape) for name in ("scale", "bias"))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_variance = self.variable("batch_stats", "var", jnp.ones, shape)
        if use_running_average:
            mean, variance = running_mean.value, running_variance.value
        else:
            # A batch of nothing but padding has no statistics, and must not make them infinite.
            count = jnp.maximum(mask.sum(), 1)
            mean = (x * mask).sum(axis=(0, 1)) / count
            variance = (jnp.square(x - mean) * mask).sum(axis=(0, 1)) / count
            for running, new in ((running_mean, mean), (running_variance, variance)):
                running.value = (self.momentum * running.value + (1 - self.momentum) * new).astype(running.value.dtype)
        return ((x - mean) * (jax.lax.rsqrt(variance + 1e-3) * (1 + scale)) + bias) * mask


class StridedConv(nn.Module):
    """A convolution of 3x3 that leaves half of the frames and half of the bins, rounded up."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, T, K, C] to [B, T / 2, K / 2, features]."""
        kernel = self.param("kernel", XAVIER, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        # A convolution, unlike a product, does not promote types.
        x = x.astype(kernel.dtype)
        is_product = jax.default_backend() == "cpu" and x.shape[-1] >= _MANY_CHANNELS
        return (strided_product if is_product else strided_convolution)(x, kernel) + bias


def strided_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves [B, T, K, C] with [3, 3, C, D], at every second frame and bin, to [B, T / 2, K / 2, D]."""
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def strided_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same as one product of matrices.

    On CPUs, with many channels, XLA is twice as quick at that as at a convolution with its gradient.
    """
    padding = jax.lax.padtype_to_pads(x.shape[1:3], (3, 3), (2, 2), "SAME")
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    frames, bins = ((size - 1) // 2 for size in x.shape[1:3])
    patches = [x[:, i : i + 2 * frames : 2, j : j + 2 * bins : 2] for i in range(3) for j in range(3)]
    return jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


class Subsampling(nn.Module):
    """Two convolutions over time and frequency, and a dense layer for what they leave of a frame."""

    config: Acoustic
    activation: str

    @nn.compact
    def __call__(self, features: jax.Array, paddings: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Maps features [B, F, K] and paddings [B, F] to [B, T, W] and [B, T], with T a quarter of F, rounded up."""
        x = features[..., None]
        for number in range(2):
            x = StridedConv(self.config.subsampling_channels, name=f"Conv2dSubsampling_{number}")(x)
            paddings = paddings[:, ::2]
            x = ACTIVATIONS[self.activation](x) * (1 - paddings)[:, :, None, None]
        return dense(self.config.width, "Dense_0")(x.reshape(*x.shape[:2], -1)), paddings
