"""Criteo 1TB and its variants in PyTorch."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoperf.backends.pytorch import TorchWorkload
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ParameterType, RandomState
from algoperf.workload import EvalOutput
from algoperf_criteo.torch_model import DlrmModel


class CriteoTorch(TorchWorkload):
    """Criteo 1TB and its variants in PyTorch."""

    def build_model(self) -> nn.Module:
        """The model with fresh parameters."""
        return DlrmModel(self.spec.model)

    def parameter_type(self, module: nn.Module, name: str) -> ParameterType:
        """By the kind of the layer; the model's own parameters are its embeddings."""
        if isinstance(module, nn.LayerNorm):
            return ParameterType.LAYER_NORM_SCALE if name == "weight" else ParameterType.LAYER_NORM_BIAS
        if isinstance(module, nn.Linear):
            return ParameterType.WEIGHT if name == "weight" else ParameterType.BIAS
        return ParameterType.EMBEDDING

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
        """Logits [B, 1], of the parameters' type (float32), and None. Raises ValueError if there is a model state."""
        del rng, update_batch_norm
        if model_state is not None:
            raise ValueError("Criteo 1TB has no model state; pass None as model_state.")
        self.set_mode(params, mode)
        rate = self.spec.dropout_rate if dropout_rate is None else dropout_rate
        train = mode is ForwardPassMode.TRAIN
        return params(augmented_and_preprocessed_input_batch["inputs"], rate if train else None), None

    def loss_fn(
        self,
        label_batch: Tensor,
        logits_batch: Tensor,
        mask_batch: Tensor | None = None,
        label_smoothing: float = 0.0,
        **unused: Any,
    ) -> dict[str, Tensor]:
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
        logits_batch = logits_batch.to(torch.promote_types(logits_batch.dtype, torch.float32))
        labels, logits = label_batch.flatten(), logits_batch.flatten()
        mask = torch.ones_like(logits) if mask_batch is None else mask_batch.flatten()
        losses = -(labels * F.logsigmoid(logits) + (1 - labels) * F.logsigmoid(-logits)) * mask
        return {
            "summed": losses.sum(),
            "n_valid_examples": mask.sum(dtype=losses.dtype),
            "per_example": losses,
        }

    def eval_step(
        self, params: nn.Module, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
    ) -> EvalOutput:
        """Sums over the real examples of a batch: of their losses, and how many they are."""
        logits, _ = self.model_fn(params, batch, model_state, ForwardPassMode.EVAL, rng, update_batch_norm=False)
        loss = self.loss_fn(batch["targets"], logits, batch["weights"])
        return {"loss": loss["summed"], "examples": loss["n_valid_examples"]}
