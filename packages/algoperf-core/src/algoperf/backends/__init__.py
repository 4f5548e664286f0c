"""What a trial needs from a framework, as one abstract class; one file per framework implements it."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any, NamedTuple

from algoperf.data.batches import Shards
from algoperf.spec import Framework, OptimizerState, RandomState

IMPLEMENTATIONS = {
    Framework.JAX: "algoperf.backends.jax:JaxBackend",
    Framework.PYTORCH: "algoperf.backends.pytorch:TorchBackend",
}


class StepKeys(NamedTuple):
    """Randomness of one step: for data selection, the update, `prepare_for_eval` and the evaluation."""

    data: RandomState
    update: RandomState
    prepare: RandomState
    evaluate: RandomState


class Backend(abc.ABC):
    """The devices of this process, and how state and randomness live on them. One per process and trial."""

    framework: Framework

    @property
    @abc.abstractmethod
    def shards(self) -> Shards:
        """How many devices share a global batch, and which of them this process feeds."""

    @property
    @abc.abstractmethod
    def is_main(self) -> bool:
        """Whether this process writes what the trial leaves on disk."""

    @abc.abstractmethod
    def key(self, *name: int | str) -> RandomState:
        """A random key that depends on `name` alone (stable over processes and machines)."""

    @abc.abstractmethod
    def begin_step(self, seed: int, step: int) -> StepKeys:
        """The keys of one step; makes everything random in it a function of the two arguments."""

    @abc.abstractmethod
    def place_state(self, state: Any) -> Any:
        """State as the first step shall find it: on the devices, in its final sharding, sharing no buffer."""

    @abc.abstractmethod
    def place_batch(self, batch: Any) -> Any:
        """A batch of this process's shards (numpy) on the devices, without waiting for the copy."""

    @abc.abstractmethod
    def wait(self, *state: Any) -> None:
        """Returns when the devices have finished all work that `state` and anything before it needs."""

    @abc.abstractmethod
    def latest(self, seconds: float) -> float:
        """The largest of the processes' values. A collective call."""

    @abc.abstractmethod
    def gather(self, outputs: list[Any]) -> list[Any]:
        """The lists of all processes, joined in the order of their shards. A collective call."""

    @abc.abstractmethod
    def to_host(self, output: Any) -> Any:
        """The same tree with numpy arrays as leaves."""

    @abc.abstractmethod
    def all_finite(self, params: Any) -> bool:
        """Whether every parameter is a finite number."""

    @abc.abstractmethod
    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an exception means that a device had no memory left."""

    @abc.abstractmethod
    def hardware(self) -> dict[str, Any]:
        """What the devices are, and the framework's version, for the records."""

    # What a checkpoint needs: see algoperf.checkpoint.

    @abc.abstractmethod
    def dump_leaf(self, leaf: Any) -> tuple[str, Any, Any] | None:
        """A leaf of the state as `(kind, numpy array, note)`; None for what is no leaf of this framework."""

    @abc.abstractmethod
    def load_leaf(self, kind: str, array: Any, note: Any, template: Any) -> Any:
        """The inverse of `dump_leaf`; `template` is the leaf that a fresh start has in the same place, or None."""

    @abc.abstractmethod
    def dump_node(self, node: Any) -> tuple[Any, Sequence[Any]] | None:
        """A container of a type that only the framework knows, as `(plain data, children)`; None if it is none."""

    @abc.abstractmethod
    def load_node(self, cls: type, data: Any, children: Sequence[Any], template: Any) -> Any:
        """The inverse of `dump_node`."""

    @abc.abstractmethod
    def load_params(self, params: Any, template: Any) -> Any:
        """Restored parameters as the container that `template` (a fresh start's parameters) is."""

    @abc.abstractmethod
    def dump_params(self, params: Any) -> Any:
        """Parameters as a tree of leaves."""

    def restore_optimizer_state(self, state: OptimizerState) -> OptimizerState:
        """Places a restored optimizer state on the devices."""
        return self.place_state(state)


def load(framework: Framework) -> Backend:
    """The backend of a framework. Raises ImportError, naming the command to run, if it is not installed."""
    try:
        backend: Backend = resolve_name(IMPLEMENTATIONS[framework])()
    except ModuleNotFoundError as error:
        if error.name not in ("jax", "jaxlib", "torch"):
            raise
        raise ImportError(
            f"{framework.value} is not installed; install it with "
            f"`uv pip install 'algoperf-core[{framework.value}]'`.",
            name=error.name,
        ) from error
    return backend
