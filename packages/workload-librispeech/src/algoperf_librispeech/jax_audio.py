"""The end of the data pipeline in JAX, on the devices: samples become numbers, and lengths become paddings."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp


def finish(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Turns `inputs` of samples int16 [B, N] and lengths int32 [B] into what models are given.

    That is a pair of float32 [B, N]: samples, of the same values, and paddings, 1 behind an example's end and else 0.
    """
    return {**batch, "inputs": _finish(*batch["inputs"])}


@jax.jit
def _finish(samples: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    is_behind = jnp.arange(samples.shape[1]) >= lengths[:, None]
    return samples.astype(jnp.float32), is_behind.astype(jnp.float32)
