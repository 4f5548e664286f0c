"""Adafactor in PyTorch; the rule and its source are in the package."""

from collections.abc import Iterable
from typing import Any

import torch

from algoperf import spec
from algoperf_baselines import adafactor
from algoperf_baselines._pytorch import data_selection, initial_state, update_params
from algoperf_baselines._pytorch_optimizer import Optimizer, State, Tensors
from algoperf_baselines.batch_sizes import get_batch_size

__all__ = ["Adafactor", "data_selection", "get_batch_size", "init_optimizer_state", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """Adafactor; all parameters decay."""
    optimizer = Adafactor(
        model_params.parameters(),
        lr=hyperparameters.learning_rate,
        b1=1.0 - hyperparameters.one_minus_beta1,
        weight_decay=hyperparameters.weight_decay,
    )
    return initial_state(optimizer, workload, hyperparameters)


class Adafactor(Optimizer):
    """Adafactor as in optax. `torch.optim.Adafactor` has no momentum, and bounds the learning rate by 1 / sqrt(t)."""

    is_elementwise = False

    def __init__(self, params: Iterable[torch.Tensor], lr: float, b1: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "b1": b1, "weight_decay": weight_decay})

    def first_state(self, param: torch.Tensor) -> State:
        """The momentum, and the second moment or its means over either of two dimensions, which keep size 1."""
        dims = _factored_dims(param)
        if not dims:
            return {"mu": torch.zeros_like(param), "nu": torch.zeros_like(param)}
        rows, columns = (torch.zeros_like(param.narrow(dim, 0, 1)) for dim in dims)
        return {"mu": torch.zeros_like(param), "rows": rows, "columns": columns}

    def update(self, params: Tensors, grads: Tensors, states: list[State], group: dict[str, Any]) -> None:
        """One step of the rule."""
        lr, b1 = group["lr"], group["b1"]
        for param, grad, state in zip(params, grads, states, strict=True):
            update = grad * _inverse_roots(state, grad)
            update /= update.square().mean().sqrt().clamp(min=1.0)
            state["mu"].lerp_(lr * update, 1 - b1)
            param.mul_(1 - lr * group["weight_decay"]).sub_(state["mu"])


def _factored_dims(param: torch.Tensor) -> list[int]:
    """The two largest dimensions, the largest last; none if one is too small."""
    dims = sorted(range(param.ndim), key=lambda dim: param.shape[dim])[-2:]
    is_large = len(dims) == 2 and param.shape[dims[0]] >= adafactor.MIN_FACTORED
    return dims if is_large else []


def _inverse_roots(state: State, grad: torch.Tensor) -> torch.Tensor:
    """Advances the second moments by a gradient; returns 1 / sqrt(v), or what stands for it."""
    squares = grad.square() + adafactor.EPS
    weight = state["step"] ** -adafactor.DECAY_POWER
    dims = _factored_dims(grad)
    if not dims:
        return state["nu"].lerp_(squares, weight).rsqrt()
    rows, columns = state["rows"], state["columns"]
    rows.lerp_(squares.mean(dims[0], keepdim=True), weight)
    columns.lerp_(squares.mean(dims[1], keepdim=True), weight)
    return (rows / rows.mean(dims[1], keepdim=True)).rsqrt() * columns.rsqrt()
