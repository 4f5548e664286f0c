"""Lion in PyTorch; the rule and its source are in the package."""

from collections.abc import Iterable
from typing import Any

import torch

from algoperf import spec
from algoperf_baselines._pytorch import data_selection, initial_state, update_params
from algoperf_baselines._pytorch_optimizer import Optimizer, State, Tensors
from algoperf_baselines.batch_sizes import get_batch_size

__all__ = ["Lion", "data_selection", "get_batch_size", "init_optimizer_state", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """Lion; all parameters decay."""
    optimizer = Lion(
        model_params.parameters(),
        lr=hyperparameters.learning_rate,
        betas=(1.0 - hyperparameters.one_minus_beta1, hyperparameters.beta2),
        weight_decay=hyperparameters.weight_decay,
    )
    return initial_state(optimizer, workload, hyperparameters)


class Lion(Optimizer):
    """Lion as in optax, which torch lacks."""

    is_elementwise = True

    def __init__(
        self, params: Iterable[torch.Tensor], lr: float, betas: tuple[float, float], weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def first_state(self, param: torch.Tensor) -> State:
        """The momentum."""
        return {"mu": torch.zeros_like(param)}

    def update(self, params: Tensors, grads: Tensors, states: list[State], group: dict[str, Any]) -> None:
        """One step of the rule."""
        lr, (b1, b2) = group["lr"], group["betas"]
        mu = [state["mu"] for state in states]
        signs = torch._foreach_lerp(grads, mu, b1)
        torch._foreach_sign_(signs)
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        torch._foreach_add_(params, signs, alpha=-lr)
        torch._foreach_lerp_(mu, grads, 1 - b2)
