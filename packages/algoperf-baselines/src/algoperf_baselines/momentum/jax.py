"""SGD with momentum (the heavy ball) in JAX; the rule and its sources are in the package."""

import optax

from algoperf import spec
from algoperf_baselines._jax import data_selection, initial_state, update_params, warmup_linear
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
    return initial_state(sgd(workload, hyperparameters, nesterov=False), model_params, hyperparameters)


def sgd(workload: spec.Workload, hyperparameters: spec.Hyperparameters, nesterov: bool) -> optax.GradientTransformation:
    """SGD with momentum of either kind, and weight decay in the gradient."""
    return optax.chain(
        optax.add_decayed_weights(hyperparameters.weight_decay),
        optax.sgd(
            warmup_linear(workload, hyperparameters),
            momentum=1.0 - hyperparameters.one_minus_beta1,
            nesterov=nesterov,
        ),
    )
