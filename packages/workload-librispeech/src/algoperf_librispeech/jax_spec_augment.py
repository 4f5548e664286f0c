"""SpecAugment in JAX: Park et al., https://arxiv.org/abs/1904.08779, with masks in time that grow with the utterance.

In shapes, B is the number of examples, F the frames of each, K the mel bins.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from algoperf_librispeech.spec import SpecAugment


class Uniforms(NamedTuple):
    """What decides on masks: numbers in [0, 1), of one column for each mask.

    Attributes:
        time_sizes: [B, masks in time].
        time_starts: the same.
        frequency_sizes: [B, masks in frequency].
        frequency_starts: the same.
    """

    time_sizes: jax.Array
    time_starts: jax.Array
    frequency_sizes: jax.Array
    frequency_starts: jax.Array


def spec_augment(features: jax.Array, paddings: jax.Array, spec: SpecAugment, key: jax.Array) -> jax.Array:
    """Sets features [B, F, K], with paddings [B, F], to 0 (their mean) where masks of the random key lie."""
    uniforms = draw(key, features.shape[0], spec)
    frames, bins = masks(uniforms, (1 - paddings).sum(axis=1), features.shape[1:], spec)
    return jnp.where(frames[:, :, None] | bins[:, None, :], 0, features)


def draw(key: jax.Array, num_examples: int, spec: SpecAugment) -> Uniforms:
    """Uniforms of a random key, float32."""
    numbers = (spec.num_time_masks, spec.num_time_masks, spec.num_frequency_masks, spec.num_frequency_masks)
    keys = jax.random.split(key, len(numbers))
    return Uniforms(*(jax.random.uniform(key, (num_examples, number)) for key, number in zip(keys, numbers)))


def masks(
    uniforms: Uniforms, lengths: jax.Array, shape: tuple[int, ...], spec: SpecAugment
) -> tuple[jax.Array, jax.Array]:
    """Which frames and which bins are hidden.

    A mask in time lies inside its example and hides at most `max_time_share` of it, which may be nothing.

    Args:
        uniforms: decide on sizes and starts.
        lengths: frames of each example that are no padding, float32 [B].
        shape: (F, K).
        spec: how large masks are.

    Returns:
        Hidden frames, bool [B, F], and hidden bins, bool [B, K].
    """
    num_frames, num_bins = shape
    lengths = lengths[:, None]
    sizes = jnp.floor(uniforms.time_sizes * (spec.max_time_share * lengths))
    frames = _union(sizes, uniforms.time_starts, lengths, num_frames)
    sizes = jnp.floor(uniforms.frequency_sizes * spec.max_frequency_bins)
    return frames, _union(sizes, uniforms.frequency_starts, num_bins, num_bins)


def _union(sizes: jax.Array, starts: jax.Array, room: jax.Array | int, size: int) -> jax.Array:
    """Where any of an example's masks lies, bool [B, size]; starts are shares of the places that the room leaves."""
    first = jnp.floor(starts * (room - sizes + 1))[..., None]
    positions = jnp.arange(size)
    return ((first <= positions) & (positions < first + sizes[..., None])).any(axis=1)
