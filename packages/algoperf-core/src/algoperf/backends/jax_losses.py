"""Losses of several JAX workloads."""

import jax
import jax.numpy as jnp


def token_cross_entropy(
    labels: jax.Array,
    logits: jax.Array,
    mask: jax.Array | None = None,
    label_smoothing: float | jax.Array = 0.0,
) -> dict[str, jax.Array]:
    """Softmax cross entropy of each token, in float32 at least.

    Args:
        labels: tokens [B, T], integers.
        logits: [B, T, V].
        mask: [B, T], multiplies the losses; None means that all tokens count, padding too.
        label_smoothing: moves labels towards 1 / V, before masking; may be traced.

    Returns:
        `summed` and `n_valid_examples` (the sum of the mask), scalars, and `per_example` [B, T].

    Raises:
        ValueError: labels, logits and mask do not fit together.
    """
    # Sums of a shorter type would not even count a batch.
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    mask = jnp.ones(logits.shape[:-1]) if mask is None else mask
    if logits.ndim != 3 or not labels.shape == mask.shape == logits.shape[:-1]:
        raise ValueError(
            "Labels [B, T], logits [B, T, V] and a mask [B, T] are needed; they have the shapes "
            f"{labels.shape}, {logits.shape} and {mask.shape}."
        )
    # No array of V numbers a token is made but the gradient, as a log-softmax or a comparison with all labels would be.
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    expected = (1 - label_smoothing) * label_logits + label_smoothing * logits.mean(axis=-1)
    losses = (jax.nn.logsumexp(logits, axis=-1) - expected) * mask
    return {"summed": losses.sum(), "n_valid_examples": mask.sum(dtype=losses.dtype), "per_example": losses}
