"""The data pipeline of Criteo: stored rows to batches. Numpy only.

What is stored is what a model takes, so making a batch is copying its rows out of memory-mapped files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from algoperf.data import (
    Batches,
    BlockShuffledOrder,
    DataError,
    Dataset,
    Shards,
    array_batches,
    fixed_subset,
)
from algoperf.data.batches import Batch
from algoperf.spec import Split, WorkloadSpec
from algoperf_criteo.spec import NUM_COLUMNS, Shuffling
from algoperf_criteo.store import StoredRows, training_folders

# Rows that are read at a time: they are in the processor's cache when they are put in their order.
PIECE = 2**14


class Rows:
    """Stored rows, laid end to end.

    Args:
        parts: from 1 to 256.
    """

    def __init__(self, parts: Sequence[StoredRows]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def take(self, indices: np.ndarray) -> Batch:
        """Rows in the order of `indices` [B]: `inputs`, float32 [B, 39], and `targets`, float32 [B, 1]."""
        inputs = np.empty((len(indices), NUM_COLUMNS), np.float32)
        targets = np.empty((len(indices), 1), np.float32)
        for start in range(0, len(indices), PIECE):
            piece = slice(start, start + PIECE)
            self._take(indices[piece], inputs[piece], targets[piece])
        return {"inputs": inputs, "targets": targets}

    def _take(self, indices: np.ndarray, inputs: np.ndarray, targets: np.ndarray) -> None:
        """Reads rows from one part after the other, then puts them in the order of `indices`."""
        owners = np.searchsorted(self._ends, indices, side="right").astype(np.uint8)
        order = np.argsort(owners, kind="stable")
        found, labels = np.empty_like(inputs), np.empty(len(indices), np.uint8)
        start = 0
        for number, count in enumerate(np.bincount(owners).tolist()):
            part, places = self._parts[number], slice(start, start + count)
            rows = indices[order[places]] - (self._ends[number] - len(part))
            # In the usual mode, numpy would fill a copy of `out`.
            part.inputs.take(rows, axis=0, out=found[places], mode="clip")
            part.labels.take(rows, out=labels[places], mode="clip")
            start += count
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        found.take(back, axis=0, out=inputs, mode="clip")
        targets[:, 0] = labels.take(back)


class CriteoDataset(Dataset):
    """The rows of the click logs, or of the mini data.

    A batch is `inputs`, float32 [B, 39] (13 logarithms of integers, 26 ids of categories), and `targets`, float32
    [B, 1], 0 or 1; evaluation batches also have `weights`, float32 [B, 1].
    """

    def __init__(self, spec: WorkloadSpec, splits: Mapping[Split, Rows]) -> None:
        self._spec = spec
        self._shuffling: Shuffling = spec.dataset.options
        self._splits = splits

    def train(self, global_batch_size: int, shards: Shards, seed: int) -> Batches:
        """Endless shuffled batches; the local shards' part of each global batch."""
        rows = self._splits[Split.TRAIN]
        order = BlockShuffledOrder(len(rows), seed, self._shuffling.block, self._shuffling.window)
        part = shards.slices(global_batch_size)

        def read(position: int) -> tuple[Batch, int]:
            return rows.take(order.take(position, global_batch_size)[part]), position + global_batch_size

        return Batches(read)

    def evaluation(self, split: Split, global_batch_size: int, shards: Shards) -> Batches:
        """Each row of a split once, in stored order. What is looked at of the training rows is whole blocks."""
        if split is not Split.EVAL_TRAIN:
            rows = self._splits[split]
            return array_batches(lambda indices, _: rows.take(indices), len(rows), global_batch_size, shards)
        rows, block = self._splits[Split.TRAIN], self._shuffling.block
        number = self._spec.num_examples(split)
        # The last block may be shorter, so it is none of them.
        blocks = fixed_subset(len(rows) // block, -(-number // block))

        def load(indices: np.ndarray, _: np.ndarray) -> Batch:
            return rows.take(blocks[indices // block] * block + indices % block)

        return array_batches(load, number, global_batch_size, shards)

    def num_stored(self, split: Split) -> int:
        """How many rows the stored split has."""
        return len(self._splits[Split.TRAIN if split is Split.EVAL_TRAIN else split])


def open_dataset(spec: WorkloadSpec, folder: Path) -> CriteoDataset:
    """Opens prepared data. Raises DataError if a split has not as many rows as the workload says."""
    parts = {Split.TRAIN: training_folders(folder)}
    parts |= {split: [folder / split.value] for split in (Split.VALIDATION, Split.TEST)}
    splits = {split: Rows([StoredRows.load(part) for part in folders]) for split, folders in parts.items()}
    for split, rows in splits.items():
        if len(rows) != spec.num_examples(split):
            raise DataError(
                f"The {split} split in {folder} has {len(rows)} rows instead of {spec.num_examples(split)}; "
                f"delete {folder} and prepare the data again."
            )
    return CriteoDataset(spec, splits)
