"""SGD with momentum in the public API, for tests of the harness."""

import functools

import jax
import optax

from algoperf import jax_sharding_utils, spec


def get_batch_size(workload_name):
    return {"toy": 32}[workload_name]


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    optimizer = optax.sgd(getattr(hyperparameters, "learning_rate", 0.05), momentum=0.9)
    return optimizer.init(model_params), optimizer.update


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def _train_step(workload, update, params, state, batch, rng):
    def loss_fn(params):
        logits, _ = workload.model_fn(params, batch, None, spec.ForwardPassMode.TRAIN, rng, update_batch_norm=True)
        loss = workload.loss_fn(label_batch=batch["targets"], logits_batch=logits, mask_batch=batch.get("weights"))
        return loss["summed"] / loss["n_valid_examples"]

    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, state = update(grads, state, params)
    return optax.apply_updates(params, updates), state, loss


def update_params(
    workload: spec.Workload,
    current_param_container: spec.ParameterContainer,
    current_params_types: spec.ParameterTypeTree,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    batch: dict[str, spec.Tensor],
    loss_type: spec.LossType,
    optimizer_state: spec.OptimizerState,
    eval_results: list,
    global_step: int,
    rng: spec.RandomState,
    train_state=None,
) -> spec.UpdateReturn:
    state, update = optimizer_state
    batch = {name: jax.device_put(leaf, jax_sharding_utils.get_batch_dim_sharding()) for name, leaf in batch.items()}
    params, state, loss = _train_step(workload, update, current_param_container, state, batch, rng)
    workload.metrics_logger.append_scalar_metrics({"loss": loss}, global_step)
    return (state, update), params, model_state


def data_selection(
    workload, input_queue, optimizer_state, current_param_container, model_state, hyperparameters, global_step, rng
):
    return next(input_queue)
