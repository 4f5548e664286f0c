"""fastMRI and its variants in PyTorch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from algoperf.backends.pytorch import TorchWorkload
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ParameterType, RandomState
from algoperf.workload import EvalOutput
from algoperf_fastmri.torch_model import UNetModel
from algoperf_fastmri.torch_ssim import ssim


class FastmriTorch(TorchWorkload):
    """fastMRI and its variants in PyTorch."""

    def build_model(self) -> nn.Module:
        """The model with fresh parameters."""
        return UNetModel(self.spec.model)

    def parameter_type(self, module: nn.Module, name: str) -> ParameterType:
        """By the kind of the layer; a group norm is of a single group, hence a layer norm."""
        if isinstance(module, nn.GroupNorm):
            return ParameterType.LAYER_NORM_SCALE if name == "weight" else ParameterType.LAYER_NORM_BIAS
        return ParameterType.CONV_WEIGHT if name == "weight" else ParameterType.BIAS

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
        """Images [B, S, S], of the parameters' type (float32), and None. Raises ValueError if there is a model state.

        Only the batch's `inputs` are read, normalised images [B, S, S].
        """
        del rng, update_batch_norm
        if model_state is not None:
            raise ValueError("fastMRI has no model state; pass None as model_state.")
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
        outputs = logits_batch.to(torch.promote_types(logits_batch.dtype, torch.float32))
        losses = (outputs - label_batch).abs().mean(dim=(1, 2))
        mask = torch.ones_like(losses) if mask_batch is None else mask_batch
        losses = losses * mask
        return {
            "summed": losses.sum(),
            "n_valid_examples": mask.sum(dtype=losses.dtype),
            "per_example": losses,
        }

    def eval_step(
        self, params: nn.Module, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
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
