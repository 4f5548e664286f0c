"""NAdamW in PyTorch: AdamW with Nesterov momentum.

Sources: Dozat, "Incorporating Nesterov Momentum into Adam", ICLR 2016 workshop; Loshchilov and
Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from algoperf import spec
from algoperf_baselines._pytorch import data_selection, initial_state, update_params
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


class NAdamW(torch.optim.Optimizer):
    """NAdamW, with the arguments of `torch.optim.AdamW`.

    `torch.optim.NAdam(decoupled_weight_decay=True)` is another algorithm: its momentum follows a
    schedule of its own.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update of all parameters that have a gradient; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update(params, group)
        return loss

    def _update(self, params: list[torch.Tensor], group: dict[str, Any]) -> None:
        lr, (b1, b2) = group["lr"], group["betas"]
        states = [self._advance(p) for p in params]
        grads: list[Any] = [p.grad for p in params]
        mu = [state["mu"] for state in states]
        nu = [state["nu"] for state in states]
        torch._foreach_lerp_(mu, grads, 1 - b1)
        torch._foreach_mul_(nu, b2)
        torch._foreach_addcmul_(nu, grads, grads, 1 - b2)
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        # Corrections of the moments' bias are in the numbers, and the momentum as it will be if the next gradient is
        # this one again is in two terms: each pass over all parameters that is saved is a tenth of an update.
        corrections = [(1 - b2 ** state["step"]) ** 0.5 for state in states]
        denominators = torch._foreach_sqrt(nu)
        torch._foreach_add_(denominators, [group["eps"] * correction for correction in corrections])
        step_sizes = [
            -lr * correction / (1 - b1 ** state["step"]) for state, correction in zip(states, corrections, strict=True)
        ]
        torch._foreach_addcdiv_(params, mu, denominators, [b1 * size for size in step_sizes])
        torch._foreach_addcdiv_(params, grads, denominators, [(1 - b1) * size for size in step_sizes])

    def _advance(self, param: torch.Tensor) -> dict[str, Any]:
        """The state of a parameter (moments, and the number of its updates), one step further."""
        state: dict[str, Any] = self.state[param]
        if not state:
            state.update(step=0, mu=torch.zeros_like(param), nu=torch.zeros_like(param))
        state["step"] += 1
        return state
