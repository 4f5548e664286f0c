"""The data pipeline of LibriSpeech: stored FLAC files and tokens to batches. Numpy only.

Audio stays in 16 bits until it is on the devices, where `jax_audio` and `torch_audio` finish a batch: that is a quarter
of what would have to be copied there else.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from algoperf.data import Batches, DataError, Dataset, Shards, array_batches, fixed_subset
from algoperf.data.batches import Batch
from algoperf.data.processors import PipelineThreads
from algoperf.data.tokenizer import TOKENIZER, Tokenizer
from algoperf.spec import Split, WorkloadSpec
from algoperf_librispeech.spec import BLANK, Utterances
from algoperf_librispeech.store import StoredUtterances, num_skipped

STORED_SPLITS = (Split.TRAIN, Split.VALIDATION, Split.TEST)
# Utterances that a thread takes at once.
_CHUNK = 8


class LibriSpeechDataset(Dataset):
    """The utterances of LibriSpeech, or of the mini data.

    A batch is `inputs`, int16 [B, max_samples], audio, and `lengths`, int32 [B], how many samples of it count;
    `targets`, int32 [B, max_tokens], the transcripts' tokens with END last and BLANK behind; and in evaluations
    `weights`, float32 [B].

    Args:
        spec: the workload.
        splits: the stored utterances.
        tokenizer: what the transcripts were turned into tokens with.
        num_threads: how many decode audio; None asks for this process's share of the processors.
    """

    def __init__(
        self,
        spec: WorkloadSpec,
        splits: Mapping[Split, StoredUtterances],
        tokenizer: Tokenizer,
        num_threads: int | None = None,
    ) -> None:
        self._spec = spec
        self._options: Utterances = spec.dataset.options
        self._splits = splits
        self._tokenizer = tokenizer
        self._threads = PipelineThreads("audio", num_threads)

    def train(self, global_batch_size: int, shards: Shards, seed: int) -> Batches:
        """Endless shuffled batches; the local shards' part of each global batch."""
        utterances, pool = self._splits[Split.TRAIN], self._threads.pool(shards)

        def load(numbers: np.ndarray, _: np.ndarray) -> Batch:
            return self._batch(utterances, numbers, pool)

        return array_batches(load, len(utterances), global_batch_size, shards, seed)

    def evaluation(self, split: Split, global_batch_size: int, shards: Shards) -> Batches:
        """Each utterance of a split once, in stored order."""
        utterances, pool = self._stored(split), self._threads.pool(shards)
        number = self._spec.num_examples(split)
        chosen = fixed_subset(len(utterances), number) if split is Split.EVAL_TRAIN else np.arange(number)

        def load(indices: np.ndarray, _: np.ndarray) -> Batch:
            batch = self._batch(utterances, chosen[indices], pool)
            return batch | {"weights": np.ones(len(indices), np.float32)}

        return array_batches(load, number, global_batch_size, shards)

    def num_stored(self, split: Split) -> int:
        """How many utterances the stored split has."""
        return len(self._stored(split))

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sentence of token ids."""
        return self._tokenizer.decode(ids)

    def _stored(self, split: Split) -> StoredUtterances:
        return self._splits[Split.TRAIN if split is Split.EVAL_TRAIN else split]

    def _batch(self, utterances: StoredUtterances, numbers: np.ndarray, pool: ThreadPoolExecutor) -> Batch:
        audio = np.zeros((len(numbers), self._options.max_samples), np.int16)

        def work(start: int) -> None:
            for row, samples in enumerate(utterances.audio(numbers[start : start + _CHUNK]), start):
                audio[row, : len(samples)] = samples

        # `list`, so that errors are raised.
        list(pool.map(work, range(0, len(numbers), _CHUNK)))
        targets = np.full((len(numbers), self._options.max_tokens), BLANK, np.int32)
        targets[np.arange(targets.shape[1]) < utterances.num_tokens[numbers, None]] = utterances.tokens(numbers)
        return {"inputs": audio, "lengths": utterances.num_samples[numbers], "targets": targets}


def open_dataset(spec: WorkloadSpec, folder: Path) -> LibriSpeechDataset:
    """Opens prepared data. Raises DataError if a split or the tokenizer is not the one that the workload says."""
    options: Utterances = spec.dataset.options
    tokenizer = Tokenizer.load(folder / TOKENIZER, options.vocab_size)
    splits = {split: StoredUtterances.load(folder / split.value) for split in STORED_SPLITS}
    for split, utterances in splits.items():
        left_out = num_skipped(folder) if split is Split.TRAIN else 0
        if len(utterances) + left_out != spec.num_examples(split):
            raise DataError(
                f"{folder / split.value} has {len(utterances)} utterances instead of {spec.num_examples(split)}; "
                f"delete {folder} and prepare the data again."
            )
        longest = (int(utterances.num_samples.max()), int(utterances.num_tokens.max()))
        if longest[0] > options.max_samples or longest[1] > options.max_tokens:
            raise DataError(
                f"{folder / split.value} has utterances of up to {longest[0]} samples and {longest[1]} tokens, and a "
                f"row has room for {options.max_samples} and {options.max_tokens}; delete {folder} and prepare the "
                "data again."
            )
    # Refuses an evaluation on training data that is larger than they are.
    fixed_subset(len(splits[Split.TRAIN]), spec.num_eval_train_examples)
    return LibriSpeechDataset(spec, splits, tokenizer)
