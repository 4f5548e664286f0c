"""What the baselines in PyTorch share: everything but the optimizer."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from algoperf import spec

__all__ = ["data_selection", "initial_state", "update_params", "warmup_cosine", "warmup_linear"]

LOG_PERIOD_STEPS = 100

# The part of the peak learning rate by step.
Schedule = Callable[[int], float]
LossAndState = tuple[torch.Tensor, spec.ModelAuxiliaryState]
# Takes `update_batch_norm`.
Backward = Callable[[bool], LossAndState]


def warmup_cosine(workload: spec.Workload, hyperparameters: spec.Hyperparameters) -> Schedule:
    """Linear from 0, then a cosine to 0 at the workload's step hint.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
    arXiv 1608.03983, equation 5, without restarts.
    """
    num_steps = workload.step_hint
    warmup_steps = int(hyperparameters.warmup_factor * num_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return step / warmup_steps
        progress = min(1.0, (step - warmup_steps) / (num_steps - warmup_steps))
        return 0.5 * (1.0 + math.cos(math.pi * progress))

    return factor


def warmup_linear(workload: spec.Workload, hyperparameters: spec.Hyperparameters) -> Schedule:
    """Linear from 0, then linear to `end_factor` at `decay_steps_factor` times the workload's step hint.

    Source: arXiv 2306.07179, the baselines with momentum.
    """
    warmup_steps = int(hyperparameters.warmup_factor * workload.step_hint)
    decay_steps = int(hyperparameters.decay_steps_factor * workload.step_hint) - warmup_steps

    def factor(step: int) -> float:
        if step < warmup_steps:
            return step / warmup_steps
        progress = min(1.0, (step - warmup_steps) / decay_steps)
        return 1.0 + progress * (float(hyperparameters.end_factor) - 1.0)

    return factor


def initial_state(
    optimizer: Optimizer,
    workload: spec.Workload,
    hyperparameters: spec.Hyperparameters,
    schedule: Callable[[spec.Workload, spec.Hyperparameters], Schedule] = warmup_cosine,
) -> spec.OptimizerState:
    """An optimizer, and the schedule of its learning rate."""
    return {"optimizer": optimizer, "scheduler": LambdaLR(optimizer, schedule(workload, hyperparameters))}


def data_selection(
    workload: spec.Workload,
    input_queue: Iterator[dict[str, spec.Tensor]],
    optimizer_state: spec.OptimizerState,
    current_param_container: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    global_step: int,
    rng: spec.RandomState,
) -> dict[str, spec.Tensor]:
    """The next batch as it comes."""
    return next(input_queue)


def take_gradients(backward: Backward, params: torch.nn.Module, hyperparameters: spec.Hyperparameters) -> LossAndState:
    """Leaves the gradients in the parameters; returns the mean loss and the new model state."""
    return backward(True)


def update_params(
    workload: spec.Workload,
    current_param_container: spec.ParameterContainer,
    current_params_types: spec.ParameterTypeTree,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    batch: dict[str, spec.Tensor],
    loss_type: spec.LossType,
    optimizer_state: spec.OptimizerState,
    eval_results: list[tuple[int, dict[str, float]]],
    global_step: int,
    rng: spec.RandomState,
    train_state: Mapping[str, Any] | None = None,
    take_gradients: Callable[[Backward, torch.nn.Module, spec.Hyperparameters], LossAndState] = take_gradients,
) -> spec.UpdateReturn:
    """One step on the mean loss of the batch.

    Another function than `take_gradients` may call `backward` more than once, at other parameters.
    """

    def backward(update_batch_norm: bool) -> LossAndState:
        optimizer_state["optimizer"].zero_grad()
        logits, new_model_state = workload.model_fn(
            params=current_param_container,
            augmented_and_preprocessed_input_batch=batch,
            model_state=model_state,
            mode=spec.ForwardPassMode.TRAIN,
            rng=rng,
            update_batch_norm=update_batch_norm,
            dropout_rate=getattr(hyperparameters, "dropout_rate", None),
        )
        loss, mean_loss = over_all_processes(
            workload.loss_fn(
                label_batch=batch["targets"],
                logits_batch=logits,
                mask_batch=batch.get("weights"),
                label_smoothing=getattr(hyperparameters, "label_smoothing", 0.0),
            )
        )
        loss.backward()
        return mean_loss, new_model_state

    mean_loss, new_model_state = take_gradients(backward, current_param_container, hyperparameters)
    grad_clip = getattr(hyperparameters, "grad_clip", None)
    if grad_clip is not None:
        torch.nn.utils.clip_grad_norm_(current_param_container.parameters(), max_norm=grad_clip)
    optimizer_state["optimizer"].step()
    optimizer_state["scheduler"].step()
    if workload.metrics_logger is not None and global_step % LOG_PERIOD_STEPS == 0:
        workload.metrics_logger.append_scalar_metrics({"loss": mean_loss}, global_step)
    return optimizer_state, current_param_container, new_model_state


def over_all_processes(loss: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """What to take gradients of, and the mean loss over the examples of all processes; scalars.

    DDP averages gradients over the processes. Where these have different numbers of valid examples
    (of tokens, say), the average of their means is not the mean over all.
    """
    summed, n_valid = loss["summed"], loss["n_valid_examples"]
    if not dist.is_initialized():
        mean = summed / n_valid
        return mean, mean.detach()
    totals = torch.stack([summed.detach(), n_valid.to(summed.dtype)])
    dist.all_reduce(totals)
    return summed * dist.get_world_size() / totals[1], totals[0] / totals[1]
