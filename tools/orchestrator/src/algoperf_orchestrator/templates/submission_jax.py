"""AdamW with a warm-up and a cosine decay: a place to start from.

The functions are called by the harness, by these names and arguments; `docs/writing-a-submission.md` of the benchmark
says when. All but `get_batch_size` and `init_optimizer_state` are timed, the compilation of their steps included.

Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
"""

import functools
from typing import Any, NamedTuple

import jax
import optax

from algoperf import jax_sharding_utils, spec


class Hyperparameters(NamedTuple):
    """What the optimizer is set by.

    In external tuning the harness gives a named tuple with the names of `tuning_search_space.json`; in self-tuning it
    gives None, and these values are used.
    """

    learning_rate: float = 1e-3
    one_minus_beta1: float = 0.1
    beta2: float = 0.999
    weight_decay: float = 0.01
    warmup_factor: float = 0.05


def get_batch_size(workload_name: str) -> int:
    """The training batch size over all devices, at full scale; mini workloads bring theirs.

    It is asked for the workload's name and then, after an error, for that of the workload it is a variant of.
    """
    return {
        "criteo1tb": 262_144,
        "fastmri": 32,
        "finewebedu_lm": 64,
        "imagenet_resnet": 1024,
        "imagenet_vit": 1024,
        "librispeech_conformer": 256,
        "librispeech_deepspeech": 256,
        "ogbg": 512,
        "wmt": 128,
    }[workload_name]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters | None,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """The first optimizer state and the function that updates it; both are handed to `update_params`."""
    point = hyperparameters or Hyperparameters()
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=point.learning_rate,
        warmup_steps=int(point.warmup_factor * workload.step_hint),
        decay_steps=workload.step_hint,
    )
    optimizer = optax.adamw(schedule, b1=1.0 - point.one_minus_beta1, b2=point.beta2, weight_decay=point.weight_decay)
    return jax_sharding_utils.replicate(optimizer.init(model_params)), optimizer.update


def data_selection(
    workload: spec.Workload,
    input_queue: Any,
    optimizer_state: spec.OptimizerState,
    current_param_container: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters | None,
    global_step: int,
    rng: spec.RandomState,
) -> dict[str, spec.Tensor]:
    """The batch to train on; the queue never ends."""
    return next(input_queue)


def update_params(
    workload: spec.Workload,
    current_param_container: spec.ParameterContainer,
    current_params_types: spec.ParameterTypeTree,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters | None,
    batch: dict[str, spec.Tensor],
    loss_type: spec.LossType,
    optimizer_state: spec.OptimizerState,
    eval_results: list[tuple[int, dict[str, float]]],
    global_step: int,
    rng: spec.RandomState,
    train_state: Any = None,
) -> spec.UpdateReturn:
    """One step. Raise `spec.TrainingCompleteError` to end the training."""
    state, update = optimizer_state
    state, params, model_state, loss = compiled_step(workload, update)(
        state, current_param_container, model_state, batch, rng
    )
    if workload.metrics_logger is not None and global_step % 100 == 0:
        workload.metrics_logger.append_scalar_metrics({"loss": loss}, global_step)
    return (state, update), params, model_state


@functools.cache
def compiled_step(workload: spec.Workload, update: Any) -> Any:
    """`step` over all devices, made once: state is copied to each of them, batches are divided among them."""
    everywhere = jax_sharding_utils.get_replicate_sharding()
    divided = jax_sharding_utils.get_batch_dim_sharding()
    return jax.jit(
        functools.partial(step, workload, update),
        donate_argnums=(0, 1, 2),
        in_shardings=(everywhere, everywhere, everywhere, divided, everywhere),
        out_shardings=everywhere,
    )


def step(workload: spec.Workload, update: Any, state: Any, params: Any, model_state: Any, batch: Any, rng: Any) -> Any:
    """The new state, parameters and model state, and the mean loss over the valid examples of all devices."""

    def mean_loss(params: Any) -> Any:
        logits, new_model_state = workload.model_fn(
            params, batch, model_state, spec.ForwardPassMode.TRAIN, rng, update_batch_norm=True
        )
        loss = workload.loss_fn(batch["targets"], logits, batch.get("weights"))
        return loss["summed"] / loss["n_valid_examples"], new_model_state

    (loss, model_state), grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
    updates, state = update(grads, state, params)
    return state, optax.apply_updates(params, updates), model_state, loss


def prepare_for_eval(
    workload: spec.Workload,
    current_param_container: spec.ParameterContainer,
    current_params_types: spec.ParameterTypeTree,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters | None,
    loss_type: spec.LossType,
    optimizer_state: spec.OptimizerState,
    eval_results: list[tuple[int, dict[str, float]]],
    global_step: int,
    rng: spec.RandomState,
) -> spec.UpdateReturn:
    """What to evaluate, and to go on with; leave it out if that is what `update_params` returned."""
    return optimizer_state, current_param_container, model_state
