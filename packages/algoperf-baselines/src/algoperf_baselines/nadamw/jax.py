"""NAdamW in JAX: AdamW with Nesterov momentum.

Sources: Dozat, "Incorporating Nesterov Momentum into Adam", ICLR 2016 workshop; Loshchilov and
Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
"""

import jax
import jax.numpy as jnp
import optax

from algoperf import spec
from algoperf_baselines._jax import data_selection, initial_state, update_params, warmup_cosine
from algoperf_baselines.batch_sizes import get_batch_size

__all__ = ["data_selection", "get_batch_size", "init_optimizer_state", "nadamw", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """NAdamW; all parameters decay."""
    optimizer = nadamw(
        learning_rate=warmup_cosine(workload, hyperparameters),
        b1=1.0 - hyperparameters.one_minus_beta1,
        b2=hyperparameters.beta2,
        eps=1e-8,
        weight_decay=hyperparameters.weight_decay,
    )
    return initial_state(optimizer, model_params, hyperparameters)


def nadamw(
    learning_rate: optax.ScalarOrSchedule, b1: float, b2: float, eps: float, weight_decay: float
) -> optax.GradientTransformation:
    """NAdamW, with the arguments of `optax.adamw`."""
    return optax.chain(
        scale_by_nadam(b1, b2, eps),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


def scale_by_nadam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam's scaling of the gradients, with Nesterov momentum.

    The baselines of the benchmark divide the momentum and the gradient in it by the same
    1 - b1^t. `optax.nadamw` divides the momentum by 1 - b1^(t + 1), and so takes other steps.
    """

    def init(params: optax.Params) -> optax.ScaleByAdamState:
        mu, nu = optax.tree.zeros_like(params), optax.tree.zeros_like(params)
        return optax.ScaleByAdamState(count=jnp.zeros([], jnp.int32), mu=mu, nu=nu)

    def update(
        grads: optax.Updates, state: optax.ScaleByAdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.ScaleByAdamState]:
        count = state.count + 1
        mu = optax.tree.update_moment(grads, state.mu, b1, 1)
        nu = optax.tree.update_moment(grads, state.nu, b2, 2)
        # The momentum as it will be if the next gradient is this one again.
        ahead = optax.tree.update_moment(grads, mu, b1, 1)
        numerator = optax.tree.bias_correction(ahead, b1, count)
        variance = optax.tree.bias_correction(nu, b2, count)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), numerator, variance)
        return updates, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.GradientTransformation(init, update)
