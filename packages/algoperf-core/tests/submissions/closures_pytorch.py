"""Steps by a closure and looks back at its evaluations: for tests of what schedule-free submissions rely on.

Numbers, flags, a named tuple and a function in the state; two backward passes per step, of which one goes uphill (arXiv
2010.01412, algorithm 1) and is taken back in place; a forward pass without gradients; no `prepare_for_eval`, no
`train_state`.
"""

import collections

import torch
import torch.distributed.nn as dist_nn

from algoperf import spec
from algoperf.pytorch_utils import pytorch_setup

USE_PYTORCH_DDP, RANK, DEVICE, N_GPUS = pytorch_setup()
HPARAMS = {"learning_rate": 0.05, "rho": 0.01, "label_smoothing": 0.1}
LOWER_IS_BETTER = ("loss", "wer")


def get_batch_size(workload_name):
    if workload_name == "toy":
        return 32
    raise ValueError(f"Unsupported workload name: {workload_name}.")


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    point = collections.namedtuple("Hyperparameters", HPARAMS)(**HPARAMS)
    optimizer = torch.optim.SGD(model_params.parameters(), lr=point.learning_rate, momentum=0.9)
    return {
        "optimizer": optimizer,
        "hyperparameters": point,
        "num_resets": 0,
        "has_improved": False,
        "best": None,
        "decay": lambda step: 0.99**step,
    }


def forward(workload, params, batch, model_state, rng):
    return workload.model_fn(
        params=params,
        augmented_and_preprocessed_input_batch=batch,
        model_state=model_state,
        mode=spec.ForwardPassMode.TRAIN,
        rng=rng,
        update_batch_norm=False,
        dropout_rate=0.0,
    )[0]


def mean_loss(workload, batch, logits, label_smoothing):
    loss = workload.loss_fn(
        label_batch=batch["targets"],
        logits_batch=logits,
        mask_batch=batch.get("weights"),
        label_smoothing=label_smoothing,
        dropout_rate=0.0,
    )
    summed, count = loss["summed"], loss["n_valid_examples"]
    if USE_PYTORCH_DDP:
        summed, count = dist_nn.all_reduce(summed), dist_nn.all_reduce(count)
    return summed / count


def update_params(
    workload: spec.Workload,
    current_param_container: spec.ParameterContainer,
    current_params_types: spec.ParameterTypeTree,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    batch: dict[str, spec.Tensor],
    loss_type: spec.LossType,
    optimizer_state: spec.OptimizerState,
    eval_results: list[tuple[int, float]],
    global_step: int,
    rng: spec.RandomState,
) -> spec.UpdateReturn:
    point, optimizer = optimizer_state["hyperparameters"], optimizer_state["optimizer"]
    look_back(workload, optimizer_state, eval_results)
    for group in optimizer.param_groups:
        group["lr"] = point.learning_rate * optimizer_state["decay"](global_step)

    def closure():
        optimizer.zero_grad()
        logits = forward(workload, current_param_container, batch, model_state, rng)
        loss = mean_loss(workload, batch, logits, point.label_smoothing)
        loss.backward()
        return loss

    closure()
    uphill = [point.rho * p.grad for p in current_param_container.parameters()]
    with torch.no_grad():
        for p, move in zip(current_param_container.parameters(), uphill, strict=True):
            p.data.add_(move)
        forward(workload, current_param_container, batch, model_state, rng)
    loss = closure()
    with torch.no_grad():
        for p, move in zip(current_param_container.parameters(), uphill, strict=True):
            p.data.sub_(move)
    optimizer.step(lambda: loss)
    if workload.metrics_logger is not None:
        workload.metrics_logger.append_scalar_metrics({"loss": loss.item()}, global_step)
    return optimizer_state, current_param_container, None


def look_back(workload, optimizer_state, eval_results):
    """Halves the learning rate for good where the newest evaluation is no better than the first."""
    if len(eval_results) < 2:
        return
    name = f"validation/{workload.target_metric_name}"
    sign = 1 if workload.target_metric_name in LOWER_IS_BETTER else -1
    first, newest = sign * eval_results[0][1][name], sign * eval_results[-1][1][name]
    optimizer_state["has_improved"] = newest < first
    optimizer_state["num_resets"] += int(newest >= first)
    optimizer_state["best"] = min(newest, optimizer_state["best"] or newest)


def data_selection(
    workload, input_queue, optimizer_state, current_param_container, model_state, hyperparameters, global_step, rng
):
    return next(input_queue)
