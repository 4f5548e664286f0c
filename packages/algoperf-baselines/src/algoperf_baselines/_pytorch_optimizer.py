"""What the optimizers that PyTorch lacks share: the walk over parameters, and Adam's denominators."""

import abc
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch

__all__ = ["Optimizer", "adam_denominators"]

BLOCK_SIZE = 2**18

Tensors = list[torch.Tensor]
# What is kept of a parameter: tensors by name, and "step", the number of its updates.
State = dict[str, Any]


class Optimizer(torch.optim.Optimizer, abc.ABC):
    """An update rule. Parameters without a gradient are left alone.

    Attributes:
        is_elementwise: whether the rule treats each element by itself, and may be given parts of parameters.
    """

    is_elementwise: ClassVar[bool]

    @abc.abstractmethod
    def first_state(self, param: torch.Tensor) -> State:
        """The tensors to keep of a parameter before its first update; all of its shape if the rule is elementwise."""

    @abc.abstractmethod
    def update(self, params: Tensors, grads: Tensors, states: list[State], group: dict[str, Any]) -> None:
        """Changes parameters and states in place, by the options in `group`; `step` is 1 in the first update."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update of all parameters that have a gradient; returns what `closure` returns."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update_group(params, group)
        return loss

    def _update_group(self, params: Tensors, group: dict[str, Any]) -> None:
        states = [self._advance(p) for p in params]
        grads = [p.grad for p in params if p.grad is not None]
        if not self.is_elementwise or not all(p.is_cpu for p in params):
            self.update(params, grads, states, group)
            return
        for param, grad, state in zip(params, grads, states, strict=True):
            for p, g, part in _blocks(param, grad, state):
                self.update([p], [g], [part], group)

    def _advance(self, param: torch.Tensor) -> State:
        state: State = self.state[param]
        if not state:
            state.update(step=0, **self.first_state(param))
        state["step"] += 1
        return state


def _blocks(
    param: torch.Tensor, grad: torch.Tensor, state: State
) -> Iterator[tuple[torch.Tensor, torch.Tensor, State]]:
    """Views of neighbouring rows, of about `BLOCK_SIZE` elements each.

    A block stays in the processor's cache through all passes of an update, which takes half the time.
    """
    if param.numel() <= BLOCK_SIZE:
        yield param, grad, state
        return
    rows = max(1, BLOCK_SIZE * len(param) // param.numel())
    tensors = {name: value for name, value in state.items() if name != "step"}
    for p, g, *parts in zip(*(x.split(rows) for x in (param, grad, *tensors.values())), strict=True):
        yield p, g, dict(zip(tensors, parts, strict=True), step=state["step"])


def adam_denominators(grads: Tensors, states: list[State], b2: float, eps: float) -> tuple[Tensors, list[float]]:
    """Advances the second moments `nu`, and gives Adam's denominators as a tensor and a number of each parameter.

    The denominator sqrt(nu / (1 - b2^t)) + eps is the tensor divided by the number, which is sqrt(1 - b2^t): numbers
    that go into the size of the step save a pass over all parameters.
    """
    nu = [state["nu"] for state in states]
    torch._foreach_mul_(nu, b2)
    torch._foreach_addcmul_(nu, grads, grads, 1 - b2)
    corrections = [(1 - b2 ** state["step"]) ** 0.5 for state in states]
    # Roots of 0, where no gradient has been yet, take processors four times as long; beside eps the number is nothing.
    denominators = list(torch._foreach_add(nu, torch.finfo(nu[0].dtype).tiny))
    torch._foreach_sqrt_(denominators)
    torch._foreach_add_(denominators, [eps * correction for correction in corrections])
    return denominators, corrections
