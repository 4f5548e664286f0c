"""Schedule-free AdamW in PyTorch; the rule and its source are in the package."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from algoperf import spec
from algoperf_baselines import _pytorch
from algoperf_baselines._pytorch import Schedule, data_selection, initial_state
from algoperf_baselines._pytorch_optimizer import Optimizer, State, Tensors, adam_denominators
from algoperf_baselines.batch_sizes import get_batch_size
from algoperf_baselines.schedule_free_adamw import EPS

__all__ = [
    "ScheduleFreeAdamW",
    "data_selection",
    "get_batch_size",
    "init_optimizer_state",
    "prepare_for_eval",
    "update_params",
]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """Schedule-free AdamW; all parameters decay. The state also holds y while the parameters are x."""
    optimizer = ScheduleFreeAdamW(
        model_params.parameters(),
        lr=hyperparameters.learning_rate,
        betas=(1.0 - hyperparameters.one_minus_beta1, hyperparameters.beta2),
        weight_decay=hyperparameters.weight_decay,
        warmup_steps=_warmup_steps(workload, hyperparameters),
    )
    has_statistics = any(name.endswith("running_mean") for name, _ in model_params.named_buffers())
    return initial_state(optimizer, workload, hyperparameters, warmup) | {"has_statistics": has_statistics, "y": None}


def _warmup_steps(workload: spec.Workload, hyperparameters: spec.Hyperparameters) -> int:
    return max(1, int(hyperparameters.warmup_factor * workload.step_hint))


def warmup(workload: spec.Workload, hyperparameters: spec.Hyperparameters) -> Schedule:
    """Linear, without the 0 at the start."""
    warmup_steps = _warmup_steps(workload, hyperparameters)
    return lambda step: min(1.0, (step + 1) / warmup_steps)


def prepare_for_eval(
    *,
    current_param_container: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    optimizer_state: spec.OptimizerState,
    **unused: Any,
) -> spec.UpdateReturn:
    """Evaluates at x."""
    if optimizer_state["y"] is None:
        optimizer_state = optimizer_state | {"y": to_average(optimizer_state["optimizer"])}
    return optimizer_state, current_param_container, model_state


def update_params(
    *,
    workload: spec.Workload,
    current_param_container: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    batch: dict[str, spec.Tensor],
    optimizer_state: spec.OptimizerState,
    rng: spec.RandomState,
    **others: Any,
) -> spec.UpdateReturn:
    """One step at y, on the mean loss of the batch."""
    optimizer, has_statistics = optimizer_state["optimizer"], optimizer_state["has_statistics"]
    if optimizer_state["y"] is not None:
        set_params(optimizer, optimizer_state["y"])
    result = _pytorch.update_params(
        workload=workload,
        current_param_container=current_param_container,
        model_state=model_state,
        hyperparameters=hyperparameters,
        batch=batch,
        optimizer_state=optimizer_state | {"y": None},
        rng=rng,
        take_gradients=lambda backward, *_: backward(not has_statistics),
        **others,
    )
    if has_statistics:
        y = to_average(optimizer)
        with torch.no_grad():
            workload.model_fn(
                current_param_container,
                batch,
                model_state,
                spec.ForwardPassMode.TRAIN,
                rng,
                update_batch_norm=True,
                dropout_rate=getattr(hyperparameters, "dropout_rate", None),
            )
        set_params(optimizer, y)
    return result


class ScheduleFreeAdamW(Optimizer):
    """AdamW without a schedule, as `optax.contrib.schedule_free` makes it; torch lacks it.

    The learning rate is to rise linearly over `warmup_steps`, from lr / warmup_steps, and then to stay.
    """

    is_elementwise = True

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        warmup_steps: int,
    ) -> None:
        options = {"betas": betas, "weight_decay": weight_decay, "warmup_steps": warmup_steps}
        super().__init__(params, {"lr": lr, **options})

    def first_state(self, param: torch.Tensor) -> State:
        """The iterate and the second moment."""
        return {"z": param.clone(), "nu": torch.zeros_like(param)}

    def update(self, params: Tensors, grads: Tensors, states: list[State], group: dict[str, Any]) -> None:
        """One step of the rule; the parameters are y."""
        lr, (b1, b2) = group["lr"], group["betas"]
        z = [state["z"] for state in states]
        denominators, corrections = adam_denominators(grads, states, b2, EPS)
        updates = torch._foreach_div(grads, denominators)
        torch._foreach_mul_(updates, corrections)
        torch._foreach_add_(updates, params, alpha=group["weight_decay"])
        weights = [average_weight(state["step"], group["warmup_steps"]) for state in states]
        # y of the new x and z, in terms of the old y and z.
        for y, old_z, weight in zip(params, z, weights, strict=True):
            y.lerp_(old_z, weight)
        sizes = [-lr * (1 - b1 * (1 - weight)) for weight in weights]
        torch._foreach_add_(params, torch._foreach_mul(updates, sizes))
        torch._foreach_add_(z, updates, alpha=-lr)


def average_weight(step: int, warmup_steps: int) -> float:
    """The weight c of z in the average x, at a step from 1; sums of squares have a closed form."""
    n = min(step, warmup_steps)
    return n**2 / (n * (n + 1) * (2 * n + 1) / 6 + (step - n) * warmup_steps**2)


@torch.no_grad()
def to_average(optimizer: ScheduleFreeAdamW) -> Tensors:
    """Moves the parameters from y to x; returns y."""
    before = []
    for param, b1 in _updated(optimizer):
        before.append(param.clone())
        param.lerp_(optimizer.state[param]["z"], 1 - 1 / b1)
    return before


@torch.no_grad()
def set_params(optimizer: ScheduleFreeAdamW, values: Tensors) -> None:
    """Undoes `to_average`."""
    for (param, _), value in zip(_updated(optimizer), values, strict=True):
        param.copy_(value)


def _updated(optimizer: ScheduleFreeAdamW) -> Iterator[tuple[torch.Tensor, float]]:
    """The parameters that have been updated, which has made them differ from x, and their b1."""
    for group in optimizer.param_groups:
        for param in group["params"]:
            if param in optimizer.state:
                yield param, group["betas"][0]
