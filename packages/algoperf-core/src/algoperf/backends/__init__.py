"""What a trial needs from a framework, as one abstract class; one file per framework implements it."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any

import numpy as np

from algoperf.data.batches import Shards
from algoperf.spec import Framework

IMPLEMENTATIONS = {
    Framework.JAX: "algoperf.backends.jax:JaxBackend",
    Framework.PYTORCH: "algoperf.backends.pytorch:TorchBackend",
}


class Backend(abc.ABC):
    """The devices of this process, and how state lives on them. One per process and trial.

    Attributes:
        framework: of the arrays.
        params_type: of what parameters come in.
    """

    framework: Framework
    params_type: type

    @property
    @abc.abstractmethod
    def shards(self) -> Shards:
        """How many devices share a global batch, and which of them this process feeds."""

    @property
    @abc.abstractmethod
    def rank(self) -> int:
        """This process's number among those of the trial; process 0 writes what the trial leaves on disk."""

    @property
    @abc.abstractmethod
    def num_processes(self) -> int:
        """How many processes run the trial."""

    @abc.abstractmethod
    def begin_step(self, seed: int, step: int) -> None:
        """Makes the framework's own randomness in this step a function of the two arguments."""

    @abc.abstractmethod
    def place_state(self, state: Any) -> Any:
        """State as the first step shall find it: on the devices, in its final sharding, sharing no buffer."""

    @abc.abstractmethod
    def place_batch(self, batch: Any) -> Any:
        """A batch of this process's shards (numpy) on the devices, without waiting for the copy."""

    @abc.abstractmethod
    def wait(self, *state: Any) -> None:
        """Returns when all devices of all processes have done the work that `state` and anything before it needs."""

    @abc.abstractmethod
    def latest(self, seconds: float) -> float:
        """The largest of the processes' values. A collective call."""

    @abc.abstractmethod
    def gather(self, outputs: list[Any]) -> list[Any]:
        """The lists of all processes, joined in the order of their ranks. A collective call."""

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
    def is_lost_device(self, error: BaseException) -> bool:
        """Whether an exception means that a device or another process of the trial is gone."""

    @abc.abstractmethod
    def hardware(self) -> dict[str, Any]:
        """What the devices are, and the framework's version, for the records."""

    # What `algoperf.checkpoint` needs to take a state apart and to put it together again.

    @abc.abstractmethod
    def dump_leaf(self, leaf: Any) -> tuple[np.ndarray, Any] | None:
        """A tensor of this framework as `(array, note)`, the note being plain data; None for anything else."""

    @abc.abstractmethod
    def load_leaf(self, array: np.ndarray, note: Any, template: Any) -> Any:
        """The inverse of `dump_leaf`; `template` is what a fresh start has in the same place, or None."""

    @abc.abstractmethod
    def unwrapped(self, value: Any) -> Any:
        """What a checkpoint keeps of an object with a `state_dict`: a model without what divides it among processes."""

    @abc.abstractmethod
    def dump_node(self, node: Any) -> tuple[Sequence[Any], Any] | None:
        """A container that only the framework can take apart, as `(children, plain data)`; None for anything else."""

    @abc.abstractmethod
    def load_node(self, cls: type, children: Sequence[Any], data: Any) -> Any:
        """The inverse of `dump_node`."""


def load(framework: Framework) -> Backend:
    """The backend of a framework. Raises ImportError, naming the command to run, if it is not installed."""
    try:
        backend: Backend = resolve_name(IMPLEMENTATIONS[framework])()
    except ModuleNotFoundError as error:
        if error.name not in ("jax", "jaxlib", "torch"):
            raise
        raise ImportError(
            f"{framework.value} is not installed; install it with `uv pip install 'algoperf-core[{framework.value}]'`.",
            name=error.name,
        ) from error
    return backend
