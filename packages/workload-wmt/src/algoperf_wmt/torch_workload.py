"""WMT in PyTorch: the model as submissions call it, the loss, and what evaluations need of a batch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from algoperf.backends.pytorch import TorchWorkload
from algoperf.backends.pytorch_losses import token_cross_entropy
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ParameterType, RandomState
from algoperf.workload import EvalOutput
from algoperf_wmt.torch_attention import Projection, Tokens
from algoperf_wmt.torch_beam_search import beam_search
from algoperf_wmt.torch_model import TransformerModel


class WmtTorch(TorchWorkload):
    """WMT and its variants in PyTorch."""

    def build_model(self) -> nn.Module:
        """The model with fresh parameters."""
        return TransformerModel(self.spec.model)

    def parameter_type(self, module: nn.Module, name: str) -> ParameterType:
        """By the kind of the layer."""
        if isinstance(module, nn.LayerNorm):
            return ParameterType.LAYER_NORM_SCALE if name == "weight" else ParameterType.LAYER_NORM_BIAS
        if isinstance(module, Projection):
            return module.kind
        if isinstance(module, nn.Embedding):
            return ParameterType.EMBEDDING
        return ParameterType.BIAS if name == "bias" else ParameterType.WEIGHT

    def model_fn(
        self,
        params: nn.Module,
        augmented_and_preprocessed_input_batch: Mapping[str, Any],
        model_state: ModelAuxiliaryState,
        mode: ForwardPassMode,
        rng: RandomState,
        update_batch_norm: bool,
        dropout_rate: float | None = None,
    ) -> tuple[Tensor, ModelAuxiliaryState]:
        """Logits [B, T, vocab_size], of the parameters' type (float32), and None.

        The batch has `inputs` [B, S] and `targets` [B, T], and if its rows are packed `<side>_position` and
        `<side>_segmentation` of the same shapes.

        Raises:
            ValueError: inputs or targets are no rows of at most `max_length` tokens, or there is a model state.
        """
        del rng, update_batch_norm
        if model_state is not None:
            raise ValueError(f"{self.spec.name} has no model state; pass None as model_state.")
        inputs, targets = (self._tokens(augmented_and_preprocessed_input_batch, side) for side in ("inputs", "targets"))
        self.set_mode(params, mode)
        rate = self.spec.dropout_rate if dropout_rate is None else dropout_rate
        return params(inputs, targets, rate), None

    def _tokens(self, batch: Mapping[str, Any], side: str) -> Tokens:
        ids, longest = batch[side], self.spec.model.max_length
        if ids.ndim != 2 or ids.shape[1] > longest:
            raise ValueError(
                f"{self.spec.name} needs {side} of at most {longest} tokens a row, [B, length], not {tuple(ids.shape)}."
            )
        return Tokens(ids, batch.get(f"{side}_position"), batch.get(f"{side}_segmentation"))

    def loss_fn(
        self,
        label_batch: Tensor,
        logits_batch: Tensor,
        mask_batch: Tensor | None = None,
        label_smoothing: float = 0.0,
        **unused: Any,
    ) -> dict[str, Tensor]:
        """Softmax cross entropy of each token.

        Args:
            label_batch: tokens [B, T], integers.
            logits_batch: [B, T, V].
            mask_batch: [B, T], multiplies the losses; None means that all tokens count, padding too.
            label_smoothing: moves labels towards 1 / V, before masking.
            **unused: ignored, so that submissions may pass what other workloads take.

        Returns:
            `summed` and `n_valid_examples` (the sum of the mask), scalars, and `per_example` [B, T].

        Raises:
            ValueError: labels, logits and mask do not fit together.
        """
        return token_cross_entropy(label_batch, logits_batch, mask_batch, label_smoothing)

    def eval_step(
        self, params: nn.Module, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
    ) -> EvalOutput:
        """What there is to say of each sentence of a batch, which is not packed.

        Returns:
            `losses`, `correct` and `tokens`: sums over a sentence's real tokens, float32 [B]; `predictions`: its
            translation, int32 [B, max_length - 1], zeros after the end; `targets`, int32 [B, T].
        """
        del model_state, rng
        self.set_mode(params, ForwardPassMode.EVAL)
        # Whatever it is wrapped in: a wrapper offers no more than `forward`.
        model = next(module for module in params.modules() if isinstance(module, TransformerModel))
        # One group of sentences after the other, so that memory is bounded.
        size = self.spec.model.beam_search.sentences_at_once
        arrays = (batch[name].split(size) for name in ("inputs", "targets", "weights"))
        groups = [self._evaluate_group(model, *group) for group in zip(*arrays, strict=True)]
        return {name: torch.cat([group[name] for group in groups]) for name in groups[0]}

    def _evaluate_group(self, model: TransformerModel, inputs: Tensor, targets: Tensor, weights: Tensor) -> EvalOutput:
        search, length = self.spec.model.beam_search, self.spec.model.max_length
        source, target = Tokens(inputs), Tokens(targets)
        encoded = model.encode(source)
        logits = model.decode(encoded, source, target)
        outputs = {
            "losses": self.loss_fn(targets, logits, weights)["per_example"].sum(dim=1),
            "correct": (weights * (logits.argmax(dim=-1) == targets)).sum(dim=1),
            "tokens": weights.sum(dim=1),
        }
        # The largest array of all; searching needs its memory.
        del logits
        cache = model.start_decoding(encoded, inputs, search.num_beams)
        predictions, _ = beam_search(model.decode_step, cache, outputs["tokens"] > 0, search, length)
        return {**outputs, "predictions": predictions, "targets": targets}
