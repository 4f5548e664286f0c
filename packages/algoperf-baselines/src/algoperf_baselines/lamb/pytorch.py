"""LAMB in PyTorch; the rule and its source are in the package."""

from collections.abc import Iterable
from typing import Any

import torch

from algoperf import spec
from algoperf_baselines._pytorch import data_selection, initial_state, update_params
from algoperf_baselines._pytorch_optimizer import Optimizer, State, Tensors, adam_denominators
from algoperf_baselines.batch_sizes import get_batch_size
from algoperf_baselines.lamb import EPS

__all__ = ["Lamb", "data_selection", "get_batch_size", "init_optimizer_state", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """LAMB; all parameters decay."""
    optimizer = Lamb(
        model_params.parameters(),
        lr=hyperparameters.learning_rate,
        betas=(1.0 - hyperparameters.one_minus_beta1, hyperparameters.beta2),
        weight_decay=hyperparameters.weight_decay,
    )
    return initial_state(optimizer, workload, hyperparameters)


class Lamb(Optimizer):
    """LAMB as in optax, which torch lacks."""

    is_elementwise = False

    def __init__(
        self, params: Iterable[torch.Tensor], lr: float, betas: tuple[float, float], weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def first_state(self, param: torch.Tensor) -> State:
        """Both moments."""
        return {"mu": torch.zeros_like(param), "nu": torch.zeros_like(param)}

    def update(self, params: Tensors, grads: Tensors, states: list[State], group: dict[str, Any]) -> None:
        """One step of the rule."""
        b1, b2 = group["betas"]
        mu = [state["mu"] for state in states]
        torch._foreach_lerp_(mu, grads, 1 - b1)
        denominators, corrections = adam_denominators(grads, states, b2, EPS)
        updates = torch._foreach_div(mu, denominators)
        scales = [root / (1 - b1 ** state["step"]) for state, root in zip(states, corrections, strict=True)]
        torch._foreach_mul_(updates, scales)
        torch._foreach_add_(updates, params, alpha=group["weight_decay"])
        ratios = [_ratio(*norms) for norms in zip(torch._foreach_norm(params), torch._foreach_norm(updates))]
        torch._foreach_mul_(updates, ratios)
        torch._foreach_add_(params, updates, alpha=-group["lr"])


def _ratio(param_norm: torch.Tensor, update_norm: torch.Tensor) -> torch.Tensor:
    return torch.where((param_norm > 0) & (update_norm > 0), param_norm / update_norm, 1.0)
