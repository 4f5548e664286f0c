"""SGD with Nesterov momentum in JAX; the rule and its sources are in the package."""

from algoperf import spec
from algoperf_baselines._jax import data_selection, initial_state, update_params
from algoperf_baselines.batch_sizes import get_batch_size
from algoperf_baselines.momentum.jax import sgd

__all__ = ["data_selection", "get_batch_size", "init_optimizer_state", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """SGD with Nesterov momentum; all parameters decay."""
    return initial_state(sgd(workload, hyperparameters, nesterov=True), model_params, hyperparameters)
