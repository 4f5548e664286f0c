"""Batches as a function of a position, and what a workload's data set has to offer."""

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from algoperf.data._grain import grain
from algoperf.data.order import ShuffledOrder
from algoperf.data.padding import pad_batch
from algoperf.spec import Split

Batch = dict[str, Any]


@dataclass(frozen=True)
class Shards:
    """How a global batch is divided: over `total` devices, of which this process feeds those in `local`."""

    total: int = 1
    local: range = range(1)

    def slices(self, global_batch_size: int) -> slice:
        """This process's part of a global batch, of which each device has an equal, contiguous part."""
        size = global_batch_size // self.total
        return slice(self.local.start * size, self.local.stop * size)


class Batches(grain.IterDataset):
    """A grain data set over `read(position) -> (batch, next position)`; `read` returns None at the end."""

    def __init__(self, read: Callable[[int], tuple[Batch, int] | None]) -> None:
        super().__init__()
        self._read = read

    def __iter__(self) -> "_BatchIterator":
        return _BatchIterator(self._read)


class _BatchIterator(grain.DatasetIterator):
    def __init__(self, read: Callable[[int], tuple[Batch, int] | None]) -> None:
        super().__init__()
        self._read = read
        self._position = 0

    def __next__(self) -> Batch:
        result = self._read(self._position)
        if result is None:
            raise StopIteration
        batch, self._position = result
        return batch

    def get_state(self) -> dict[str, int]:
        return {"position": self._position}

    def set_state(self, state: Mapping[str, int]) -> None:
        self._position = int(state["position"])


class Dataset(abc.ABC):
    """The prepared data of a workload, as numpy batches. Framework-free: both frameworks read this one."""

    @abc.abstractmethod
    def train(self, global_batch_size: int, shards: Shards, seed: int) -> grain.IterDataset:
        """Endless shuffled batches of the training split; the local shards' part of each global batch."""

    @abc.abstractmethod
    def num_stored(self, split: Split) -> int:
        """How many examples the stored split has; of `EVAL_TRAIN`, the training split."""

    @abc.abstractmethod
    def evaluation(self, split: Split, global_batch_size: int, shards: Shards) -> grain.IterDataset:
        """Every example of a split once, in stored order, the last batch padded; the local shards' part."""


def array_batches(
    load: Callable[[np.ndarray, np.ndarray], Batch],
    num_examples: int,
    global_batch_size: int,
    shards: Shards,
    seed: int | None = None,
) -> Batches:
    """Batches of examples that each take up one place in arrays of fixed shape.

    Args:
        load: `(indices, positions) -> batch` of those examples. The positions in the order, int64, are for
            augmentation: what is drawn for an example may depend on the seed and its position alone, so that it
            does not depend on how a batch is divided among devices.
        num_examples: examples that there are.
        global_batch_size: examples per batch, over all devices.
        shards: which part of it to load.
        seed: shuffles endlessly; None reads each example once, in order, and pads the last batch.
    """
    part = shards.slices(global_batch_size)
    order = None if seed is None else ShuffledOrder(num_examples, seed)

    def read_training(position: int) -> tuple[Batch, int]:
        assert order is not None
        positions = np.arange(position, position + global_batch_size)
        indices = order.take(position, global_batch_size)
        return load(indices[part], positions[part]), position + global_batch_size

    def read_evaluation(position: int) -> tuple[Batch, int] | None:
        if position >= num_examples:
            return None
        end = min(position + global_batch_size, num_examples)
        indices = np.arange(position, end)[part]
        return pad_batch(load(indices, indices), part.stop - part.start), end

    return Batches(read_evaluation if order is None else read_training)
