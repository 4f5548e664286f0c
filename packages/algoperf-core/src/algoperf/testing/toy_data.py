"""The toy workload's data set."""

from functools import lru_cache

import numpy as np

from algoperf.data import Batches, Dataset, Shards, array_batches
from algoperf.spec import Split, WorkloadSpec
from algoperf.testing.toy import points


class ToyDataset(Dataset):
    """Generated points, made once per split."""

    def __init__(self, spec: WorkloadSpec) -> None:
        self._spec = spec
        self._arrays = lru_cache(maxsize=None)(lambda split: points(spec, split, np.arange(spec.num_examples(split))))

    def _load(self, split: Split, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {name: array[indices] for name, array in self._arrays(split).items()}

    def train(self, global_batch_size: int, shards: Shards, seed: int) -> Batches:
        """Shuffled batches without weights."""
        return array_batches(
            lambda indices, positions: self._load(Split.TRAIN, indices),
            self._spec.num_train_examples,
            global_batch_size,
            shards,
            seed,
        )

    def num_stored(self, split: Split) -> int:
        """As many as the spec says."""
        return self._spec.num_examples(Split.TRAIN if split is Split.EVAL_TRAIN else split)

    def evaluation(self, split: Split, global_batch_size: int, shards: Shards) -> Batches:
        """Batches in order, the last one padded."""
        return array_batches(
            lambda indices, positions: self._load(split, indices),
            self._spec.num_examples(split),
            global_batch_size,
            shards,
        )
