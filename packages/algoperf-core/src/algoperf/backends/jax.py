"""Everything that JAX workloads have in common: devices, shardings, parameters, compiled evaluation.

One process drives all its devices. A batch is divided along its first axis over the mesh axis "batch"; everything
else is replicated.
"""

import abc
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import PyTreeDef, default_registry

from algoperf.backends import Backend
from algoperf.data.batches import Shards
from algoperf.seeds import random_key
from algoperf.spec import (
    ForwardPassMode,
    Framework,
    LossType,
    ModelAuxiliaryState,
    ModelInitState,
    ParameterType,
    RandomState,
    ShapeTuple,
)
from algoperf.workload import EvalOutput, Workload


@lru_cache(maxsize=1)
def mesh() -> Mesh:
    """All devices, along one axis named "batch"."""
    return Mesh(jax.devices(), ("batch",))


def replicated() -> NamedSharding:
    """The sharding of state: a copy on every device."""
    return NamedSharding(mesh(), PartitionSpec())


def by_batch() -> NamedSharding:
    """The sharding of batches: the first axis divided over the devices."""
    return NamedSharding(mesh(), PartitionSpec("batch"))


class JaxBackend(Backend):
    """The JAX devices of this process."""

    framework = Framework.JAX
    params_type = Mapping

    @property
    def shards(self) -> Shards:
        """One shard per device."""
        return Shards(mesh().size, range(mesh().size))

    @property
    def rank(self) -> int:
        """Always 0: one process drives all devices."""
        return 0

    @property
    def num_processes(self) -> int:
        """Always 1."""
        return 1

    def begin_step(self, seed: int, step: int) -> None:
        """Nothing to do: in JAX, randomness is in the keys alone."""

    def place_state(self, state: Any) -> Any:
        """`state` with every array in its final sharding and in a buffer of its own.

        A state of plain arrays would cost the first step a compilation of its own; and it may hold one buffer twice (an
        average that starts as the parameters), which cannot be donated. Other arrays are left where they are: a large
        model has no room for a second copy.
        """
        taken: set[int] = set()

        def place(leaf: Any) -> Any:
            if not isinstance(leaf, jax.Array):
                return leaf
            is_placed = isinstance(leaf.sharding, NamedSharding) and leaf.sharding.mesh == mesh()
            buffers = _buffers(leaf)
            if is_placed and buffers and not buffers & taken:
                taken.update(buffers)
                return leaf
            return jax.device_put(jnp.copy(leaf), leaf.sharding if is_placed else replicated())

        return jax.tree.map(place, state)

    def place_batch(self, batch: Any) -> Any:
        """Divides every array of the batch along its first axis over the devices."""
        return jax.device_put(batch, by_batch())

    def wait(self, *state: Any) -> None:
        """Waits for all arrays that are alive, wherever a submission keeps them, and for side effects."""
        jax.block_until_ready([array for array in jax.live_arrays() if not array.is_deleted()])
        jax.effects_barrier()

    def latest(self, seconds: float) -> float:
        """The value itself: there is one process."""
        return seconds

    def gather(self, outputs: list[Any]) -> list[Any]:
        """The list itself: there is one process."""
        return outputs

    def to_host(self, output: Any) -> Any:
        """Copies arrays to the host."""
        return jax.device_get(output)

    def all_finite(self, params: Any) -> bool:
        """Whether every parameter is a finite number."""
        return bool(_all_finite(params))

    def is_lost_device(self, error: BaseException) -> bool:
        """Whether XLA says that a device or another process is gone."""
        return isinstance(error, jax.errors.JaxRuntimeError) and "UNAVAILABLE" in str(error)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether XLA says that memory was exhausted."""
        return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)

    def hardware(self) -> dict[str, Any]:
        """Platform, kind and number of devices, and JAX's version."""
        devices = jax.devices()
        return {
            "framework_version": jax.__version__,
            "device_platform": devices[0].platform,
            "device_kind": devices[0].device_kind,
            "device_count": len(devices),
        }

    def dump_leaf(self, leaf: Any) -> tuple[np.ndarray, Any] | None:
        """A JAX array; the note holds the implementation of a typed random key."""
        if not isinstance(leaf, jax.Array):
            return None
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return np.asarray(jax.random.key_data(leaf)), str(jax.random.key_impl(leaf))
        return np.asarray(leaf), None

    def load_leaf(self, array: np.ndarray, note: Any, template: Any) -> Any:
        """Puts an array where the template is, or on all devices."""
        same = isinstance(template, jax.Array) and template.shape == array.shape and note is None
        placed = jax.device_put(array, template.sharding if same else replicated())
        # device_put may borrow the host's memory, which must not be donated to a step.
        placed = jnp.copy(placed)
        return placed if note is None else jax.random.wrap_key_data(placed, impl=note)

    def unwrapped(self, value: Any) -> Any:
        """The object: JAX wraps nothing."""
        return value

    def dump_node(self, node: Any) -> tuple[Sequence[Any], Any] | None:
        """Takes apart a registered pytree node."""
        taken_apart: tuple[Sequence[Any], Any] | None = default_registry.flatten_one_level(node)
        return taken_apart

    def load_node(self, cls: type, children: Sequence[Any], data: Any) -> Any:
        """Puts a registered pytree node together."""
        leaves = [jax.tree.structure(0)] * len(children)
        structure = PyTreeDef.from_node_data_and_children(default_registry, (cls, data), leaves)
        return structure.unflatten(children)


def _buffers(array: jax.Array) -> set[int]:
    """Where an array is in the memory of this process's devices; empty for typed random keys, which do not say it."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return set()
    return {shard.data.unsafe_buffer_pointer() for shard in array.addressable_shards}


@jax.jit
def _all_finite(params: Any) -> jax.Array:
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]))


class JaxWorkload(Workload):
    """A workload in JAX. Hash and equality are by identity: `jax.jit` takes it as a static argument."""

    framework = Framework.JAX

    @abc.abstractmethod
    def init_variables(self, rng: RandomState) -> ModelInitState:
        """Fresh parameters (nested dicts) and model state; traceable."""

    @abc.abstractmethod
    def parameter_type(self, path: tuple[str, ...]) -> ParameterType:
        """What the parameter at `path` of the nested dicts is for."""

    def init_model_fn(self, rng: RandomState) -> ModelInitState:
        """Fresh parameters and model state, replicated over the devices."""
        params, model_state = jax.jit(self.init_variables, out_shardings=replicated())(rng)
        return params, model_state

    @cached_property
    def _abstract_params(self) -> Any:
        return jax.eval_shape(self.init_variables, random_key(0))[0]

    @property
    def param_shapes(self) -> Any:
        """The parameters' tree with a `ShapeTuple` for each."""
        return jax.tree.map(lambda leaf: ShapeTuple(leaf.shape), self._abstract_params)

    @property
    def model_params_types(self) -> Any:
        """The parameters' tree with a `ParameterType` for each."""
        return jax.tree_util.tree_map_with_path(
            lambda path, _: self.parameter_type(_names(path)), self._abstract_params
        )

    def parameters(self) -> list[dict[str, Any]]:
        """`name`, `shape`, `dtype` and `type` of every parameter, without making one."""
        leaves = jax.tree_util.tree_leaves_with_path(self._abstract_params)
        return [
            {
                "name": "/".join(_names(path)),
                "shape": list(leaf.shape),
                "dtype": leaf.dtype.name,
                "type": self.parameter_type(_names(path)).name,
            }
            for path, leaf in leaves
        ]

    @cached_property
    def _compiled_eval_step(self) -> Any:
        return jax.jit(self.eval_step)

    def compiled_eval_step(
        self, params: Any, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
    ) -> EvalOutput:
        """`eval_step`, compiled once."""
        output: EvalOutput = self._compiled_eval_step(params, model_state, batch, rng)
        return output

    def predict(self, params: Any, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState) -> Any:
        """Logits, compiled for this call."""

        def forward(params: Any, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState) -> Any:
            mode = ForwardPassMode.EVAL
            return self.model_fn(params, batch, model_state, mode, rng, update_batch_norm=False)[0]

        return self.backend.to_host(jax.jit(forward)(params, model_state, batch, rng))

    def _activations(self) -> Mapping[LossType, Any]:
        return {
            LossType.SOFTMAX_CROSS_ENTROPY: lambda x: jax.nn.softmax(x, axis=-1),
            LossType.SIGMOID_CROSS_ENTROPY: jax.nn.sigmoid,
            LossType.MEAN_SQUARED_ERROR: lambda x: x,
            LossType.MEAN_ABSOLUTE_ERROR: lambda x: x,
            LossType.CTC_LOSS: lambda x: jax.nn.log_softmax(x, axis=-1),
        }


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(key.key for key in path)
