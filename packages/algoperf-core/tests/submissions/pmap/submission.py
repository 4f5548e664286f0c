"""SGD with momentum as it was written when the benchmark ran JAX by `jax.pmap`."""

import functools

import jax
import jax.numpy as jnp
import optax
from algorithmic_efficiency import spec
from jax import lax


def get_batch_size(workload_name):
    return {"toy": 32}[workload_name]


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    optimizer = optax.sgd(0.05, momentum=0.9)
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape_tuple), workload.param_shapes)
    state = optimizer.init(zeros)
    # As `flax.jax_utils.replicate` does it.
    return jax.tree.map(lambda x: jnp.stack([x] * jax.local_device_count()), state), optimizer.update


@functools.partial(
    jax.pmap,
    axis_name="batch",
    in_axes=(None, None, 0, 0, 0, 0, 0),
    static_broadcasted_argnums=(0, 1),
    donate_argnums=(2, 3, 4),
)
def pmapped_train_step(workload, update, model_state, optimizer_state, params, batch, rng):
    def loss_fn(params):
        logits, new_model_state = workload.model_fn(
            params, batch, model_state, spec.ForwardPassMode.TRAIN, rng, update_batch_norm=True
        )
        loss = workload.loss_fn(batch["targets"], logits, batch.get("weights"))
        return loss["summed"], (loss["n_valid_examples"], new_model_state)

    (summed, (count, model_state)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    summed, count, grads = lax.psum((summed, count, grads), axis_name="batch")
    grads = jax.tree.map(lambda g: g / count, grads)
    updates, optimizer_state = update(grads, optimizer_state, params)
    return model_state, optimizer_state, optax.apply_updates(params, updates), summed / count


def update_params(
    workload,
    current_param_container,
    current_params_types,
    model_state,
    hyperparameters,
    batch,
    loss_type,
    optimizer_state,
    eval_results,
    global_step,
    rng,
):
    state, update = optimizer_state
    rngs = jax.random.split(rng, jax.local_device_count())
    model_state, state, params, loss = pmapped_train_step(
        workload, update, model_state, state, current_param_container, batch, rngs
    )
    if workload.metrics_logger is not None:
        workload.metrics_logger.append_scalar_metrics({"loss": loss[0]}, global_step)
    return (state, update), params, model_state


def data_selection(
    workload, input_queue, optimizer_state, current_param_container, model_state, hyperparameters, global_step, rng
):
    return next(input_queue)
