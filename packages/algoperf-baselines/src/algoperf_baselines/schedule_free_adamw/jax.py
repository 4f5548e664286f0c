"""Schedule-free AdamW in JAX; the rule and its source are in the package."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax

from algoperf import jax_sharding_utils, spec
from algoperf_baselines import _jax
from algoperf_baselines._jax import data_selection, initial_state
from algoperf_baselines.batch_sizes import get_batch_size
from algoperf_baselines.schedule_free_adamw import EPS

__all__ = ["data_selection", "get_batch_size", "init_optimizer_state", "prepare_for_eval", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """Schedule-free AdamW; all parameters decay. The state is optax's, and y while the parameters are x."""
    warmup_steps = max(1, int(hyperparameters.warmup_factor * workload.step_hint))
    learning_rate = optax.linear_schedule(0.0, hyperparameters.learning_rate, warmup_steps)
    adamw = optax.chain(
        optax.scale_by_rms(decay=hyperparameters.beta2, eps=EPS, eps_in_sqrt=False, bias_correction=True),
        optax.add_decayed_weights(hyperparameters.weight_decay),
        # It counts from 0, and `schedule_free` from 1.
        optax.scale_by_learning_rate(lambda count: learning_rate(count + 1)),
    )
    around = partial(optax.contrib.schedule_free, learning_rate=learning_rate, b1=1.0 - hyperparameters.one_minus_beta1)
    state, update = initial_state(adamw, model_params, hyperparameters, around)
    return (state, None), update


def prepare_for_eval(
    *,
    current_param_container: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    optimizer_state: spec.OptimizerState,
    **unused: Any,
) -> spec.UpdateReturn:
    """Evaluates at x."""
    (state, y), update = optimizer_state
    y = current_param_container if y is None else y
    return ((state, y), update), average(state, y), model_state


def update_params(
    *,
    workload: spec.Workload,
    current_param_container: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    batch: dict[str, spec.Tensor],
    optimizer_state: spec.OptimizerState,
    rng: spec.RandomState,
    **others: Any,
) -> spec.UpdateReturn:
    """One step at y, on the mean loss of the batch."""
    (state, y), update = optimizer_state
    has_statistics = bool(jax.tree.leaves(model_state))
    (state, update), y, model_state = _jax.update_params(
        workload=workload,
        current_param_container=current_param_container if y is None else y,
        model_state=model_state,
        hyperparameters=hyperparameters,
        batch=batch,
        optimizer_state=(state, update),
        rng=rng,
        update_batch_norm=not has_statistics,
        **others,
    )
    if has_statistics:
        dropout_rate = getattr(hyperparameters, "dropout_rate", None)
        model_state = statistics_at_average()(workload, state, y, model_state, batch, rng, dropout_rate)
    return ((state, None), update), y, model_state


average = jax.jit(optax.contrib.schedule_free_eval_params)


@functools.cache
def statistics_at_average() -> Callable[..., spec.ModelAuxiliaryState]:
    """The model state after a pass forward at x, over all devices; the same function each time."""

    def forward(
        workload: spec.Workload, state: Any, y: Any, model_state: Any, batch: Any, rng: Any, dropout_rate: Any
    ) -> spec.ModelAuxiliaryState:
        x, train = optax.contrib.schedule_free_eval_params(state, y), spec.ForwardPassMode.TRAIN
        return workload.model_fn(x, batch, model_state, train, rng, update_batch_norm=True, dropout_rate=dropout_rate)[
            1
        ]

    replicated, by_batch = jax_sharding_utils.get_replicate_sharding(), jax_sharding_utils.get_batch_dim_sharding()
    return jax.jit(
        forward,
        static_argnames="workload",
        in_shardings=(replicated, replicated, replicated, by_batch, replicated, replicated),
        out_shardings=replicated,
    )
