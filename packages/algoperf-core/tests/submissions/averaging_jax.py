"""Averages its iterates, in the manner of schedule-free submissions: for tests of what those rely on.

State within state beside a flag; averages that begin as the very parameters; everything donated; a `jax.jit` made anew
in each step; traced rates, and None among the arguments; a forward pass outside `jit`; averages for evaluations.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from algoperf import jax_sharding_utils, spec

HPARAMS = {"learning_rate": 0.05, "label_smoothing": 0.1, "dropout_rate": 0.1, "grad_clip": None}
NUM_TRACES = 0


class AverageState(NamedTuple):
    average: spec.ParameterContainer
    count: jax.Array
    inner: optax.OptState


def get_batch_size(workload_name):
    if workload_name == "toy":
        return 32
    raise ValueError(f"Unsupported workload name: {workload_name}.")


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    del model_state, hyperparameters, rng
    optimizer = optax.sgd(HPARAMS["learning_rate"], momentum=0.9)
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape_tuple), workload.param_shapes)
    state = AverageState(average=model_params, count=jnp.zeros([], jnp.int32), inner=optimizer.init(zeros))
    return (state, True), optimizer.update


def train_step(
    workload, update, model_state, state, params, batch, rng, grad_clip, label_smoothing, dropout_rate
):  # fmt: skip
    global NUM_TRACES
    NUM_TRACES += 1

    def loss_fn(params):
        logits, new_model_state = workload.model_fn(
            params,
            batch,
            model_state,
            spec.ForwardPassMode.TRAIN,
            rng,
            update_batch_norm=True,
            dropout_rate=dropout_rate,
        )
        loss = workload.loss_fn(
            label_batch=batch["targets"],
            logits_batch=logits,
            mask_batch=batch.get("weights"),
            label_smoothing=label_smoothing,
            dropout_rate=dropout_rate,
        )
        return loss["summed"] / loss["n_valid_examples"], new_model_state

    (loss, model_state), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    if grad_clip is not None:
        grads, _ = optax.clip_by_global_norm(grad_clip).update(grads, optax.EmptyState())
    updates, inner = update(grads, state.inner, params)
    params = optax.apply_updates(params, updates)
    count = state.count + 1
    average = jax.tree.map(lambda a, p: a + (p - a) / count, state.average, params)
    return AverageState(average, count, inner), params, model_state, loss


def update_params(
    workload: spec.Workload,
    current_param_container: spec.ParameterContainer,
    current_params_types: spec.ParameterTypeTree,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    batch: dict[str, spec.Tensor],
    loss_type: spec.LossType,
    optimizer_state: spec.OptimizerState,
    eval_results: list[tuple[int, float]],
    global_step: int,
    rng: spec.RandomState,
) -> spec.UpdateReturn:
    del current_params_types, loss_type, eval_results, hyperparameters
    (state, is_training), update = optimizer_state
    everywhere, divided = jax_sharding_utils.get_replicate_sharding(), jax_sharding_utils.get_batch_dim_sharding()
    step = jax.jit(
        train_step,
        static_argnums=(0, 1),
        donate_argnums=(2, 3, 4),
        in_shardings=(everywhere, everywhere, everywhere, divided, everywhere, everywhere, everywhere, everywhere),
        out_shardings=everywhere,
    )
    rng, _ = jax.random.split(rng, 2)
    rates = (HPARAMS["grad_clip"], HPARAMS["label_smoothing"], HPARAMS["dropout_rate"])
    # As batches of other workloads do, with a key that holds nothing.
    state, params, model_state, loss = step(
        workload, update, model_state, state, current_param_container, {**batch, "weights": None}, rng, *rates
    )
    if global_step % 10 == 0:
        # Batch statistics of the averages, if there are any.
        _, model_state = workload.model_fn(
            state.average, batch, model_state, spec.ForwardPassMode.TRAIN, rng, update_batch_norm=False
        )
    if workload.metrics_logger is not None:
        workload.metrics_logger.append_scalar_metrics({"loss": loss, "rate": 0.05}, global_step)
    return ((state, is_training), update), params, model_state


@jax.jit
def swap(state, params):
    return state._replace(average=params), state.average


def prepare_for_eval(
    workload,
    current_param_container,
    current_params_types,
    model_state,
    hyperparameters,
    loss_type,
    optimizer_state,
    eval_results,
    global_step,
    rng,
):
    (state, is_training), update = optimizer_state
    prepare = jax.jit(swap, donate_argnums=(0, 1))
    state, params = prepare(state, current_param_container)
    return ((state, not is_training), update), params, model_state


def data_selection(
    workload, input_queue, optimizer_state, current_param_container, model_state, hyperparameters, global_step, rng
):
    del workload, optimizer_state, current_param_container, model_state, hyperparameters, global_step, rng
    return next(input_queue)
