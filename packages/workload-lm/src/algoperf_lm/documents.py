"""Documents as tokens: made of the shards part by part, several parts at a time, and kept until all are there."""

import hashlib
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import accumulate
from pathlib import Path

import numpy as np

from algoperf.data.files import writing
from algoperf.data.preparation import DataError, Report
from algoperf.data.processors import num_processors
from algoperf.data.token_files import StoredSentences, save_sentences
from algoperf_lm.gpt2 import Gpt2Tokenizer
from algoperf_lm.shards import Part

_TOKENS, _HASHES = "tokens", "hashes.npy"


class Documents:
    """Documents of several parts as they lie on disk, one after the other; N in all.

    Attributes:
        lengths: tokens of each document [N], int32.
        hashes: of their texts [N], uint64.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._parts = [_load(folder / _TOKENS) for folder in folders]
        self._starts = list(accumulate(map(len, self._parts), initial=0))
        self.lengths = np.concatenate([part.lengths for part in self._parts])
        self.hashes = np.concatenate([np.load(folder / _HASHES) for folder in folders])

    def __len__(self) -> int:
        return self._starts[-1]

    def tokens(self, order: np.ndarray, num_tokens: int) -> Iterator[np.ndarray]:
        """The tokens of documents in some order, uint16, until there are so many; the last document may be cut."""
        for number in map(int, order):
            part = bisect_right(self._starts, number) - 1
            ids = self._parts[part][number - self._starts[part]][:num_tokens]
            yield ids
            num_tokens -= len(ids)
            if not num_tokens:
                return


def _load(folder: Path) -> StoredSentences:
    """A part with its ends in memory: each file that is mapped stays open, and there are hundreds of parts."""
    part = StoredSentences.load(folder)
    return StoredSentences(part.ids, np.array(part.ends))


def is_encoded(part: Part, folder: Path) -> bool:
    """Whether a part's tokens are in the folder of all parts."""
    return (folder / part.name).exists()


def encode_parts(parts: Sequence[Part], folder: Path, tokenizer: Gpt2Tokenizer, report: Report) -> None:
    """Makes tokens of those parts that are none yet, each into a folder of its own that appears when it is complete.

    In threads: the tokenizer, the reading and the hashing release Python's lock.

    Raises:
        DataError: a shard is damaged, or there is no room.
    """
    missing = [part for part in parts if not is_encoded(part, folder)]
    total = sum(part.num_rows for part in parts)
    done = total - sum(part.num_rows for part in missing)
    stop, pool = threading.Event(), ThreadPoolExecutor(num_processors(), thread_name_prefix="encode")
    try:
        futures = {pool.submit(_encode, part, folder / part.name, tokenizer, stop): part for part in missing}
        for future in as_completed(futures):
            future.result()
            before, done = done, done + futures[future].num_rows
            if 100 * before // total < 100 * done // total:
                report(f"{done:,} of {total:,} documents are tokens ({100 * done // total}%).")
    finally:
        # Where one fails, or the user interrupts, the others are given up.
        stop.set()
        pool.shutdown(cancel_futures=True)


def _encode(part: Part, folder: Path, tokenizer: Gpt2Tokenizer, stop: threading.Event) -> None:
    documents, hashes = [], []
    for texts in part.texts():
        if stop.is_set():
            return
        for text in texts:
            try:
                documents.append(tokenizer.encode(text))
            except ValueError as error:
                raise DataError(f"{part.shard} has a text that begins {text[:40]!r} and is none ({error}).") from error
            hashes.append(hashlib.blake2b(text.encode(), digest_size=8).digest())
    with writing(folder) as temporary:
        temporary.mkdir()
        np.save(temporary / _HASHES, np.frombuffer(b"".join(hashes), "<u8"))
        save_sentences(temporary / _TOKENS, [StoredSentences.of(documents)])
