"""SGD with momentum in the public API, for tests of the harness."""

import torch
import torch.distributed.nn as dist_nn

from algoperf import spec
from algoperf.pytorch_utils import pytorch_setup

USE_PYTORCH_DDP = pytorch_setup()[0]


def get_batch_size(workload_name):
    return {"toy": 32}[workload_name]


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    rate = getattr(hyperparameters, "learning_rate", 0.05)
    optimizer = torch.optim.SGD(model_params.parameters(), lr=rate, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.999**step)
    # What public submissions also keep: numbers, flags and the hyperparameters themselves.
    return {"optimizer": optimizer, "scheduler": scheduler, "count": 0, "hyperparameters": hyperparameters}


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
):
    optimizer_state["optimizer"].zero_grad()
    logits, model_state = workload.model_fn(
        params=current_param_container,
        augmented_and_preprocessed_input_batch=batch,
        model_state=model_state,
        mode=spec.ForwardPassMode.TRAIN,
        rng=rng,
        update_batch_norm=True,
    )
    loss = workload.loss_fn(label_batch=batch["targets"], logits_batch=logits, mask_batch=batch.get("weights"))
    summed, count = loss["summed"], loss["n_valid_examples"]
    if USE_PYTORCH_DDP:
        summed, count = dist_nn.all_reduce(summed), dist_nn.all_reduce(count)
    (summed / count).backward()
    optimizer_state["optimizer"].step()
    optimizer_state["scheduler"].step()
    optimizer_state["count"] += 1
    return optimizer_state, current_param_container, model_state


def data_selection(
    workload, input_queue, optimizer_state, current_param_container, model_state, hyperparameters, global_step, rng
):
    return next(input_queue)
