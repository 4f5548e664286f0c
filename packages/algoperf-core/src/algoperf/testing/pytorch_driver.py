"""What the kit does with parameters in PyTorch."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import nn

from algoperf.spec import ForwardPassMode
from algoperf.testing.drivers import LEARNING_RATE, MOMENTUM, Arrays, Driver, nothing_compiled


class TorchDriver(Driver):
    """Everything eager, on copies of the module."""

    def named_leaves(self, tree: Any) -> dict[str, Any]:
        """Names are those of `named_parameters`; the workload's trees are dicts by name already."""
        return dict(tree.named_parameters()) if isinstance(tree, nn.Module) else dict(tree)

    def with_arrays(self, params: nn.Module, arrays: Mapping[str, np.ndarray]) -> nn.Module:
        """A copy of the module that holds these."""
        module = copy.deepcopy(params)
        for name, parameter in module.named_parameters():
            array = torch.from_numpy(np.array(arrays[name]))
            assert array.shape == parameter.shape, f"{name} has the shape {parameter.shape}, not {array.shape}."
            parameter.data.copy_(array)
        return module

    def logits(
        self,
        state: tuple[Any, Any],
        batch: Any,
        mode: ForwardPassMode,
        rng: np.ndarray,
        dropout_rate: float | None = None,
    ) -> Any:
        """Without gradients."""
        params, model_state = state
        with torch.no_grad():
            logits, _ = self.workload.model_fn(params, batch, model_state, mode, rng, False, dropout_rate)
        return self.workload.backend.to_host(logits)

    def loss_and_gradients(self, state: tuple[Any, Any], batch: Any, rng: np.ndarray) -> tuple[float, Arrays]:
        """By `torch.autograd`."""
        params = copy.deepcopy(state[0])
        loss = self._mean_loss(params, state[1], batch, rng)
        names, parameters = zip(*params.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, parameters)
        return loss.item(), self.arrays(dict(zip(names, gradients, strict=True)))

    def train(self, state: tuple[Any, Any], batches: Sequence[Any], rng: np.ndarray) -> Iterator[None]:
        """By `torch.optim.SGD`."""
        params = copy.deepcopy(state[0])
        optimizer = torch.optim.SGD(params.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
        for batch in batches:
            optimizer.zero_grad()
            self._mean_loss(params, state[1], batch, rng).backward()
            optimizer.step()
            yield

    def compilations(self) -> AbstractContextManager[list[str]]:
        """Nothing is compiled."""
        return nothing_compiled()

    def _mean_loss(self, params: nn.Module, model_state: Any, batch: Any, rng: np.ndarray) -> torch.Tensor:
        logits, _ = self.workload.model_fn(
            params, batch, model_state, ForwardPassMode.TRAIN, rng, update_batch_norm=True, dropout_rate=0.0
        )
        loss = self.workload.loss_fn(batch["targets"], logits, batch.get("weights"))
        mean: torch.Tensor = loss["summed"] / loss["n_valid_examples"]
        return mean
