"""Adafactor in JAX; the rule and its source are in the package."""

import optax

from algoperf import spec
from algoperf_baselines import adafactor
from algoperf_baselines._jax import data_selection, initial_state, update_params, warmup_cosine
from algoperf_baselines.batch_sizes import get_batch_size

__all__ = ["data_selection", "get_batch_size", "init_optimizer_state", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """Adafactor; all parameters decay."""
    schedule = warmup_cosine(workload, hyperparameters)
    optimizer = optax.adafactor(
        learning_rate=schedule,
        min_dim_size_to_factor=adafactor.MIN_FACTORED,
        decay_rate=adafactor.DECAY_POWER,
        multiply_by_parameter_scale=False,
        clipping_threshold=1.0,
        momentum=1.0 - hyperparameters.one_minus_beta1,
        weight_decay_rate=lambda step: hyperparameters.weight_decay * schedule(step),
        eps=adafactor.EPS,
    )
    return initial_state(optimizer, model_params, hyperparameters)
