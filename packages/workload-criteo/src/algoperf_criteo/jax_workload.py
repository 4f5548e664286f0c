"""Criteo 1TB and its variants in JAX."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from algoperf.backends.jax import JaxWorkload
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ModelInitState, ParameterType, RandomState
from algoperf.workload import EvalOutput
from algoperf_criteo.jax_model import DlrmModel
from algoperf_criteo.spec import NUM_CATEGORICAL, NUM_DENSE


class CriteoJax(JaxWorkload):
    """Criteo 1TB and its variants in JAX."""

    @property
    def _model(self) -> DlrmModel:
        return DlrmModel(self.spec.model)

    def init_variables(self, rng: RandomState) -> ModelInitState:
        """Fresh parameters; there is no model state."""
        return self._model.init(rng, jnp.zeros((1, NUM_DENSE + NUM_CATEGORICAL)))["params"], None

    def parameter_type(self, path: tuple[str, ...]) -> ParameterType:
        """By the names of the layer and of the parameter."""
        if path == ("embedding_table",):
            return ParameterType.EMBEDDING
        *_, layer, name = path
        if "norm" in layer:
            return ParameterType.LAYER_NORM_SCALE if name == "scale" else ParameterType.LAYER_NORM_BIAS
        return ParameterType.WEIGHT if name == "kernel" else ParameterType.BIAS

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
        """Logits [B, 1], of the parameters' type (float32), and None. Raises ValueError if there is a model state."""
        del update_batch_norm
        if model_state is not None:
            raise ValueError("Criteo 1TB has no model state; pass None as model_state.")
        train = mode is ForwardPassMode.TRAIN
        rate = self.spec.dropout_rate if dropout_rate is None else dropout_rate
        logits = self._model.apply(
            {"params": params},
            augmented_and_preprocessed_input_batch["inputs"],
            rate if train else None,
            rngs={"dropout": rng} if train else None,
        )
        return logits, None

    def loss_fn(
        self,
        label_batch: jax.Array,
        logits_batch: jax.Array,
        mask_batch: jax.Array | None = None,
        label_smoothing: float | jax.Array = 0.0,
        **unused: Any,
    ) -> dict[str, jax.Array]:
        """Sigmoid cross entropy.

        Args:
            label_batch: [B, 1], 0 or 1.
            logits_batch: [B, 1].
            mask_batch: [B] or [B, 1], multiplies the losses; None means that all examples count.
            label_smoothing: ignored.
            **unused: ignored, so that submissions may pass what other workloads take.

        Returns:
            `summed` and `n_valid_examples` (the sum of the mask), scalars, and `per_example` [B].
        """
        del label_smoothing
        # Sums of a shorter type would not even count a batch.
        logits_batch = logits_batch.astype(jnp.promote_types(logits_batch.dtype, jnp.float32))
        labels, logits = label_batch.reshape(-1), logits_batch.reshape(-1)
        mask = jnp.ones_like(logits) if mask_batch is None else mask_batch.reshape(-1)
        losses = -(labels * jax.nn.log_sigmoid(logits) + (1 - labels) * jax.nn.log_sigmoid(-logits)) * mask
        return {
            "summed": losses.sum(),
            "n_valid_examples": mask.sum(dtype=losses.dtype),
            "per_example": losses,
        }

    def eval_step(
        self, params: Any, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
    ) -> EvalOutput:
        """Sums over the real examples of a batch: of their losses, and how many they are."""
        logits, _ = self.model_fn(params, batch, model_state, ForwardPassMode.EVAL, rng, update_batch_norm=False)
        loss = self.loss_fn(batch["targets"], logits, batch["weights"])
        return {"loss": loss["summed"], "examples": loss["n_valid_examples"]}
