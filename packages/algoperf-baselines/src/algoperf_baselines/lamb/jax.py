"""LAMB in JAX; the rule and its source are in the package."""

import optax

from algoperf import spec
from algoperf_baselines._jax import data_selection, initial_state, update_params, warmup_cosine
from algoperf_baselines.batch_sizes import get_batch_size
from algoperf_baselines.lamb import EPS

__all__ = ["data_selection", "get_batch_size", "init_optimizer_state", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """LAMB; all parameters decay."""
    optimizer = optax.lamb(
        learning_rate=warmup_cosine(workload, hyperparameters),
        b1=1.0 - hyperparameters.one_minus_beta1,
        b2=hyperparameters.beta2,
        eps=EPS,
        weight_decay=hyperparameters.weight_decay,
    )
    return initial_state(optimizer, model_params, hyperparameters)
