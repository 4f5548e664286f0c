"""WMT in JAX: the model as submissions call it, the loss, and what evaluations need of a batch."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from algoperf.backends.jax import JaxWorkload, mesh
from algoperf.backends.jax_losses import token_cross_entropy
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ModelInitState, ParameterType, RandomState
from algoperf.workload import EvalOutput
from algoperf_wmt.jax_attention import Tokens
from algoperf_wmt.jax_beam_search import beam_search
from algoperf_wmt.jax_model import TransformerModel

_ATTENTION_TYPES = {
    "query": ParameterType.ATTENTION_Q,
    "key": ParameterType.ATTENTION_K,
    "value": ParameterType.ATTENTION_V,
    "out": ParameterType.ATTENTION_OUT,
}


class WmtJax(JaxWorkload):
    """WMT and its variants in JAX."""

    @property
    def _model(self) -> TransformerModel:
        return TransformerModel(self.spec.model)

    def init_variables(self, rng: RandomState) -> ModelInitState:
        """Fresh parameters; there is no model state."""
        # One token is enough: no parameter depends on the length of a row.
        tokens = Tokens(jnp.zeros((1, 1), jnp.int32))
        return self._model.init(rng, tokens, tokens)["params"], None

    def parameter_type(self, path: tuple[str, ...]) -> ParameterType:
        """By the layer's and the parameter's name."""
        *_, layer, name = path
        if layer in _ATTENTION_TYPES:
            return _ATTENTION_TYPES[layer]
        if "norm" in layer.lower():
            return ParameterType.LAYER_NORM_SCALE if name == "scale" else ParameterType.LAYER_NORM_BIAS
        kinds = {"embedding": ParameterType.EMBEDDING, "bias": ParameterType.BIAS, "kernel": ParameterType.WEIGHT}
        return kinds[name]

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
        """Logits [B, T, vocab_size], of the parameters' type (float32), and None.

        The batch has `inputs` [B, S] and `targets` [B, T], and if its rows are packed `<side>_position` and
        `<side>_segmentation` of the same shapes.

        Raises:
            ValueError: inputs or targets are no rows of at most `max_length` tokens, or there is a model state.
        """
        del update_batch_norm
        if model_state is not None:
            raise ValueError(f"{self.spec.name} has no model state; pass None as model_state.")
        inputs, targets = (self._tokens(augmented_and_preprocessed_input_batch, side) for side in ("inputs", "targets"))
        if mode is ForwardPassMode.EVAL:
            return self._model.apply({"params": params}, inputs, targets), None
        rate = self.spec.dropout_rate if dropout_rate is None else dropout_rate
        return self._model.apply({"params": params}, inputs, targets, rate, rngs={"dropout": rng}), None

    def _tokens(self, batch: Mapping[str, Any], side: str) -> Tokens:
        ids, longest = batch[side], self.spec.model.max_length
        if ids.ndim != 2 or ids.shape[1] > longest:
            raise ValueError(
                f"{self.spec.name} needs {side} of at most {longest} tokens a row, [B, length], not {ids.shape}."
            )
        return Tokens(ids, batch.get(f"{side}_position"), batch.get(f"{side}_segmentation"))

    def loss_fn(
        self,
        label_batch: jax.Array,
        logits_batch: jax.Array,
        mask_batch: jax.Array | None = None,
        label_smoothing: float | jax.Array = 0.0,
        **unused: Any,
    ) -> dict[str, jax.Array]:
        """Softmax cross entropy of each token.

        Args:
            label_batch: tokens [B, T], integers.
            logits_batch: [B, T, V].
            mask_batch: [B, T], multiplies the losses; None means that all tokens count, padding too.
            label_smoothing: moves labels towards 1 / V, before masking; may be traced.
            **unused: ignored, so that submissions may pass what other workloads take.

        Returns:
            `summed` and `n_valid_examples` (the sum of the mask), scalars, and `per_example` [B, T].

        Raises:
            ValueError: labels, logits and mask do not fit together.
        """
        return token_cross_entropy(label_batch, logits_batch, mask_batch, label_smoothing)

    def eval_step(
        self, params: Any, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
    ) -> EvalOutput:
        """What there is to say of each sentence of a batch, which is not packed.

        Returns:
            `losses`, `correct` and `tokens`: sums over a sentence's real tokens, float32 [B]; `predictions`: its
            translation, int32 [B, max_length - 1], zeros after the end; `targets`, int32 [B, T].
        """
        del model_state, rng
        arrays = {name: batch[name] for name in ("inputs", "targets", "weights")}
        # Every device translates its own sentences, and stops when they are done.
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
        """One group of sentences after the other, so that memory is bounded."""
        num_sentences = arrays["inputs"].shape[0]
        num_groups = -(-num_sentences // self.spec.model.beam_search.sentences_at_once)
        size = -(-num_sentences // num_groups)

        def split(x: jax.Array) -> jax.Array:
            padded = jnp.pad(x, ((0, num_groups * size - num_sentences), (0, 0)))
            return padded.reshape(num_groups, size, -1)

        groups = jax.lax.map(lambda group: self._evaluate_group(params, group), jax.tree.map(split, arrays))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num_sentences], groups)

    def _evaluate_group(self, params: Any, arrays: dict[str, jax.Array]) -> EvalOutput:
        model, search = self._model.bind({"params": params}), self.spec.model.beam_search
        inputs, targets, weights = Tokens(arrays["inputs"]), Tokens(arrays["targets"]), arrays["weights"]
        tokens, encoded = weights.sum(axis=1), model.encode(inputs)
        logits = model.decode(encoded, inputs, targets)
        cache = model.start_decoding(encoded, inputs.ids, search.num_beams)
        predictions, _ = beam_search(model.decode_step, cache, tokens > 0, search, self.spec.model.max_length)
        return {
            "losses": self.loss_fn(targets.ids, logits, weights)["per_example"].sum(axis=1),
            "correct": (weights * (logits.argmax(axis=-1) == targets.ids)).sum(axis=1),
            "tokens": tokens,
            "predictions": predictions,
            "targets": targets.ids,
        }
