"""The U-Net of Ronneberger et al. (https://arxiv.org/abs/1505.04597) in JAX, as for fastMRI.

Sizes and norms: Zbontar et al., https://arxiv.org/abs/1811.08839, section 5.2; variants: AlgoPerf
(https://arxiv.org/abs/2306.07179, appendix D).

In shapes, B are the examples of a batch, H and W height and width, C channels.
"""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from algoperf.backends.jax_layers import dropout
from algoperf_fastmri.spec import UNet

_ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "leaky_relu": partial(nn.leaky_relu, negative_slope=0.2),
    "tanh": jnp.tanh,
}


def instance_norm(x: jax.Array) -> jax.Array:
    """Gives each channel of each example the mean 0 and the variance 1, over [B, H, W, C].

    Source: Ulyanov et al., https://arxiv.org/abs/1607.08022, without parameters.
    """
    # Mean and variance take one pass, as one is a difference of means. That would lose the digits of values that lie
    # far from zero, and might be negative; one of the values, taken off before, prevents it and changes nothing else.
    centred = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred -= jax.lax.stop_gradient(centred[:, :1, :1])
    mean = centred.mean(axis=(1, 2), keepdims=True)
    variance = jnp.square(centred).mean(axis=(1, 2), keepdims=True) - jnp.square(mean)
    return ((centred - mean) * jax.lax.rsqrt(variance + 1e-5)).astype(x.dtype)


def channel_dropout(x: jax.Array, rate: float | jax.Array, key: jax.Array) -> jax.Array:
    """Drops whole channels of single examples out of [B, H, W, C]; `rate` may be traced."""
    return x * dropout(jnp.ones((len(x), 1, 1, x.shape[-1]), x.dtype), rate, key)


def double(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution of [B, H, W, C] with a kernel [2, 2, C, D] and a stride of 2: [B, 2H, 2W, D].

    The kernel is turned round, as flax's `ConvTranspose` does. Each input makes four outputs of its own, so this is
    a product of matrices; as a convolution, its gradient takes thirty times as long on CPUs.
    """
    batch, height, width, channels = x.shape
    columns = kernel[::-1, ::-1].transpose(2, 0, 1, 3).reshape(channels, -1)
    y = (x.reshape(-1, channels) @ columns).reshape(batch, height, width, 2, 2, -1)
    return y.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, -1)


def pad_like(x: jax.Array, skip: jax.Array) -> jax.Array:
    """Reflects the last row or column where `skip` has one more, because pooling left an odd one out."""
    missing = [(0, larger - size) for size, larger in zip(x.shape[1:3], skip.shape[1:3], strict=True)]
    return jnp.pad(x, ((0, 0), *missing, (0, 0)), mode="reflect")


class ConvBlock(nn.Module):
    """Twice: a 3x3 convolution, a norm, the activation and dropout of whole channels."""

    config: UNet
    features: int

    @nn.compact
    def __call__(self, x: jax.Array, dropout_rate: float | jax.Array | None) -> jax.Array:
        """Maps [B, H, W, .] to [B, H, W, features]."""
        for i in range(2):
            x = nn.Conv(self.features, (3, 3), padding=1, use_bias=False, name=f"conv_{i}")(x)
            if self.config.norm == "layer":
                x = nn.LayerNorm(epsilon=1e-6, reduction_axes=(1, 2, 3), name=f"norm_{i}")(x)
            else:
                x = instance_norm(x)
            x = _ACTIVATIONS[self.config.activation](x)
            if dropout_rate is not None:
                x = channel_dropout(x, dropout_rate, self.make_rng("dropout"))
        return x


class Doubling(nn.Module):
    """Doubles height and width by a transposed convolution; then an instance norm and the activation."""

    config: UNet
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, .] to [B, 2H, 2W, features]."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (2, 2, x.shape[-1], self.features))
        return _ACTIVATIONS[self.config.activation](instance_norm(double(x, kernel)))


class UNetModel(nn.Module):
    """Blocks between which the image is halved, then blocks between which it is doubled and joined with its likes."""

    config: UNet

    @nn.compact
    def __call__(self, images: jax.Array, dropout_rate: float | jax.Array | None = None) -> jax.Array:
        """Maps images [B, H, W] to images [B, H, W]. A rate of None: no dropout."""
        config = self.config
        widths = [config.num_channels * 2**i for i in range(config.num_pools)]
        x = images[..., None]
        skips = []
        for i, width in enumerate(widths):
            x = ConvBlock(config, width, name=f"down_{i}")(x, dropout_rate)
            skips.append(x)
            x = nn.avg_pool(x, (2, 2), (2, 2))
        x = ConvBlock(config, 2 * widths[-1], name="bottom")(x, dropout_rate)
        for i, width in enumerate(reversed(widths)):
            skip = skips.pop()
            x = pad_like(Doubling(config, width, name=f"transpose_{i}")(x), skip)
            x = ConvBlock(config, width, name=f"up_{i}")(jnp.concatenate([x, skip], axis=-1), dropout_rate)
        return nn.Conv(1, (1, 1), name="output")(x)[..., 0]
