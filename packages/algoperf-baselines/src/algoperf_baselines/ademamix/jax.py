"""AdEMAMix in JAX; the rule and its source are in the package."""

import optax

from algoperf import spec
from algoperf_baselines._jax import data_selection, initial_state, update_params, warmup_cosine
from algoperf_baselines.ademamix import EPS, slow_decay
from algoperf_baselines.batch_sizes import get_batch_size

__all__ = ["data_selection", "get_batch_size", "init_optimizer_state", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """AdEMAMix; all parameters decay."""
    b1, b3 = 1.0 - hyperparameters.one_minus_beta1, 1.0 - hyperparameters.one_minus_beta3
    ramp = optax.linear_schedule(0.0, 1.0, workload.step_hint)
    # optax counts from 0, the rule from 1.
    optimizer = optax.contrib.ademamix(
        learning_rate=warmup_cosine(workload, hyperparameters),
        b1=b1,
        b2=hyperparameters.beta2,
        b3=lambda count: slow_decay(ramp(count + 1), b1, b3),
        alpha=lambda count: hyperparameters.alpha * ramp(count + 1),
        eps=EPS,
        weight_decay=hyperparameters.weight_decay,
    )
    return initial_state(optimizer, model_params, hyperparameters)
