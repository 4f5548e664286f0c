"""`finewebedu_lm` in PyTorch: the model as submissions call it, the loss, and what evaluations need of a batch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from algoperf.backends.pytorch import TorchWorkload
from algoperf.backends.pytorch_losses import token_cross_entropy
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ParameterType, RandomState
from algoperf.workload import EvalOutput
from algoperf_lm.torch_model import Linear, LmModel


class LmTorch(TorchWorkload):
    """`finewebedu_lm` and its variants in PyTorch."""

    def build_model(self) -> nn.Module:
        """The model with fresh parameters."""
        return LmModel(self.spec.model)

    def parameter_type(self, module: nn.Module, name: str) -> ParameterType:
        """By the kind of the layer."""
        if isinstance(module, Linear):
            return module.kind
        if isinstance(module, nn.RMSNorm):
            return ParameterType.LAYER_NORM_SCALE
        return ParameterType.EMBEDDING if isinstance(module, nn.Embedding) else ParameterType.WEIGHT

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
        """Logits [B, T, vocab_size] of the next tokens, of the parameters' type (float32), and None.

        Of the batch `inputs` [B, T] is read. The model has no dropout, so a rate changes nothing.

        Raises:
            ValueError: inputs are no sequences of at most `context` tokens, or there is a model state.
        """
        del rng, update_batch_norm, dropout_rate
        if model_state is not None:
            raise ValueError(f"{self.spec.name} has no model state; pass None as model_state.")
        tokens, context = augmented_and_preprocessed_input_batch["inputs"], self.spec.model.context
        if tokens.ndim != 2 or tokens.shape[1] > context:
            raise ValueError(
                f"{self.spec.name} needs inputs of at most {context} tokens a sequence, [B, T], "
                f"not {tuple(tokens.shape)}."
            )
        self.set_mode(params, mode)
        return params(tokens), None

    def loss_fn(
        self,
        label_batch: Tensor,
        logits_batch: Tensor,
        mask_batch: Tensor | None = None,
        label_smoothing: float = 0.0,
        **unused: Any,
    ) -> dict[str, Tensor]:
        """Softmax cross entropy of each token; see `token_cross_entropy`.

        Args:
            label_batch: tokens [B, T], integers.
            logits_batch: [B, T, V].
            mask_batch: [B, T], multiplies the losses; None means that all tokens count.
            label_smoothing: moves labels towards 1 / V, before masking.
            **unused: ignored, so that submissions may pass what other workloads take.
        """
        return token_cross_entropy(label_batch, logits_batch, mask_batch, label_smoothing)

    def eval_step(
        self, params: nn.Module, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
    ) -> EvalOutput:
        """Of each sequence of a batch the sums over its real tokens, float32 [B]: `losses`, and `tokens`."""
        del model_state
        # A few at a time, so that the memory of logits is bounded.
        arrays = (batch[name].split(self.spec.model.sequences_at_once) for name in ("inputs", "targets", "weights"))
        losses = []
        for inputs, targets, weights in zip(*arrays, strict=True):
            logits, _ = self.model_fn(params, {"inputs": inputs}, None, ForwardPassMode.EVAL, rng, False)
            losses.append(self.loss_fn(targets, logits, weights)["per_example"].sum(dim=1))
        return {"losses": torch.cat(losses), "tokens": batch["weights"].sum(dim=1)}
