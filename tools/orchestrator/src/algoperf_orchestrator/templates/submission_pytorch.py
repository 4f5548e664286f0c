"""AdamW with a warm-up and a cosine decay: a place to start from.

The functions are called by the harness, by these names and arguments; `docs/writing-a-submission.md` of the benchmark
says when. All but `get_batch_size` and `init_optimizer_state` are timed.

Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
"""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from algoperf import spec


class Hyperparameters(NamedTuple):
    """What the optimizer is set by.

    In external tuning the harness gives a named tuple with the names of `tuning_search_space.json`; in self-tuning it
    gives None, and these values are used.
    """

    learning_rate: float = 1e-3
    one_minus_beta1: float = 0.1
    beta2: float = 0.999
    weight_decay: float = 0.01
    warmup_factor: float = 0.05


def get_batch_size(workload_name: str) -> int:
    """The training batch size over all devices, at full scale; mini workloads bring theirs.

    It is asked for the workload's name and then, after an error, for that of the workload it is a variant of.
    """
    return {
        "criteo1tb": 262_144,
        "fastmri": 32,
        "finewebedu_lm": 64,
        "imagenet_resnet": 1024,
        "imagenet_vit": 1024,
        "librispeech_conformer": 256,
        "librispeech_deepspeech": 256,
        "ogbg": 512,
        "wmt": 128,
    }[workload_name]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters | None,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """The first optimizer state, which is handed to `update_params`. What has a `state_dict` is saved by it."""
    point = hyperparameters or Hyperparameters()
    optimizer = torch.optim.AdamW(
        model_params.parameters(),
        lr=point.learning_rate,
        betas=(1.0 - point.one_minus_beta1, point.beta2),
        weight_decay=point.weight_decay,
    )
    warmup_steps = max(1, int(point.warmup_factor * workload.step_hint))
    warmup = LinearLR(optimizer, start_factor=1e-8, total_iters=warmup_steps)
    cosine = CosineAnnealingLR(optimizer, T_max=workload.step_hint - warmup_steps)
    return {"optimizer": optimizer, "scheduler": SequentialLR(optimizer, [warmup, cosine], milestones=[warmup_steps])}


def data_selection(
    workload: spec.Workload,
    input_queue: Any,
    optimizer_state: spec.OptimizerState,
    current_param_container: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters | None,
    global_step: int,
    rng: spec.RandomState,
) -> dict[str, spec.Tensor]:
    """The batch to train on; the queue never ends."""
    return next(input_queue)


def update_params(
    workload: spec.Workload,
    current_param_container: spec.ParameterContainer,
    current_params_types: spec.ParameterTypeTree,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters | None,
    batch: dict[str, spec.Tensor],
    loss_type: spec.LossType,
    optimizer_state: spec.OptimizerState,
    eval_results: list[tuple[int, dict[str, float]]],
    global_step: int,
    rng: spec.RandomState,
    train_state: Any = None,
) -> spec.UpdateReturn:
    """One step. Raise `spec.TrainingCompleteError` to end the training."""
    optimizer_state["optimizer"].zero_grad()
    logits, model_state = workload.model_fn(
        current_param_container, batch, model_state, spec.ForwardPassMode.TRAIN, rng, update_batch_norm=True
    )
    loss = workload.loss_fn(batch["targets"], logits, batch.get("weights"))
    num_valid = loss["n_valid_examples"].detach().float()
    num_processes = 1
    if dist.is_initialized():
        # Each process sees its part of the batch. DDP averages gradients over the processes, whose parts may hold
        # different numbers of valid examples.
        dist.all_reduce(num_valid)
        num_processes = dist.get_world_size()
    (num_processes * loss["summed"] / num_valid).backward()
    optimizer_state["optimizer"].step()
    optimizer_state["scheduler"].step()
    if workload.metrics_logger is not None and global_step % 100 == 0:
        mean = loss["summed"].detach() / loss["n_valid_examples"]
        workload.metrics_logger.append_scalar_metrics({"loss": mean}, global_step)
    return optimizer_state, current_param_container, model_state


def prepare_for_eval(
    workload: spec.Workload,
    current_param_container: spec.ParameterContainer,
    current_params_types: spec.ParameterTypeTree,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters | None,
    loss_type: spec.LossType,
    optimizer_state: spec.OptimizerState,
    eval_results: list[tuple[int, dict[str, float]]],
    global_step: int,
    rng: spec.RandomState,
) -> spec.UpdateReturn:
    """What to evaluate, and to go on with; leave it out if that is what `update_params` returned."""
    return optimizer_state, current_param_container, model_state
