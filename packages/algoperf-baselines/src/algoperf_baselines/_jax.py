"""What the baselines in JAX share: everything but the optimizer."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import optax

from algoperf import jax_sharding_utils, spec

__all__ = ["data_selection", "initial_state", "update_params", "warmup_cosine", "warmup_linear"]

LOG_PERIOD_STEPS = 100


def warmup_cosine(workload: spec.Workload, hyperparameters: spec.Hyperparameters) -> optax.Schedule:
    """The learning rate by step: linear from 0, then a cosine to 0 at the workload's step hint.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
    arXiv 1608.03983, equation 5, without restarts.
    """
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=hyperparameters.learning_rate,
        warmup_steps=int(hyperparameters.warmup_factor * workload.step_hint),
        decay_steps=workload.step_hint,
    )


def warmup_linear(workload: spec.Workload, hyperparameters: spec.Hyperparameters) -> optax.Schedule:
    """The learning rate by step: linear from 0, then linear to a part of the peak, where it stays.

    It comes to `end_factor` times the peak at `decay_steps_factor` times the workload's step hint.

    Source: arXiv 2306.07179, the baselines with momentum.
    """
    peak = hyperparameters.learning_rate
    warmup_steps = int(hyperparameters.warmup_factor * workload.step_hint)
    decay_steps = int(hyperparameters.decay_steps_factor * workload.step_hint) - warmup_steps
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    decay = optax.linear_schedule(peak, hyperparameters.end_factor * peak, decay_steps)
    return optax.join_schedules([warmup, decay], [warmup_steps])


def initial_state(
    optimizer: optax.GradientTransformation,
    model_params: spec.ParameterContainer,
    hyperparameters: spec.Hyperparameters,
    around: Callable[[optax.GradientTransformation], optax.GradientTransformation] = lambda optimizer: optimizer,
) -> spec.OptimizerState:
    """The first state of an optimizer, and its update function with `grad_clip` if there is one.

    `around` wraps an optimizer that is called more than once a step: the gradients that reach it are clipped.
    """
    grad_clip = getattr(hyperparameters, "grad_clip", None)
    if grad_clip is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(grad_clip), optimizer)
    optimizer = optax.with_extra_args_support(around(optimizer))
    return jax_sharding_utils.replicate(optimizer.init(model_params)), optimizer.update


def data_selection(
    workload: spec.Workload,
    input_queue: Iterator[dict[str, spec.Tensor]],
    optimizer_state: spec.OptimizerState,
    current_param_container: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    global_step: int,
    rng: spec.RandomState,
) -> dict[str, spec.Tensor]:
    """The next batch as it comes."""
    return next(input_queue)


def update_params(
    workload: spec.Workload,
    current_param_container: spec.ParameterContainer,
    current_params_types: spec.ParameterTypeTree,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    batch: dict[str, spec.Tensor],
    loss_type: spec.LossType,
    optimizer_state: spec.OptimizerState,
    eval_results: list[tuple[int, dict[str, float]]],
    global_step: int,
    rng: spec.RandomState,
    train_state: Mapping[str, Any] | None = None,
    update_batch_norm: bool = True,
) -> spec.UpdateReturn:
    """One step on the mean loss of the batch."""
    state, update = optimizer_state
    regularization = {
        "label_smoothing": getattr(hyperparameters, "label_smoothing", 0.0),
        "dropout_rate": getattr(hyperparameters, "dropout_rate", None),
    }
    (state, params, model_state), loss = compiled_train_step()(
        workload, update, (state, current_param_container, model_state), batch, rng, regularization, update_batch_norm
    )
    if workload.metrics_logger is not None and global_step % LOG_PERIOD_STEPS == 0:
        workload.metrics_logger.append_scalar_metrics({"loss": loss}, global_step)
    return (state, update), params, model_state


@functools.cache
def compiled_train_step() -> Callable[..., Any]:
    """`train_step` over all devices; the same function each time, so that it is compiled once."""
    replicated = jax_sharding_utils.get_replicate_sharding()
    by_batch = jax_sharding_utils.get_batch_dim_sharding()
    return jax.jit(
        train_step,
        static_argnames=("workload", "update", "update_batch_norm"),
        donate_argnames=("state",),
        in_shardings=(replicated, by_batch, replicated, replicated),
        out_shardings=replicated,
    )


def train_step(
    workload: spec.Workload,
    update: optax.TransformUpdateExtraArgsFn,
    state: tuple[spec.OptimizerState, spec.ParameterContainer, spec.ModelAuxiliaryState],
    batch: dict[str, spec.Tensor],
    rng: spec.RandomState,
    regularization: dict[str, Any],
    update_batch_norm: bool = True,
) -> tuple[tuple[Any, Any, Any], jax.Array]:
    """The new state and the loss, a float32 scalar: the mean over the examples on all devices.

    Args:
        workload: static.
        update: of the optimizer; static. It may call `grad_fn(params, i)` for the gradients of the same loss at other
            parameters, with the same dropout; these leave the statistics of batch norm alone.
        state: optimizer state, parameters and model state; donated.
        batch: the global batch.
        rng: randomness of dropout.
        regularization: `label_smoothing`, and `dropout_rate` or None for the workload's own.
        update_batch_norm: whether the statistics of batch norm move; static.
    """
    opt_state, params, model_state = state

    def mean_loss(
        params: spec.ParameterContainer, update_batch_norm: bool = update_batch_norm
    ) -> tuple[jax.Array, spec.ModelAuxiliaryState]:
        logits, new_model_state = workload.model_fn(
            params,
            batch,
            model_state,
            spec.ForwardPassMode.TRAIN,
            rng,
            update_batch_norm=update_batch_norm,
            dropout_rate=regularization["dropout_rate"],
        )
        loss = workload.loss_fn(
            label_batch=batch["targets"],
            logits_batch=logits,
            mask_batch=batch.get("weights"),
            label_smoothing=regularization["label_smoothing"],
        )
        return loss["summed"] / loss["n_valid_examples"], new_model_state

    def grad_fn(params: spec.ParameterContainer, _: int) -> optax.Updates:
        return jax.grad(mean_loss, has_aux=True)(params, update_batch_norm=False)[0]

    (loss, new_model_state), grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
    updates, opt_state = update(grads, opt_state, params, grad_fn=grad_fn)
    return (opt_state, optax.apply_updates(params, updates), new_model_state), loss
