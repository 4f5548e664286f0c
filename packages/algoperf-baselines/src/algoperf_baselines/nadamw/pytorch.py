"""NAdamW in PyTorch: AdamW with Nesterov momentum.

Sources: Dozat, "Incorporating Nesterov Momentum into Adam", ICLR 2016 workshop; Loshchilov and
Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from algoperf import spec
from algoperf_baselines._pytorch import data_selection, initial_state, update_params
from algoperf_baselines.batch_sizes import get_batch_size

__all__ = ["NAdamW", "data_selection", "get_batch_size", "init_optimizer_state", "update_params"]

BLOCK_SIZE = 2**18


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
        states = [self._advance(p) for p in params]
        parts = [(p, p.grad, state["mu"], state["nu"], state["step"]) for p, state in zip(params, states, strict=True)]
        if not all(p.is_cpu for p in params):
            _update(parts, group)
            return
        # A block stays in the processor's cache through all passes, which takes half the time.
        for *tensors, step in parts:
            for block in zip(*map(_blocks, tensors), strict=True):
                _update([(*block, step)], group)

    def _advance(self, param: torch.Tensor) -> dict[str, Any]:
        """The state of a parameter (moments, and the number of its updates), one step further."""
        state: dict[str, Any] = self.state[param]
        if not state:
            state.update(step=0, mu=torch.zeros_like(param), nu=torch.zeros_like(param))
        state["step"] += 1
        return state


def _blocks(x: torch.Tensor) -> Sequence[torch.Tensor]:
    """Views of neighbouring rows, of about `BLOCK_SIZE` elements each."""
    x = torch.atleast_1d(x)
    return x.split(max(1, BLOCK_SIZE * len(x) // max(1, x.numel())))


def _update(parts: Sequence[tuple[Any, ...]], group: dict[str, Any]) -> None:
    """Updates parameters, or parts of them: each with its gradient, both moments and the number of its updates."""
    lr, (b1, b2) = group["lr"], group["betas"]
    params, grads, mu, nu, steps = (list(column) for column in zip(*parts, strict=True))
    torch._foreach_lerp_(mu, grads, 1 - b1)
    torch._foreach_mul_(nu, b2)
    torch._foreach_addcmul_(nu, grads, grads, 1 - b2)
    torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
    # Corrections of the moments' bias are in the numbers, and the momentum as it will be if the next gradient is this
    # one again is in two terms: fewer passes over all parameters.
    corrections = [(1 - b2**step) ** 0.5 for step in steps]
    # Roots of 0, where no gradient has been yet, take processors four times as long; beside eps the number is nothing.
    denominators = torch._foreach_add(nu, torch.finfo(nu[0].dtype).tiny)
    torch._foreach_sqrt_(denominators)
    torch._foreach_add_(denominators, [group["eps"] * correction for correction in corrections])
    sizes = [-lr * correction / (1 - b1**step) for step, correction in zip(steps, corrections, strict=True)]
    torch._foreach_addcdiv_(params, mu, denominators, [b1 * size for size in sizes])
    torch._foreach_addcdiv_(params, grads, denominators, [(1 - b1) * size for size in sizes])
