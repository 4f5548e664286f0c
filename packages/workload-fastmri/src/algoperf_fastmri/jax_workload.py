"""fastMRI and its variants in JAX."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from algoperf.backends.jax import JaxWorkload
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ModelInitState, ParameterType, RandomState
from algoperf.workload import EvalOutput
from algoperf_fastmri.jax_model import UNetModel
from algoperf_fastmri.jax_ssim import ssim


class FastmriJax(JaxWorkload):
    """fastMRI and its variants in JAX."""

    @property
    def _model(self) -> UNetModel:
        return UNetModel(self.spec.model)

    def init_variables(self, rng: RandomState) -> ModelInitState:
        """Fresh parameters; there is no model state."""
        # They do not depend on the size of the images; this is the smallest that can be halved so often.
        size = 2**self.spec.model.num_pools
        return self._model.init(rng, jnp.zeros((1, size, size)))["params"], None

    def parameter_type(self, path: tuple[str, ...]) -> ParameterType:
        """By the names of the layer and of the parameter."""
        layer, name = path[-2:]
        if "norm" in layer:
            return ParameterType.LAYER_NORM_SCALE if name == "scale" else ParameterType.LAYER_NORM_BIAS
        return ParameterType.CONV_WEIGHT if name == "kernel" else ParameterType.BIAS

    def model_fn(
        self,
        params: Any,
        augmented_and_preprocessed_input_batch: Mapping[str, Any],
        model_state: ModelAuxiliaryState,
        mode: ForwardPassMode,
        rng: RandomState,
        update_batch_norm: bool,
        dropout_rate: float | jax.Array | None = None,
    ) -> tuple[jax.Array, ModelAuxiliaryState]:
        """Images [B, S, S], of the parameters' type (float32), and None. Raises ValueError if there is a model state.

        Only the batch's `inputs` are read, normalised images [B, S, S].
        """
        del update_batch_norm
        if model_state is not None:
            raise ValueError("fastMRI has no model state; pass None as model_state.")
        train = mode is ForwardPassMode.TRAIN
        rate = self.spec.dropout_rate if dropout_rate is None else dropout_rate
        outputs = self._model.apply(
            {"params": params},
            augmented_and_preprocessed_input_batch["inputs"].astype(params["output"]["bias"].dtype),
            rate if train else None,
            rngs={"dropout": rng} if train else None,
        )
        return outputs, None

    def loss_fn(
        self,
        label_batch: jax.Array,
        logits_batch: jax.Array,
        mask_batch: jax.Array | None = None,
        label_smoothing: float | jax.Array = 0.0,
        **unused: Any,
    ) -> dict[str, jax.Array]:
        """Mean absolute difference of each image.

        Args:
            label_batch: [B, S, S], the images that the outputs should be.
            logits_batch: [B, S, S], the outputs.
            mask_batch: [B], multiplies the losses; None means that all examples count.
            label_smoothing: ignored.
            **unused: ignored, so that submissions may pass what other workloads take.

        Returns:
            `summed` and `n_valid_examples` (the sum of the mask), scalars, and `per_example` [B].
        """
        del label_smoothing
        # Sums of a shorter type would not even count pixels.
        outputs = logits_batch.astype(jnp.promote_types(logits_batch.dtype, jnp.float32))
        losses = jnp.abs(outputs - label_batch).mean(axis=(1, 2))
        mask = jnp.ones_like(losses) if mask_batch is None else mask_batch
        losses = losses * mask
        return {
            "summed": losses.sum(),
            "n_valid_examples": mask.sum(dtype=losses.dtype),
            "per_example": losses,
        }

    def eval_step(
        self, params: Any, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
    ) -> EvalOutput:
        """Sums over the real examples of a batch: of similarities, of losses, and how many they are."""
        outputs, _ = self.model_fn(params, batch, model_state, ForwardPassMode.EVAL, rng, update_batch_norm=False)
        loss = self.loss_fn(batch["targets"], outputs, batch["weights"])
        similarities = ssim(outputs, batch["targets"], batch["mean"], batch["std"], batch["volume_max"])
        return {
            "ssim": (similarities * batch["weights"]).sum(),
            "loss": loss["summed"],
            "examples": loss["n_valid_examples"],
        }
