"""The CTC loss in JAX: Graves et al., 2006, https://doi.org/10.1145/1143844.1143891."""

import jax
import jax.numpy as jnp
import optax

from algoperf_librispeech.spec import BLANK

Padded = tuple[jax.Array, jax.Array]


def ctc_losses(labels: Padded, logits: Padded, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The loss of each example that counts, and its tokens; of others, both are 0, and so is the gradient.

    An example does not count if its mask is 0, or if it has more labels than its frames can say: one each, and one
    for a blank between equal neighbours.

    Args:
        labels: ids [B, L], which are integers, and paddings [B, L].
        logits: [B, T, V] and paddings [B, T], 1 where a frame is padding and else 0.
        mask: [B], multiplies losses and tokens.

    Returns:
        Losses and tokens, [B], float32 or of the type of longer logits.
    """
    (ids, label_paddings), (values, frame_paddings) = labels, logits
    ids, values = ids.astype(jnp.int32), values.astype(jnp.promote_types(values.dtype, jnp.float32))
    is_label = label_paddings == 0
    tokens, frames = is_label.sum(axis=1), (frame_paddings == 0).sum(axis=1)
    repeats = (is_label[:, 1:] & (ids[:, 1:] == ids[:, :-1])).sum(axis=1)
    counts = (mask > 0) & (tokens + repeats <= frames)
    # What does not count may be no number at all, and nothing times that is not 0.
    values = jnp.where(counts[:, None, None], values, 0)
    # Labels are picked by a product with ones and zeros, which GPUs would else round.
    with jax.default_matmul_precision("highest"):
        losses = optax.ctc_loss(
            values, frame_paddings.astype(values.dtype), ids, label_paddings.astype(values.dtype), blank_id=BLANK
        )
    return jnp.where(counts, losses * mask, 0), jnp.where(counts, tokens * mask, 0).astype(losses.dtype)
