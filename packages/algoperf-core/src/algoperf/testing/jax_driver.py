"""What the kit does with parameters in JAX."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np

from algoperf.spec import ForwardPassMode
from algoperf.testing.drivers import LEARNING_RATE, MOMENTUM, Arrays, Driver
from algoperf.workload import Workload

_COMPILED = "/jax/core/compile/backend_compile_duration"


class JaxDriver(Driver):
    """Everything compiled, as submissions do it."""

    def named_leaves(self, tree: Any) -> dict[str, Any]:
        """Names are paths in the nested dicts, joined by "/"."""
        return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}

    def with_arrays(self, params: Any, arrays: Mapping[str, np.ndarray]) -> Any:
        """Puts each array where the old one was."""

        def replace(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
            array = arrays[_name(path)]
            assert array.shape == leaf.shape, f"{_name(path)} has the shape {leaf.shape}, not {array.shape}."
            return jax.device_put(array, leaf.sharding)

        return jax.tree_util.tree_map_with_path(replace, params)

    def logits(
        self,
        state: tuple[Any, Any],
        batch: Any,
        mode: ForwardPassMode,
        rng: np.ndarray,
        dropout_rate: float | None = None,
    ) -> Any:
        """Compiled; the dropout rate is traced."""
        return jax.device_get(_logits(self.workload, mode, state, batch, rng, dropout_rate))

    def loss_and_gradients(self, state: tuple[Any, Any], batch: Any, rng: np.ndarray) -> tuple[float, Arrays]:
        """Compiled."""
        loss, gradients = _loss_and_gradients(self.workload, state, batch, rng)
        return float(loss), self.arrays(gradients)

    def train(self, state: tuple[Any, Any], batches: Sequence[Any], rng: np.ndarray) -> Iterator[None]:
        """One compiled step per batch, which donates its state."""
        # Other tests go on with this state.
        params, model_state = jax.tree.map(jnp.copy, state)
        # Plain arrays, as an optimizer's `init` returns them.
        velocity = jax.tree.map(jnp.zeros_like, params)
        training = self.workload.backend.place_state((params, velocity, model_state))
        for batch in batches:
            training = _train_step(self.workload, training, batch, rng)
            jax.block_until_ready(training)
            yield

    @contextmanager
    def compilations(self) -> Iterator[list[str]]:
        """JAX's own event of a compilation, once for each."""
        compiled: list[str] = []

        def listen(event: str, duration_s: float, **facts: Any) -> None:
            if event == _COMPILED:
                compiled.append(str(facts.get("fun_name", event)))

        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            yield compiled
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(key.key for key in path)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _logits(workload: Workload, mode: ForwardPassMode, state: Any, batch: Any, rng: Any, dropout_rate: Any) -> Any:
    params, model_state = state
    return workload.model_fn(params, batch, model_state, mode, rng, False, dropout_rate)[0]


def _mean_loss(params: Any, workload: Workload, model_state: Any, batch: Any, rng: Any) -> Any:
    logits, model_state = workload.model_fn(
        params, batch, model_state, ForwardPassMode.TRAIN, rng, update_batch_norm=True, dropout_rate=0.0
    )
    loss = workload.loss_fn(batch["targets"], logits, batch.get("weights"))
    return loss["summed"] / loss["n_valid_examples"], model_state


@functools.partial(jax.jit, static_argnums=0)
def _loss_and_gradients(workload: Workload, state: Any, batch: Any, rng: Any) -> tuple[Any, Any]:
    params, model_state = state
    function = jax.value_and_grad(_mean_loss, has_aux=True)
    (loss, _), gradients = function(params, workload, model_state, batch, rng)
    return loss, gradients


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _train_step(workload: Workload, training: Any, batch: Any, rng: Any) -> Any:
    params, velocity, model_state = training
    gradients, model_state = jax.grad(_mean_loss, has_aux=True)(params, workload, model_state, batch, rng)
    velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, gradients)
    params = jax.tree.map(lambda p, v: p - LEARNING_RATE * v, params, velocity)
    return params, velocity, model_state
