"""The data pipeline of WMT: sentence pairs as batches of tokens; packed for training, one in a row for evaluation.

Training takes pairs in a shuffled order, `_GROUP` at a time. Each group is packed into rows by itself, whatever the
batch size, and the rows are shuffled. So the rows are one endless sequence, of which a batch is a part.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from algoperf.data import Batches, DataError, Dataset, Shards, ShuffledOrder, fixed_subset
from algoperf.data.batches import Batch, array_batches
from algoperf.data.ragged import offsets, runs
from algoperf.data.tokenizer import TOKENIZER, Tokenizer
from algoperf.spec import Split, WorkloadSpec
from algoperf_wmt.packing import pack
from algoperf_wmt.spec import PADDING
from algoperf_wmt.store import StoredPairs

STORED_SPLITS = (Split.TRAIN, Split.VALIDATION, Split.TEST)
# More of them waste less (3.6 % of the tokens at 512, 2.8 % at 2,048 of WMT's lengths); a resumed run packs one anew.
_GROUP = 2_048
_SIDES = ("inputs", "targets")


class WmtDataset(Dataset):
    """Sentence pairs of WMT, or of the mini data, as batches of token ids.

    A batch has `inputs` and `targets`, int32 [B, L], where 0 is padding, and `weights`, float32 [B, L], 1 where
    `targets` is not 0. Rows for training hold several pairs; of them `inputs_position` and `targets_position`, int32
    [B, L], count the tokens of a sentence from 0, and `inputs_segmentation` and `targets_segmentation` the pairs of a
    row from 1; all are 0 at padding, the segmentations also at unknown tokens.
    """

    def __init__(self, spec: WorkloadSpec, splits: Mapping[Split, StoredPairs], tokenizer: Tokenizer) -> None:
        self._spec = spec
        self._splits = splits
        self._tokenizer = tokenizer
        self._length = spec.dataset.options.max_length

    def train(self, global_batch_size: int, shards: Shards, seed: int) -> Batches:
        """Endless shuffled batches of packed rows; the local shards' part. Pairs longer than a row are left out."""
        packed = self._packed_groups(seed)
        part = shards.slices(global_batch_size)

        def read(position: int) -> tuple[Batch, int]:
            group, start = divmod(position, _GROUP)
            rows: list[np.ndarray] = []
            while len(rows) < global_batch_size:
                found = packed(group)[start : start + global_batch_size - len(rows)]
                rows += found
                start += len(found)
                if start == len(packed(group)):
                    group, start = group + 1, 0
            return self._packed_batch(rows[part]), group * _GROUP + start

        return Batches(read)

    def evaluation(self, split: Split, global_batch_size: int, shards: Shards) -> Batches:
        """Each pair of a split once, the shortest first: translating a batch takes as long as its longest sentence."""
        pairs = self._pairs(split)
        chosen = self._evaluated_training_pairs if split is Split.EVAL_TRAIN else np.arange(len(pairs))
        ordered = chosen[np.argsort(pairs.lengths[chosen, 0], kind="stable")]

        def load(indices: np.ndarray, positions: np.ndarray) -> Batch:
            return self._padded_batch(pairs, ordered[indices])

        return array_batches(load, len(ordered), global_batch_size, shards)

    def num_stored(self, split: Split) -> int:
        """How many pairs the stored split has, those that are longer than a row included."""
        return len(self._pairs(split))

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sentence of token ids."""
        return self._tokenizer.decode(ids)

    def _pairs(self, split: Split) -> StoredPairs:
        return self._splits[Split.TRAIN if split is Split.EVAL_TRAIN else split]

    @cached_property
    def _fitting_pairs(self) -> np.ndarray:
        """Numbers of the training pairs that are not longer than a row."""
        return np.flatnonzero(self._splits[Split.TRAIN].lengths.max(axis=1) <= self._length)

    @cached_property
    def _evaluated_training_pairs(self) -> np.ndarray:
        fitting = self._fitting_pairs
        return fitting[fixed_subset(len(fitting), self._spec.num_eval_train_examples)]

    def _packed_groups(self, seed: int) -> Callable[[int], list[np.ndarray]]:
        """A function that packs a group: per row the numbers of its pairs."""
        lengths, fitting = self._splits[Split.TRAIN].lengths, self._fitting_pairs
        order = ShuffledOrder(len(fitting), seed)

        @lru_cache(maxsize=2)
        def packed(group: int) -> list[np.ndarray]:
            pairs = fitting[order.take(group * _GROUP, _GROUP)]
            rows = pack(lengths[pairs], self._length)
            # The seeds of orders are (seed, epoch), which numpy takes for (seed, epoch, 0).
            shuffled = np.random.default_rng([seed, group, 1]).permutation(len(rows))
            return [pairs[rows[row]] for row in shuffled]

        return packed

    def _packed_batch(self, rows: Sequence[np.ndarray]) -> Batch:
        pairs, numbers = self._splits[Split.TRAIN], np.concatenate(rows)
        counts = np.array([len(row) for row in rows])
        batch = {}
        for side, name in enumerate(_SIDES):
            tokens, lengths = pairs.tokens(numbers, side), pairs.lengths[numbers, side]
            in_row = np.add.reduceat(lengths, offsets(counts))
            batch[name] = self._filled(tokens, in_row)
            batch[f"{name}_position"] = self._filled(runs(0, lengths), in_row)
            segments = np.repeat(runs(1, counts), lengths)
            batch[f"{name}_segmentation"] = self._filled(segments * (tokens != PADDING), in_row)
        return batch | {"weights": (batch["targets"] != PADDING).astype(np.float32)}

    def _padded_batch(self, pairs: StoredPairs, numbers: np.ndarray) -> Batch:
        batch = {
            name: self._filled(pairs.tokens(numbers, side), pairs.lengths[numbers, side])
            for side, name in enumerate(_SIDES)
        }
        return batch | {"weights": (batch["targets"] != PADDING).astype(np.float32)}

    def _filled(self, values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Rows that begin with runs of values, of these lengths, and are 0 behind; int32 [rows, L]."""
        array = np.zeros((len(lengths), self._length), np.int32)
        array[np.arange(self._length) < lengths[:, None]] = values
        return array


def open_dataset(spec: WorkloadSpec, folder: Path) -> WmtDataset:
    """Opens prepared data. Raises DataError if a split or the tokenizer is not the one that the workload says."""
    options = spec.dataset.options
    tokenizer = Tokenizer.load(folder / TOKENIZER, options.vocab_size)
    splits = {split: StoredPairs.load(folder / split.value) for split in STORED_SPLITS}
    for split, pairs in splits.items():
        if len(pairs) != spec.num_examples(split):
            raise DataError(
                f"{folder / split.value} has {len(pairs)} sentence pairs instead of {spec.num_examples(split)}; "
                f"delete {folder} and prepare the data again."
            )
        longest = pairs.lengths.max()
        if split is not Split.TRAIN and longest > options.max_length:
            raise DataError(
                f"{folder / split.value} has a sentence of {longest} tokens, and a row has room for "
                f"{options.max_length}; delete {folder} and prepare the data with the published tokenizer or none."
            )
    return WmtDataset(spec, splits, tokenizer)
