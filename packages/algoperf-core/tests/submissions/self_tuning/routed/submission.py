"""Two optimizers in one, by the names and ranks of parameters, that ends at the step hint: in the manner of Muon."""

import os

import torch
from submissions.self_tuning.routed.orthogonal import Muon

from algoperf import spec

# Submissions for several processes read these while they are imported.
RANK, WORLD_SIZE = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def get_batch_size(workload_name):
    return {"toy": 32}[workload_name]


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    matrices = [p for name, p in model_params.named_parameters() if p.ndim >= 2 and "embedding" not in name]
    others = [p for name, p in model_params.named_parameters() if p.ndim < 2 or "embedding" in name]
    muon, adam = Muon(matrices, lr=0.02), torch.optim.AdamW(others, lr=0.01, fused=True)
    # The warm-up of no steps that public submissions have.
    warmup = torch.optim.lr_scheduler.LinearLR(adam, start_factor=1e-10, total_iters=0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=workload.step_hint)
    schedule = torch.optim.lr_scheduler.SequentialLR(adam, [warmup, cosine], milestones=[0])
    return {"muon": muon, "adam": adam, "schedule": schedule}


def update_params(
    workload,
    current_param_container,
    current_params_types,
    model_state,
    hyperparameters,
    batch,
    loss_type,
    optimizer_state,
    eval_results,
    global_step,
    rng,
    train_state=None,
):
    if global_step >= workload.step_hint:
        raise spec.TrainingCompleteError("The step hint is reached.")
    current_param_container.train()
    current_param_container.zero_grad()
    logits, model_state = workload.model_fn(
        params=current_param_container,
        augmented_and_preprocessed_input_batch=batch,
        model_state=model_state,
        mode=spec.ForwardPassMode.TRAIN,
        rng=rng,
        update_batch_norm=True,
    )
    workload.loss_fn(batch["targets"], logits)["per_example"].mean().backward()
    for name in ("muon", "adam", "schedule"):
        optimizer_state[name].step()
    return optimizer_state, current_param_container, model_state


def prepare_for_eval(
    workload,
    current_param_container,
    current_params_types,
    model_state,
    hyperparameters,
    loss_type,
    optimizer_state,
    eval_results,
    global_step,
    rng,
):
    return optimizer_state, current_param_container, model_state


def data_selection(
    workload, input_queue, optimizer_state, current_param_container, model_state, hyperparameters, global_step, rng
):
    return next(input_queue)
