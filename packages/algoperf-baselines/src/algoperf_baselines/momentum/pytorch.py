"""SGD with momentum (the heavy ball) in PyTorch; the rule and its sources are in the package."""

import torch

from algoperf import spec
from algoperf_baselines._pytorch import data_selection, initial_state, update_params, warmup_linear
from algoperf_baselines.batch_sizes import get_batch_size

__all__ = ["data_selection", "get_batch_size", "init_optimizer_state", "sgd", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """SGD with momentum; all parameters decay."""
    optimizer = sgd(model_params, hyperparameters, nesterov=False)
    return initial_state(optimizer, workload, hyperparameters, warmup_linear)


def sgd(
    model_params: spec.ParameterContainer, hyperparameters: spec.Hyperparameters, nesterov: bool
) -> torch.optim.Optimizer:
    """SGD with momentum of either kind, and weight decay in the gradient."""
    return torch.optim.SGD(
        model_params.parameters(),
        lr=hyperparameters.learning_rate,
        momentum=1.0 - hyperparameters.one_minus_beta1,
        weight_decay=hyperparameters.weight_decay,
        nesterov=nesterov,
    )
