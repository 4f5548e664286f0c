"""The toy workload in PyTorch."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from algoperf.backends.pytorch import TorchWorkload
from algoperf.spec import ForwardPassMode, ParameterType
from algoperf.testing.toy import Mlp


class ToyModel(nn.Module):
    """Two dense layers with dropout between them."""

    def __init__(self, model: Mlp) -> None:
        super().__init__()
        self.hidden = nn.Linear(model.num_features, model.width)
        self.output = nn.Linear(model.width, model.num_classes)
        for layer in (self.hidden, self.output):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, inputs: torch.Tensor, dropout_rate: float) -> torch.Tensor:
        """Logits, float32 [batch, classes]."""
        x = F.relu(self.hidden(inputs))
        logits: torch.Tensor = self.output(F.dropout(x, dropout_rate, self.training))
        return logits


class ToyTorch(TorchWorkload):
    """Two dense layers with dropout between them."""

    def build_model(self) -> nn.Module:
        """Normal kernels, zero biases."""
        return ToyModel(self.spec.model)

    def parameter_type(self, module: nn.Module, name: str) -> ParameterType:
        """A kernel or a bias."""
        return ParameterType.BIAS if name == "bias" else ParameterType.WEIGHT

    def model_fn(
        self,
        params: nn.Module,
        augmented_and_preprocessed_input_batch: Mapping[str, Any],
        model_state: Any,
        mode: ForwardPassMode,
        rng: Any,
        update_batch_norm: bool,
        dropout_rate: Any = None,
    ) -> tuple[torch.Tensor, None]:
        """Logits, float32 [batch, classes]."""
        self.set_mode(params, mode)
        rate = self.spec.dropout_rate if dropout_rate is None else dropout_rate
        return params(augmented_and_preprocessed_input_batch["inputs"], rate), None

    def loss_fn(
        self,
        label_batch: torch.Tensor,
        logits_batch: torch.Tensor,
        mask_batch: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
        **unused: Any,
    ) -> dict[str, torch.Tensor]:
        """Softmax cross entropy."""
        losses = F.cross_entropy(logits_batch, label_batch.long(), reduction="none", label_smoothing=label_smoothing)
        mask = torch.ones_like(losses) if mask_batch is None else mask_batch
        losses = losses * mask
        return {"summed": losses.sum(), "n_valid_examples": mask.sum(), "per_example": losses}

    def eval_step(self, params: nn.Module, model_state: Any, batch: Mapping[str, Any], rng: Any) -> dict[str, Any]:
        """Sums of loss, correct answers and examples."""
        logits, _ = self.model_fn(params, batch, model_state, ForwardPassMode.EVAL, rng, False)
        weights = batch["weights"]
        correct = (logits.argmax(dim=-1) == batch["targets"]) * weights
        loss = self.loss_fn(batch["targets"], logits, weights)["summed"]
        return {"loss": loss, "accuracy": correct.sum(), "examples": weights.sum()}
