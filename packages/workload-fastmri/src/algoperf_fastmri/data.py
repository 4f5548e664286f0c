"""The data pipeline of fastMRI: stored measurements to batches of images. Numpy and scipy only.

Which columns of k-space are kept of a training slice depends on (seed, epoch, number of the slice) alone: not on the
batch it is in, nor on how many devices or threads there are.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np

from algoperf.data import Batches, DataError, Dataset, Shards, array_batches, fixed_subset
from algoperf.data.batches import Batch
from algoperf.data.processors import PipelineThreads
from algoperf.spec import Split, WorkloadSpec
from algoperf_fastmri.masks import evaluation_mask, training_mask
from algoperf_fastmri.reconstruction import normalise, zero_filled
from algoperf_fastmri.spec import Scans
from algoperf_fastmri.volumes import StoredSlices

STORED_SPLITS = (Split.TRAIN, Split.VALIDATION, Split.TEST)
# Slices that a thread takes at once.
_CHUNK = 4
# The columns to keep, of so many, of the slice in a row of the batch.
_Mask: TypeAlias = Callable[[int, int], np.ndarray]


class FastmriDataset(Dataset):
    """The slices of fastMRI, or of the mini data.

    A batch is `inputs` and `targets`, float32 [B, S, S], the zero-filled and the full image, both normalised as
    `algoperf_fastmri.reconstruction` says; `mean` and `std`, float32 [B], with which that was done; `volume_max`,
    float32 [B], the largest value of the slice's volume, or 0 where nobody wrote it down; and in evaluations `weights`,
    float32 [B].

    Args:
        spec: the workload.
        splits: the stored slices.
        num_threads: how many make images; None asks for this process's share of the processors.
    """

    def __init__(
        self, spec: WorkloadSpec, splits: Mapping[Split, StoredSlices], num_threads: int | None = None
    ) -> None:
        self._spec = spec
        self._scans: Scans = spec.dataset.options
        self._splits = splits
        self._threads = PipelineThreads("slices", num_threads)

    def train(self, global_batch_size: int, shards: Shards, seed: int) -> Batches:
        """Endless shuffled batches, with other columns in every epoch; the local shards' part of each global batch."""
        slices, pool = self._splits[Split.TRAIN], self._threads.pool(shards)

        def load(numbers: np.ndarray, positions: np.ndarray) -> Batch:
            epochs = positions // len(slices)

            def mask(row: int, width: int) -> np.ndarray:
                return training_mask(width, self._scans, (seed, int(epochs[row]), int(numbers[row])))

            return self._batch(slices, numbers, mask, pool)

        return array_batches(load, len(slices), global_batch_size, shards, seed)

    def evaluation(self, split: Split, global_batch_size: int, shards: Shards) -> Batches:
        """Each slice of a split once, in stored order, always with the same columns."""
        slices, pool = self._stored(split), self._threads.pool(shards)
        number = self._spec.num_examples(split)
        chosen = fixed_subset(len(slices), number) if split is Split.EVAL_TRAIN else np.arange(number)

        def mask(_: int, width: int) -> np.ndarray:
            return evaluation_mask(width, self._scans)

        def load(indices: np.ndarray, _: np.ndarray) -> Batch:
            return self._batch(slices, chosen[indices], mask, pool)

        return array_batches(load, number, global_batch_size, shards)

    def num_stored(self, split: Split) -> int:
        """How many slices the stored split has."""
        return len(self._stored(split))

    def _stored(self, split: Split) -> StoredSlices:
        return self._splits[Split.TRAIN if split is Split.EVAL_TRAIN else split]

    def _batch(self, slices: StoredSlices, numbers: np.ndarray, mask: _Mask, pool: ThreadPoolExecutor) -> Batch:
        """A batch of slices, of which `mask(row, width)` says what to keep."""
        size = self._scans.image_size
        inputs, targets = (np.empty((len(numbers), size, size), np.float32) for _ in range(2))
        mean, std, volume_max = (np.empty(len(numbers), np.float32) for _ in range(3))

        def work(start: int) -> None:
            for row in range(start, min(start + _CHUNK, len(numbers))):
                kspace, target, volume_max[row] = slices.read(int(numbers[row]))
                image = zero_filled(kspace, mask(row, kspace.shape[1]), size)
                mean[row], std[row] = normalise(image, target, inputs[row], targets[row])

        # `list`, so that errors are raised.
        list(pool.map(work, range(0, len(numbers), _CHUNK)))
        return {"inputs": inputs, "targets": targets, "mean": mean, "std": std, "volume_max": volume_max}


def open_dataset(spec: WorkloadSpec, folder: Path) -> FastmriDataset:
    """Opens prepared data. Raises DataError if a split is not the one that the workload says."""
    scans: Scans = spec.dataset.options
    splits = {split: StoredSlices(folder / split.value) for split in STORED_SPLITS}
    for split, slices in splits.items():
        expected = spec.num_examples(split)
        # Of a damaged volume that was left out, nobody knows how many slices it had.
        if len(slices) > expected or (len(slices) < expected and not slices.skipped):
            raise DataError(
                f"{folder / split.value} has {len(slices)} slices instead of {expected}; delete {folder} and prepare "
                "the data again."
            )
        odd = [volume.name for volume in slices.volumes if volume.image_size != scans.image_size]
        if odd:
            raise DataError(
                f"{folder / split.value / odd[0]} has no images of {scans.image_size} pixels a side; delete {folder} "
                "and prepare the data again."
            )
    # Refuses an evaluation on training data that is larger than they are.
    fixed_subset(len(splits[Split.TRAIN]), spec.num_eval_train_examples)
    return FastmriDataset(spec, splits)
