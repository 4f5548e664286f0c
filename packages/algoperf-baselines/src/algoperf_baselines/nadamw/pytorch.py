"""NAdamW in PyTorch: AdamW with Nesterov momentum.

Sources: Dozat, "Incorporating Nesterov Momentum into Adam", ICLR 2016 workshop; Loshchilov and
Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
"""

from collections.abc import Iterable
from typing import Any

import torch

from algoperf import spec
from algoperf_baselines._pytorch import data_selection, initial_state, update_params
from algoperf_baselines._pytorch_optimizer import Optimizer, State, Tensors, adam_denominators
from algoperf_baselines.batch_sizes import get_batch_size

__all__ = ["NAdamW", "data_selection", "get_batch_size", "init_optimizer_state", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """NAdamW; all parameters decay."""
    optimizer = NAdamW(
        model_params.parameters(),
        lr=hyperparameters.learning_rate,
        betas=(1.0 - hyperparameters.one_minus_beta1, hyperparameters.beta2),
        eps=1e-8,
        weight_decay=hyperparameters.weight_decay,
    )
    return initial_state(optimizer, workload, hyperparameters)


class NAdamW(Optimizer):
    """NAdamW, with the arguments of `torch.optim.AdamW`.

    `torch.optim.NAdam(decoupled_weight_decay=True)` is another algorithm: its momentum follows a
    schedule of its own.
    """

    is_elementwise = True

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def first_state(self, param: torch.Tensor) -> State:
        """Both moments."""
        return {"mu": torch.zeros_like(param), "nu": torch.zeros_like(param)}

    def update(self, params: Tensors, grads: Tensors, states: list[State], group: dict[str, Any]) -> None:
        """One step of the rule."""
        lr, (b1, b2) = group["lr"], group["betas"]
        mu = [state["mu"] for state in states]
        torch._foreach_lerp_(mu, grads, 1 - b1)
        denominators, corrections = adam_denominators(grads, states, b2, group["eps"])
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        # The momentum as it will be if the next gradient is this one again, in two terms: fewer passes.
        sizes = [-lr * root / (1 - b1 ** state["step"]) for state, root in zip(states, corrections, strict=True)]
        torch._foreach_addcdiv_(params, mu, denominators, [b1 * size for size in sizes])
        torch._foreach_addcdiv_(params, grads, denominators, [(1 - b1) * size for size in sizes])
