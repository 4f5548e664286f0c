"""SGD with Nesterov momentum in PyTorch; the rule and its sources are in the package."""

from algoperf import spec
from algoperf_baselines._pytorch import data_selection, initial_state, update_params, warmup_linear
from algoperf_baselines.batch_sizes import get_batch_size
from algoperf_baselines.momentum.pytorch import sgd

__all__ = ["data_selection", "get_batch_size", "init_optimizer_state", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """SGD with Nesterov momentum; all parameters decay."""
    optimizer = sgd(model_params, hyperparameters, nesterov=True)
    return initial_state(optimizer, workload, hyperparameters, warmup_linear)
