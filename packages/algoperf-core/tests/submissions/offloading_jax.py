"""Keeps slow parameters on the host, in the manner of DiLoCo submissions: for tests of what those rely on.

A pytree node of its own with numpy leaves; None where there is something later; no update function; its own mesh;
parameters told apart by the names in their paths; a momentum of outer steps that evaluations see.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from algoperf import spec
from algoperf.jax_sharding_utils import replicate, shard_along_batch_dim

INNER = optax.multi_transform(
    {"output": optax.adam(0.01), "rest": optax.sgd(0.05, momentum=0.9)},
    lambda params: jax.tree_util.tree_map_with_path(
        lambda path, leaf: "output" if "output" in jax.tree_util.keystr(path).lower() and leaf.ndim >= 2 else "rest",
        params,
    ),
)
PERIOD = 5


@jax.tree_util.register_pytree_node_class
class CpuOffloaded:
    """Arrays that stay on the host."""

    def __init__(self, tree):
        self.tree = tree

    def tree_flatten(self):
        return (self.tree,), None

    @classmethod
    def tree_unflatten(cls, data, children):
        return cls(*children)


class State(NamedTuple):
    inner: optax.OptState
    slow: CpuOffloaded
    momentum: Any  # None until the first outer step.
    fast: Any  # The training parameters, while others are evaluated.


def get_batch_size(workload_name):
    return {"toy": 32}[workload_name]


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    return State(INNER.init(model_params), CpuOffloaded(jax.device_get(model_params)), None, None), None


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def inner_step(workload, inner, params, batch, rng):
    def loss_fn(params):
        logits, _ = workload.model_fn(params, batch, None, spec.ForwardPassMode.TRAIN, rng, update_batch_norm=True)
        return workload.loss_fn(batch["targets"], logits)["per_example"].mean()

    grads = jax.grad(loss_fn)(params)
    updates, inner = INNER.update(grads, inner, params)
    return inner, optax.apply_updates(params, updates)


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
    train_state=None,
):
    state, _ = optimizer_state
    params = current_param_container if state.fast is None else state.fast
    mesh = jax.sharding.Mesh(jax.devices(), ("batch"))
    batch = jax.device_put(
        shard_along_batch_dim(batch), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    )
    inner, params = inner_step(workload, state.inner, params, batch, rng)
    state = state._replace(inner=inner, fast=None)
    if (global_step + 1) % PERIOD == 0:
        moved = jax.tree.map(np.subtract, jax.device_get(params), state.slow.tree)
        momentum = moved if state.momentum is None else jax.tree.map(lambda m, d: 0.5 * m + d, state.momentum, moved)
        slow = jax.tree.map(np.add, state.slow.tree, momentum)
        params = replicate(slow)
        state = state._replace(slow=CpuOffloaded(slow), momentum=momentum)
    return (state, None), params, model_state


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
    state, _ = optimizer_state
    return (state._replace(fast=current_param_container), None), replicate(state.slow.tree), model_state


def data_selection(
    workload, input_queue, optimizer_state, current_param_container, model_state, hyperparameters, global_step, rng
):
    return next(input_queue)
