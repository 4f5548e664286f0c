"""`finewebedu_lm` in JAX: the model as submissions call it, the loss, and what evaluations need of a batch."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from algoperf.backends.jax import JaxWorkload, mesh
from algoperf.backends.jax_losses import token_cross_entropy
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ModelInitState, ParameterType, RandomState
from algoperf.workload import EvalOutput
from algoperf_lm.jax_model import LmModel

_TYPES = {
    "query": ParameterType.ATTENTION_Q,
    "key": ParameterType.ATTENTION_K,
    "value": ParameterType.ATTENTION_V,
    "out": ParameterType.ATTENTION_OUT,
    "embedding": ParameterType.EMBEDDING,
}


class LmJax(JaxWorkload):
    """`finewebedu_lm` and its variants in JAX."""

    @property
    def _model(self) -> LmModel:
        return LmModel(self.spec.model)

    def init_variables(self, rng: RandomState) -> ModelInitState:
        """Fresh parameters; there is no model state."""
        # One token is enough: no parameter depends on the length of a sequence.
        return self._model.init(rng, jnp.zeros((1, 1), jnp.int32))["params"], None

    def parameter_type(self, path: tuple[str, ...]) -> ParameterType:
        """By the layer's and the parameter's name."""
        *_, layer, name = path
        if name == "scale":
            return ParameterType.LAYER_NORM_SCALE
        return _TYPES.get(layer, ParameterType.WEIGHT)

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
        """Logits [B, T, vocab_size] of the next tokens, of the parameters' type (float32), and None.

        Of the batch `inputs` [B, T] is read. The model has no dropout, so a rate changes nothing.

        Raises:
            ValueError: inputs are no sequences of at most `context` tokens, or there is a model state.
        """
        del mode, rng, update_batch_norm, dropout_rate
        if model_state is not None:
            raise ValueError(f"{self.spec.name} has no model state; pass None as model_state.")
        tokens, context = augmented_and_preprocessed_input_batch["inputs"], self.spec.model.context
        if tokens.ndim != 2 or tokens.shape[1] > context:
            raise ValueError(
                f"{self.spec.name} needs inputs of at most {context} tokens a sequence, [B, T], not {tokens.shape}."
            )
        return self._model.apply({"params": params}, tokens), None

    def loss_fn(
        self,
        label_batch: jax.Array,
        logits_batch: jax.Array,
        mask_batch: jax.Array | None = None,
        label_smoothing: float | jax.Array = 0.0,
        **unused: Any,
    ) -> dict[str, jax.Array]:
        """Softmax cross entropy of each token; see `token_cross_entropy`.

        Args:
            label_batch: tokens [B, T], integers.
            logits_batch: [B, T, V].
            mask_batch: [B, T], multiplies the losses; None means that all tokens count.
            label_smoothing: moves labels towards 1 / V, before masking; may be traced.
            **unused: ignored, so that submissions may pass what other workloads take.
        """
        return token_cross_entropy(label_batch, logits_batch, mask_batch, label_smoothing)

    def eval_step(
        self, params: Any, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
    ) -> EvalOutput:
        """Of each sequence of a batch the sums over its real tokens, float32 [B]: `losses`, and `tokens`."""
        del model_state, rng
        arrays = {name: batch[name] for name in ("inputs", "targets", "weights")}
        # Every device goes through its own sequences.
        sharded = jax.shard_map(
            self._evaluate_shard,
            mesh=mesh(),
            in_specs=(PartitionSpec(), PartitionSpec("batch")),
            out_specs=PartitionSpec("batch"),
            check_vma=False,
        )
        output: EvalOutput = sharded(params, arrays)
        return output

    def _evaluate_shard(self, params: Any, arrays: dict[str, jax.Array]) -> EvalOutput:
        def evaluate(sequence: dict[str, jax.Array]) -> EvalOutput:
            group = {name: array[None] for name, array in sequence.items()}
            logits, _ = self.model_fn(params, group, None, ForwardPassMode.EVAL, None, update_batch_norm=False)
            loss = self.loss_fn(group["targets"], logits, group["weights"])
            return {"losses": loss["summed"], "tokens": loss["n_valid_examples"]}

        # A few at a time, so that the memory of logits is bounded.
        output: EvalOutput = jax.lax.map(evaluate, arrays, batch_size=self.spec.model.sequences_at_once)
        return output
