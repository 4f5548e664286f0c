"""LibriSpeech in JAX: the models as submissions call them, the loss, and what evaluations need of a batch."""

import abc
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from algoperf.backends.jax import JaxWorkload
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ModelInitState, ParameterType, RandomState
from algoperf.workload import EvalOutput
from algoperf_librispeech.jax_conformer import ConformerModel
from algoperf_librispeech.jax_ctc import Padded, ctc_losses
from algoperf_librispeech.jax_deepspeech import DeepSpeechModel
from algoperf_librispeech.jax_layers import Pass
from algoperf_librispeech.jax_log_mel import log_mel
from algoperf_librispeech.jax_spec_augment import spec_augment
from algoperf_librispeech.log_mel import FRAME_SIZE, NUM_BINS

_ATTENTION_TYPES = {
    "query": ParameterType.ATTENTION_Q,
    "key": ParameterType.ATTENTION_K,
    "value": ParameterType.ATTENTION_V,
    "out": ParameterType.ATTENTION_OUT,
}
_NORM_TYPES = {
    ("BatchNorm_0", "scale"): ParameterType.BATCH_NORM_SCALE,
    ("BatchNorm_0", "bias"): ParameterType.BATCH_NORM_BIAS,
    ("LayerNorm_0", "scale"): ParameterType.LAYER_NORM_SCALE,
    ("LayerNorm_0", "bias"): ParameterType.LAYER_NORM_BIAS,
}


class JaxSpeech(JaxWorkload):
    """Speech recognition in JAX, without its model.

    The model state is `{"batch_stats": running statistics}`, or None if the model has no batch norm.
    """

    @property
    @abc.abstractmethod
    def _model(self) -> nn.Module:
        """Maps features, paddings and a `Pass` to logits and paddings."""

    @property
    @abc.abstractmethod
    def _has_statistics(self) -> bool:
        """Whether the model has a batch norm."""

    def init_variables(self, rng: RandomState) -> ModelInitState:
        """Fresh parameters and running statistics."""
        # One frame is enough: neither depends on the length.
        variables = self._model.init(rng, jnp.zeros((1, 1, NUM_BINS)), jnp.zeros((1, 1)), Pass())
        state = {"batch_stats": variables["batch_stats"]} if self._has_statistics else None
        return variables["params"], state

    def parameter_type(self, path: tuple[str, ...]) -> ParameterType:
        """By the names of the layers that it belongs to, and its own."""
        *layers, layer, name = path
        if (layer, name) in _NORM_TYPES:
            return _NORM_TYPES[layer, name]
        if layer in _ATTENTION_TYPES:
            return ParameterType.ATTENTION_BIAS if name == "bias" else _ATTENTION_TYPES[layer]
        if name == "bias":
            return ParameterType.BIAS
        # Dense layers in a convolution block count as parts of a convolution.
        is_convolution = any(one.startswith("Conv") for one in (*layers, layer))
        return ParameterType.CONV_WEIGHT if is_convolution else ParameterType.WEIGHT

    def model_fn(
        self,
        params: Any,
        augmented_and_preprocessed_input_batch: Mapping[str, Any],
        model_state: ModelAuxiliaryState,
        mode: ForwardPassMode,
        rng: RandomState,
        update_batch_norm: bool,
        dropout_rate: float | jax.Array | None = None,
        use_running_average_bn: bool | None = None,
    ) -> tuple[Padded, ModelAuxiliaryState]:
        """Logits [B, T, vocab_size], 0 at padding, with paddings [B, T], both float32; and the new model state.

        Args:
            params: as `init_model_fn` made them.
            augmented_and_preprocessed_input_batch: its `inputs` are samples, in the range of 16-bit integers, and
                paddings, 1 where a sample is padding and else 0; both float32 [B, N].
            model_state: the running statistics, or None if there is no batch norm.
            mode: TRAIN hides parts of the input (SpecAugment), drops, and normalises with the statistics of this
                batch; EVAL normalises with the running ones.
            rng: key of what is random in TRAIN mode.
            update_batch_norm: whether the running statistics move. If not, they are returned as they are.
            dropout_rate: of all dropout; None means the workload's own. May be traced.
            use_running_average_bn: whether the running statistics normalise, in place of what `mode` says; if they
                do, they never move.

        Raises:
            ValueError: the inputs are no padded samples, or too few for a frame; there is no model state where there
                should be one, or the other way round; or statistics are to be updated in EVAL mode.
        """
        audio, paddings = augmented_and_preprocessed_input_batch["inputs"]
        self._check(audio, paddings, model_state)
        is_evaluation = mode is ForwardPassMode.EVAL
        if is_evaluation and update_batch_norm:
            raise ValueError("Batch-norm statistics are not updated in EVAL mode; pass update_batch_norm=False.")
        use_running_average = is_evaluation if use_running_average_bn is None else use_running_average_bn
        features, paddings = log_mel(audio, paddings)
        keys, how = {}, Pass(use_running_average=use_running_average)
        if not is_evaluation:
            augment_key, keys["dropout"] = jax.random.split(rng)
            features = spec_augment(features, paddings, self.spec.model.spec_augment, augment_key)
            how = how._replace(dropout_rate=self.spec.dropout_rate if dropout_rate is None else dropout_rate)
        variables = {"params": params, **(model_state or {})}
        output, new_state = self._model.apply(variables, features, paddings, how, rngs=keys, mutable=["batch_stats"])
        moves = self._has_statistics and update_batch_norm and not use_running_average
        return output, new_state if moves else model_state

    def _check(self, audio: jax.Array, paddings: jax.Array, model_state: ModelAuxiliaryState) -> None:
        if audio.ndim != 2 or audio.shape != paddings.shape or audio.shape[1] < FRAME_SIZE:
            raise ValueError(
                f"{self.spec.name} needs audio and paddings of the same shape [B, at least {FRAME_SIZE}], not "
                f"{audio.shape} and {paddings.shape}."
            )
        if self._has_statistics and model_state is None:
            raise ValueError(f"{self.spec.name} has running statistics; pass them as model_state.")
        if not self._has_statistics and model_state is not None:
            raise ValueError(f"{self.spec.name} has no model state; pass None as model_state.")

    def loss_fn(
        self,
        label_batch: Padded,
        logits_batch: Padded,
        mask_batch: jax.Array | None = None,
        label_smoothing: float | jax.Array = 0.0,
        **unused: Any,
    ) -> dict[str, jax.Array]:
        """The CTC loss of each example: minus the logarithm of its transcript's probability.

        An example with more labels than its frames can say has no loss, and does not count.

        Args:
            label_batch: ids [B, L], integers, and paddings [B, L].
            logits_batch: [B, T, V] and paddings [B, T].
            mask_batch: [B], multiplies losses and tokens; None means that all examples count.
            label_smoothing: ignored, because CTC has none.
            **unused: ignored, so that submissions may pass what other workloads take.

        Returns:
            `summed` and `n_valid_examples` (the tokens of the examples that count, at least 1), scalars, and
            `per_example` [B].

        Raises:
            ValueError: labels, logits and mask do not fit together.
        """
        losses, tokens = self._losses(label_batch, logits_batch, mask_batch)
        return {"summed": losses.sum(), "n_valid_examples": jnp.maximum(tokens.sum(), 1), "per_example": losses}

    def _losses(self, labels: Padded, logits: Padded, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        arrays = (*labels, *logits, jnp.ones(logits[0].shape[:1]) if mask is None else mask)
        ids, label_paddings, values, frame_paddings, mask = arrays
        fits = ids.shape == label_paddings.shape and values.shape[:-1] == frame_paddings.shape
        if not fits or (ids.ndim, values.ndim) != (2, 3) or not ids.shape[:1] == values.shape[:1] == mask.shape:
            raise ValueError(
                "Labels and paddings [B, L], logits [B, T, V] and paddings [B, T], and a mask [B] are needed; they "
                f"have the shapes {', '.join(str(array.shape) for array in arrays)}."
            )
        return ctc_losses(labels, logits, mask)

    def eval_step(
        self, params: Any, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
    ) -> EvalOutput:
        """What there is to say of each utterance of a batch.

        Returns:
            `losses`, and `tokens` that they are of, float32 [B], 0 for padding; `predictions`: the likeliest token of
            each frame, int32 [B, T], blank at padding; `targets`, int32 [B, L]; `weights`, float32 [B].
        """
        output, _ = self.model_fn(params, batch, model_state, ForwardPassMode.EVAL, rng, update_batch_norm=False)
        losses, tokens = self._losses(batch["targets"], output, batch["weights"])
        return {
            "losses": losses,
            "tokens": tokens,
            # At padding all logits are 0, and the first one is that of the blank.
            "predictions": output[0].argmax(axis=-1),
            "targets": batch["targets"][0],
            "weights": batch["weights"],
        }


class ConformerJax(JaxSpeech):
    """The Conformer and its variants in JAX."""

    @property
    def _model(self) -> ConformerModel:
        return ConformerModel(self.spec.model)

    @property
    def _has_statistics(self) -> bool:
        return True


class DeepSpeechJax(JaxSpeech):
    """DeepSpeech and its variants in JAX."""

    @property
    def _model(self) -> DeepSpeechModel:
        return DeepSpeechModel(self.spec.model)

    @property
    def _has_statistics(self) -> bool:
        return bool(self.spec.model.norm == "batch")
