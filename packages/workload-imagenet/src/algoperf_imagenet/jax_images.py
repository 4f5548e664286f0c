"""The end of the data pipeline in JAX, on the devices: normalisation and mixup."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from algoperf.backends.jax import by_batch
from algoperf_imagenet.normalisation import MEAN, STANDARD_DEVIATION


def finish(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Turns 8-bit `inputs` into float32 [B, H, W, 3], normalised and, where the batch has a `mixup`, mixed."""
    rest = {name: array for name, array in batch.items() if name not in ("inputs", "previous", "mixup")}
    if "mixup" in batch:
        return rest | {"inputs": _mix(batch["inputs"], batch["previous"], batch["mixup"])}
    return rest | {"inputs": _normalise(batch["inputs"])}


@jax.jit
def _normalise(pictures: jax.Array) -> jax.Array:
    return (pictures - jnp.array(MEAN, jnp.float32)) / jnp.array(STANDARD_DEVIATION, jnp.float32)


@jax.jit
def _mix(pictures: jax.Array, previous: jax.Array, weights: jax.Array) -> jax.Array:
    """Mixes each picture [B, H, W, 3] with the one before it, or with its shard's `previous` [shards, H, W, 3]."""
    by_shard = pictures.reshape(len(weights), -1, *pictures.shape[1:])
    before = jnp.concatenate([previous[:, None], by_shard[:, :-1]], axis=1)
    weights = weights[:, None, None, None, None]
    mixed = weights * _normalise(by_shard) + (1 - weights) * _normalise(before)
    return jax.lax.with_sharding_constraint(mixed.reshape(pictures.shape), by_batch())
