"""Sentence pairs on disk: the tokens of all sentences end to end; numpy only.

A split is a folder of sentences as `algoperf.data.token_files` has them: the source and then the target of each pair,
each with END at its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np

from algoperf.data.preparation import DataError
from algoperf.data.token_files import Sentence, StoredSentences, files_of, save_sentences
from algoperf.data.tokenizer import TOKENIZER

# The small ones first: what is wrong with sentences shows early.
SPLITS = ("test", "validation", "train")


@dataclass(frozen=True)
class StoredPairs:
    """Sentence pairs as they lie on disk. In shapes, N is the number of pairs.

    Attributes:
        sentences: source and target of each pair in turn, 2 * N.
    """

    sentences: StoredSentences

    @classmethod
    def of(cls, sources: Sequence[Sentence], targets: Sequence[Sentence]) -> "StoredPairs":
        """The pairs of these sentences of tokens, none of them empty."""
        return cls(StoredSentences.of(list(chain.from_iterable(zip(sources, targets, strict=True)))))

    @classmethod
    def load(cls, folder: Path) -> "StoredPairs":
        """The pairs that `save_pairs` wrote, memory-mapped. Raises DataError if the files are not whole."""
        sentences = StoredSentences.load(folder)
        if len(sentences) % 2:
            raise DataError(f"{folder} holds half a pair; delete {folder.parent} and prepare the data again.")
        return cls(sentences)

    def __len__(self) -> int:
        return len(self.sentences) // 2

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of the source and of the target of each pair, END included. Shape [N, 2], int32."""
        return self.sentences.lengths.reshape(-1, 2)

    def source(self, pair: int) -> np.ndarray:
        """The tokens of the source of a pair, uint16."""
        return self.sentences[2 * pair]

    def target(self, pair: int) -> np.ndarray:
        """The tokens of the target of a pair, uint16."""
        return self.sentences[2 * pair + 1]

    def tokens(self, pairs: np.ndarray, side: int) -> np.ndarray:
        """The tokens of the sources (`side` 0) or targets (1) of `pairs` [any number], end to end; uint16."""
        return self.sentences.tokens(2 * np.asarray(pairs) + side)


def save_pairs(folder: Path, parts: Sequence[StoredPairs]) -> None:
    """Writes pairs, part after part, into a folder that appears when it is complete.

    Raises:
        DataError: there is no room, or something else is wrong with the disk.
    """
    save_sentences(folder, [part.sentences for part in parts])


def prepared_files(folder: Path) -> list[Path]:
    """All files of prepared data: the pairs of each split, and the tokenizer."""
    return [*(path for split in SPLITS for path in files_of(folder / split)), folder / TOKENIZER]
