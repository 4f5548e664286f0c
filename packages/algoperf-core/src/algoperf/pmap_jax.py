"""For submissions of the time of `jax.pmap`: today's trial as they knew it.

They expect a leading axis of devices: parameters and model state as one copy for each device, [D, ...], and batches
divided among them, [D, B / D, ...]; they return the same, and give their optimizer state such an axis themselves.
Evaluations and checkpoints take the parameters of the first device, and the mean over the devices of what batch
normalisation has seen, as the public benchmark did before each evaluation.

This is opt-in, because it costs time that today's submissions do not pay: a copy of the parameters around each
evaluation, and the division of each batch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from algoperf.backends.jax import by_batch, mesh, replicated
from algoperf.submission import Submission
from algoperf.workload import Workload


def adapt(submission: Submission) -> Submission:
    """A submission that was written for `jax.pmap`, in the layout of arrays that the harness has."""

    def init_optimizer_state(
        workload: Workload, model_params: Any, model_state: Any, hyperparameters: Any, rng: Any
    ) -> Any:
        params, model_state = copied_to_devices((model_params, model_state))
        state = submission.init_optimizer_state(workload, params, model_state, hyperparameters, rng)
        return jax.tree.map(_at_devices, state)

    def data_selection(workload: Workload, input_queue: Iterator[Any], *others: Any) -> Any:
        return submission.data_selection(workload, map(divided, input_queue), *others)

    def update_params(**arguments: Any) -> Any:
        return submission.update_params(**_with_device_axis(arguments))

    def prepare_for_eval(**arguments: Any) -> Any:
        arguments = _with_device_axis(arguments)
        names = ("optimizer_state", "current_param_container", "model_state")
        result: Any = tuple(arguments[name] for name in names)
        if submission.prepare_for_eval is not None:
            result = submission.prepare_for_eval(**arguments)
        state, params, model_state = result
        return state, *without_device_axis(params, model_state)

    return replace(
        submission,
        init_optimizer_state=init_optimizer_state,
        data_selection=data_selection,
        update_params=update_params,
        prepare_for_eval=prepare_for_eval,
    )


def _with_device_axis(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments whose parameters and model state have the leading axis: after an evaluation they lack it."""
    names = ("current_param_container", "model_state")
    both = tuple(arguments[name] for name in names)
    first = jax.tree.leaves(both)[0]
    if first.ndim == _num_axes(arguments["workload"]):
        both = copied_to_devices(both)
    elif first.sharding != by_batch():
        # As a checkpoint between two evaluations brings them.
        both = jax.device_put(both, by_batch())
    return arguments | dict(zip(names, both))


@functools.cache
def _num_axes(workload: Workload) -> int:
    return len(jax.tree.leaves(workload.param_shapes)[0].shape_tuple)


def _at_devices(leaf: Any) -> Any:
    """An array with a leading axis of devices, laid out along it; anything else as it is."""
    has_axis = isinstance(leaf, jax.Array) and leaf.ndim > 0 and leaf.shape[0] == mesh().size
    return jax.device_put(leaf, by_batch()) if has_axis else leaf


@functools.cache
def _compiled(function: Any, *, axis_of_devices: bool) -> Any:
    return jax.jit(function, out_shardings=by_batch() if axis_of_devices else replicated())


def copied_to_devices(tree: Any) -> Any:
    """Every array with a leading axis: a copy for each device."""
    return _compiled(_copies, axis_of_devices=True)(tree)


def without_device_axis(params: Any, model_state: Any) -> tuple[Any, Any]:
    """The parameters of the first device, and the mean of the model states of all."""
    result: tuple[Any, Any] = _compiled(_first_and_mean, axis_of_devices=False)(params, model_state)
    return result


def divided(batch: Any) -> Any:
    """A batch with every array [B, ...] as [D, B / D, ...]; graphs keep to their device's nodes."""
    return _compiled(_divided, axis_of_devices=True)(batch)


def _copies(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (mesh().size, *x.shape)), tree)


def _first_and_mean(params: Any, model_state: Any) -> tuple[Any, Any]:
    def mean(x: jax.Array) -> jax.Array:
        return x.mean(axis=0) if jnp.issubdtype(x.dtype, jnp.inexact) else x[0]

    return jax.tree.map(lambda x: x[0], params), jax.tree.map(mean, model_state)


def _divided(batch: Any) -> Any:
    return jax.tree.map(_divide, batch, is_leaf=_is_graph)


def _divide(leaf: Any) -> Any:
    if not _is_graph(leaf):
        return leaf.reshape(mesh().size, -1, *leaf.shape[1:])
    parts = type(leaf)(*(jax.tree.map(_divide, part) for part in leaf))
    # Each device has a block of the nodes, and its edges lie between them.
    num_nodes = jax.tree.leaves(parts.nodes)[0].shape[1]
    return parts._replace(senders=parts.senders % num_nodes, receivers=parts.receivers % num_nodes)


def _is_graph(value: Any) -> bool:
    """Whether it is a `jraph.GraphsTuple`."""
    return isinstance(value, tuple) and {"nodes", "senders", "receivers"} <= set(getattr(value, "_fields", ()))
