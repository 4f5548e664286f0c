"""AdEMAMix in PyTorch; the rule and its source are in the package."""

from collections.abc import Iterable
from typing import Any

import torch

from algoperf import spec
from algoperf_baselines._pytorch import data_selection, initial_state, update_params
from algoperf_baselines._pytorch_optimizer import Optimizer, State, Tensors, adam_denominators
from algoperf_baselines.ademamix import EPS, slow_decay
from algoperf_baselines.batch_sizes import get_batch_size

__all__ = ["AdEMAMix", "data_selection", "get_batch_size", "init_optimizer_state", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """AdEMAMix; all parameters decay."""
    optimizer = AdEMAMix(
        model_params.parameters(),
        lr=hyperparameters.learning_rate,
        betas=(
            1.0 - hyperparameters.one_minus_beta1,
            hyperparameters.beta2,
            1.0 - hyperparameters.one_minus_beta3,
        ),
        alpha=hyperparameters.alpha,
        weight_decay=hyperparameters.weight_decay,
        ramp_steps=workload.step_hint,
    )
    return initial_state(optimizer, workload, hyperparameters)


class AdEMAMix(Optimizer):
    """AdEMAMix as in optax, which torch lacks. `alpha` and the last of `betas` are reached after `ramp_steps`."""

    is_elementwise = True

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float,
        betas: tuple[float, float, float],
        alpha: float,
        weight_decay: float,
        ramp_steps: int,
    ) -> None:
        options = {"betas": betas, "alpha": alpha, "weight_decay": weight_decay, "ramp_steps": ramp_steps}
        super().__init__(params, {"lr": lr, **options})

    def first_state(self, param: torch.Tensor) -> State:
        """The three moments."""
        return {name: torch.zeros_like(param) for name in ("mu", "slow_mu", "nu")}

    def update(self, params: Tensors, grads: Tensors, states: list[State], group: dict[str, Any]) -> None:
        """One step of the rule."""
        lr, (b1, b2, b3) = group["lr"], group["betas"]
        mu, slow_mu = ([state[name] for state in states] for name in ("mu", "slow_mu"))
        ramps = [min(1.0, state["step"] / group["ramp_steps"]) for state in states]
        torch._foreach_lerp_(mu, grads, 1 - b1)
        for slow, grad, ramp in zip(slow_mu, grads, ramps, strict=True):
            slow.lerp_(grad, 1 - slow_decay(ramp, b1, b3))
        denominators, corrections = adam_denominators(grads, states, b2, EPS)
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        sizes = [-lr * root / (1 - b1 ** state["step"]) for state, root in zip(states, corrections, strict=True)]
        torch._foreach_addcdiv_(params, mu, denominators, sizes)
        slow_sizes = [-lr * root * group["alpha"] * ramp for root, ramp in zip(corrections, ramps, strict=True)]
        torch._foreach_addcdiv_(params, slow_mu, denominators, slow_sizes)
