"""What models of several JAX workloads are made of."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=True),
    "silu": jax.nn.silu,
}


def dropout(x: jax.Array, rate: float | jax.Array, key: jax.Array) -> jax.Array:
    """Zeroes each element with probability `rate` and divides the others by `1 - rate`.

    `rate` may be traced. Sixteen random bits decide an element, half of what a uniform float takes, because
    drawing them is a large part of a training step; the probability is thereby rounded to a multiple of 2**-16.

    Args:
        x: [..., D].
        rate: in [0, 1).
        key: a random key; the mask depends on it and on the shape alone, not on how `x` lies on devices.
    """
    keep = 1 - jnp.asarray(rate, x.dtype)
    *rows, width = x.shape
    words = jax.random.bits(key, (*rows, -(-width // 2)), jnp.uint32)
    bits = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(*rows, -1)[..., :width]
    return jnp.where(bits < jnp.round(keep * 2**16).astype(jnp.uint32), x / keep, 0)
