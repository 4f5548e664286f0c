"""The end of the data pipeline in JAX, on the devices: samples become numbers, and lengths become paddings."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from algoperf_librispeech.spec import END


def finish(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch with pairs of arrays and their paddings, float32, which are 1 where there is nothing and 0 elsewhere.

    `inputs`, int16 [B, N], of which `lengths` [B] samples count, become audio, float32 [B, N], and its paddings [B, N];
    `targets`, tokens [B, L] that end with END, become the tokens and their paddings [B, L]. `lengths` are left out.
    """
    rest = {name: array for name, array in batch.items() if name != "lengths"}
    inputs, targets = _finish(batch["inputs"], batch["lengths"], batch["targets"])
    return {**rest, "inputs": inputs, "targets": targets}


@jax.jit
def _finish(samples: jax.Array, lengths: jax.Array, ids: jax.Array) -> tuple[tuple[jax.Array, jax.Array], ...]:
    is_end = ids == END
    # Nothing ends in rows of padding.
    num_tokens = jnp.where(is_end.any(axis=1), is_end.argmax(axis=1) + 1, 0)
    return (samples.astype(jnp.float32), _paddings(lengths, samples)), (ids, _paddings(num_tokens, ids))


def _paddings(lengths: jax.Array, array: jax.Array) -> jax.Array:
    return (jnp.arange(array.shape[1]) >= lengths[:, None]).astype(jnp.float32)
