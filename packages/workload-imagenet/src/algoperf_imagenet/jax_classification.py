"""What both ImageNet models have in common in JAX: the loss and the sums that evaluations are made of."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from algoperf.backends.jax import JaxWorkload
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, RandomState
from algoperf.workload import EvalOutput


class JaxClassification(JaxWorkload):
    """A classifier of images in JAX, without its model."""

    def loss_fn(
        self,
        label_batch: jax.Array,
        logits_batch: jax.Array,
        mask_batch: jax.Array | None = None,
        label_smoothing: float | jax.Array = 0.0,
        **unused: Any,
    ) -> dict[str, jax.Array]:
        """Softmax cross entropy of each image.

        Args:
            label_batch: classes [B], integers, or probabilities of the classes [B, K], as mixup makes them.
            logits_batch: [B, K].
            mask_batch: [B], multiplies the losses; None means that all images count.
            label_smoothing: moves labels of either kind towards 1 / K, before masking; may be traced.
            **unused: ignored, so that submissions may pass what other workloads take.

        Returns:
            `summed` and `n_valid_examples` (the sum of the mask), scalars, and `per_example` [B].

        Raises:
            ValueError: labels, logits and mask do not fit together.
        """
        # Sums of a shorter type would not even count a batch.
        logits_batch = logits_batch.astype(jnp.promote_types(logits_batch.dtype, jnp.float32))
        mask = jnp.ones(logits_batch.shape[:1]) if mask_batch is None else mask_batch
        fits = label_batch.shape == logits_batch.shape[: label_batch.ndim] and label_batch.ndim in (1, 2)
        if not fits or logits_batch.ndim != 2 or mask.shape != logits_batch.shape[:1]:
            raise ValueError(
                "Labels [B] or [B, K], logits [B, K] and a mask [B] are needed; they have the shapes "
                f"{label_batch.shape}, {logits_batch.shape} and {mask.shape}."
            )
        log_probabilities = jax.nn.log_softmax(logits_batch)
        num_classes = logits_batch.shape[1]
        labels = jax.nn.one_hot(label_batch, num_classes) if label_batch.ndim == 1 else label_batch
        labels = (1 - label_smoothing) * labels + label_smoothing / num_classes
        losses = -(labels * log_probabilities).sum(axis=1) * mask
        return {
            "summed": losses.sum(),
            "n_valid_examples": mask.sum(dtype=losses.dtype),
            "per_example": losses,
        }

    def eval_step(
        self, params: Any, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
    ) -> EvalOutput:
        """Sums over the real images of a batch: of their losses, of right answers, and of the images."""
        logits, _ = self.model_fn(params, batch, model_state, ForwardPassMode.EVAL, rng, update_batch_norm=False)
        targets, weights = batch["targets"], batch["weights"]
        return {
            "loss": self.loss_fn(targets, logits, weights)["summed"],
            "correct": (weights * (logits.argmax(axis=1) == targets)).sum(),
            "images": weights.sum(),
        }
