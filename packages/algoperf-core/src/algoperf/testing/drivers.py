"""What the kit does with the parameters of a workload, as one abstract class; one file per framework implements it."""

import abc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pkgutil import resolve_name
from typing import Any

import numpy as np

from algoperf.spec import ForwardPassMode, Framework
from algoperf.workload import Workload

_IMPLEMENTATIONS = {
    Framework.JAX: "algoperf.testing.jax_driver:JaxDriver",
    Framework.PYTORCH: "algoperf.testing.pytorch_driver:TorchDriver",
}
MOMENTUM = 0.9
LEARNING_RATE = 1e-3

Arrays = dict[str, np.ndarray]


class Driver(abc.ABC):
    """Forward passes and training steps of one workload, with numpy at their ends."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    @abc.abstractmethod
    def named_leaves(self, tree: Any) -> dict[str, Any]:
        """The leaves of `param_shapes`, `model_params_types` or parameters, by the parameter's name."""

    @abc.abstractmethod
    def with_arrays(self, params: Any, arrays: Mapping[str, np.ndarray]) -> Any:
        """Parameters with these values instead; `params` stays as it is."""

    @abc.abstractmethod
    def logits(
        self,
        state: tuple[Any, Any],
        batch: Any,
        mode: ForwardPassMode,
        rng: np.ndarray,
        dropout_rate: float | None = None,
    ) -> Any:
        """Logits of `model_fn` as numpy; `state` is `(parameters, model state)`. In JAX the rate is traced."""

    @abc.abstractmethod
    def loss_and_gradients(self, state: tuple[Any, Any], batch: Any, rng: np.ndarray) -> tuple[float, Arrays]:
        """Mean training loss without dropout, and its gradients by the parameter's name."""

    @abc.abstractmethod
    def train(self, state: tuple[Any, Any], batches: Sequence[Any], rng: np.ndarray) -> Iterator[None]:
        """Takes one step of SGD with momentum per batch, on a copy of the state, and yields after each."""

    @abc.abstractmethod
    def compilations(self) -> AbstractContextManager[list[str]]:
        """Gathers what is compiled within; in PyTorch, which compiles nothing, the list stays empty."""

    def arrays(self, params: Any) -> Arrays:
        """The parameters as numpy, by name."""
        leaves: Arrays = self.workload.backend.to_host(self.named_leaves(params))
        # Copies, because PyTorch's share memory with the parameters.
        return {name: np.array(leaf) for name, leaf in leaves.items()}


def load(workload: Workload) -> Driver:
    """The driver of a workload's framework."""
    driver: Driver = resolve_name(_IMPLEMENTATIONS[workload.framework])(workload)
    return driver


@contextmanager
def nothing_compiled() -> Iterator[list[str]]:
    """An empty list."""
    yield []
