"""The data pipeline of the language model: sequences of tokens, and the same shifted by one."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from algoperf.data import Batches, DataError, Dataset, Shards, array_batches, fixed_subset
from algoperf.data.batches import Batch
from algoperf.spec import Split, WorkloadSpec
from algoperf_lm.store import load_sequences, token_files


class LmDataset(Dataset):
    """Sequences of tokens that do not overlap, as batches of token ids.

    A batch has `inputs` and `targets`, int32 [B, L]: the first and the last L tokens of sequences of L + 1. In
    evaluations it has `weights`, float32 [B, L]: 0 in rows of padding, whose tokens are 0 too, and 1 in others.

    Args:
        spec: the workload.
        sequences: of each split but EVAL_TRAIN, which is a part of TRAIN: [N, L + 1], uint16.
    """

    def __init__(self, spec: WorkloadSpec, sequences: Mapping[Split, np.ndarray]) -> None:
        self._spec = spec
        self._sequences = sequences

    def train(self, global_batch_size: int, shards: Shards, seed: int) -> Batches:
        """Endless batches of all training sequences, in an order of its own in each epoch; the local shards' part."""
        sequences = self._sequences[Split.TRAIN]

        def load(indices: np.ndarray, positions: np.ndarray) -> Batch:
            return self._batch(sequences, indices)

        return array_batches(load, len(sequences), global_batch_size, shards, seed)

    def evaluation(self, split: Split, global_batch_size: int, shards: Shards) -> Batches:
        """Each sequence of a split once, in stored order; of the training split those of a fixed subset."""
        sequences = self._stored(split)
        chosen = self._evaluated_training if split is Split.EVAL_TRAIN else np.arange(len(sequences))

        def load(indices: np.ndarray, positions: np.ndarray) -> Batch:
            return self._batch(sequences, chosen[indices])

        return array_batches(load, len(chosen), global_batch_size, shards)

    def num_stored(self, split: Split) -> int:
        """How many sequences the stored split has; of EVAL_TRAIN, the training split."""
        return len(self._stored(split))

    def _stored(self, split: Split) -> np.ndarray:
        return self._sequences[Split.TRAIN if split is Split.EVAL_TRAIN else split]

    @cached_property
    def _evaluated_training(self) -> np.ndarray:
        return fixed_subset(self.num_stored(Split.TRAIN), self._spec.num_eval_train_examples)

    def _batch(self, sequences: np.ndarray, indices: np.ndarray) -> Batch:
        rows = sequences.take(indices, axis=0)
        largest = int(rows.max(initial=0))
        if largest >= self._spec.dataset.options.vocab_size:
            raise DataError(
                f"Of the sequences {indices.min()} to {indices.max()}, one has the token {largest}, and the vocabulary "
                f"of {self._spec.name} has {self._spec.dataset.options.vocab_size}; prepare the data again."
            )
        return {"inputs": rows[:, :-1].astype(np.int32), "targets": rows[:, 1:].astype(np.int32)}


def open_dataset(spec: WorkloadSpec, folder: Path) -> LmDataset:
    """Opens prepared data. Raises DataError if a split is not the one that the workload says."""
    length = spec.dataset.options.length
    sequences = {Split(name): load_sequences(path, length) for name, path in token_files(folder).items()}
    sequences[Split.TEST] = np.empty((0, length + 1), np.uint16)
    for split, stored in sequences.items():
        if len(stored) != spec.num_examples(split):
            raise DataError(
                f"The {split} split in {folder} has {len(stored)} sequences of {length + 1} tokens instead of "
                f"{spec.num_examples(split)}; delete {folder} and prepare the data again."
            )
    return LmDataset(spec, sequences)
