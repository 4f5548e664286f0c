"""Sentence pairs on disk: the tokens of all sentences end to end, in two arrays; numpy only.

A split is a folder with `tokens.npy`, the source and then the target of each pair, each with END at its end, and
`ends.npy`: 0, and then where each of these sentences ends.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

from algoperf.data.files import writing
from algoperf.data.preparation import DataError
from algoperf.data.ragged import runs
from algoperf.data.tokenizer import TOKENIZER

# The small ones first: what is wrong with sentences shows early.
SPLITS = ("test", "validation", "train")
MAX_VOCAB_SIZE = 2**16
Sentence: TypeAlias = Sequence[int] | np.ndarray


@dataclass(frozen=True)
class StoredPairs:
    """Sentence pairs as they lie on disk. In shapes, T and N are the tokens and the pairs.

    Attributes:
        ids: tokens of all sentences [T], uint16.
        ends: 0, and then where each sentence ends in `ids` [2 * N + 1], int64.
    """

    ids: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, sources: Sequence[Sentence], targets: Sequence[Sentence]) -> "StoredPairs":
        """The pairs of these sentences of tokens, none of them empty."""
        sentences = list(chain.from_iterable(zip(sources, targets, strict=True)))
        lengths = np.array([len(sentence) for sentence in sentences], np.int64)
        ids = np.fromiter(chain.from_iterable(sentences), np.uint16, lengths.sum())
        return cls(ids, np.append(0, np.cumsum(lengths)))

    @classmethod
    def load(cls, folder: Path) -> "StoredPairs":
        """The pairs that `save_pairs` wrote, memory-mapped. Raises DataError if the files are not whole."""
        try:
            arrays = [np.load(path, mmap_mode="r") for path in files_of(folder)]
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{folder} holds no sentence pairs ({error}); {_remedy(folder)}.") from error
        ids, ends = map(np.asarray, arrays)
        typed = [(array.dtype.name, array.ndim) for array in (ids, ends)] == [("uint16", 1), ("int64", 1)]
        fitting = typed and len(ends) % 2 == 1 and (ends[0], ends[-1]) == (0, len(ids))
        pairs = cls(ids, ends)
        if not fitting or pairs.lengths.min(initial=1) < 1:
            raise DataError(f"The files in {folder} do not belong together; {_remedy(folder)}.")
        return pairs

    def __len__(self) -> int:
        return len(self.ends) // 2

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of the source and of the target of each pair, END included. Shape [N, 2], int32."""
        lengths = np.empty(2 * len(self), np.int32)
        # Into int32 at once: of millions of pairs, int64 would take twice as much.
        np.subtract(self.ends[1:], self.ends[:-1], out=lengths, casting="same_kind")
        return lengths.reshape(-1, 2)

    def source(self, pair: int) -> np.ndarray:
        """The tokens of the source of a pair, uint16."""
        return self._sentence(2 * pair)

    def target(self, pair: int) -> np.ndarray:
        """The tokens of the target of a pair, uint16."""
        return self._sentence(2 * pair + 1)

    def tokens(self, pairs: np.ndarray, side: int) -> np.ndarray:
        """The tokens of the sources (`side` 0) or targets (1) of `pairs` [any number], end to end; uint16."""
        starts = self.ends[2 * np.asarray(pairs) + side]
        return self.ids[runs(starts, self.lengths[pairs, side])]

    def _sentence(self, number: int) -> np.ndarray:
        return self.ids[self.ends[number] : self.ends[number + 1]]


def save_pairs(folder: Path, parts: Sequence[StoredPairs]) -> None:
    """Writes pairs, part after part, into a folder that appears when it is complete.

    Raises:
        DataError: there is no room, or something else is wrong with the disk.
    """
    with writing(folder) as temporary:
        temporary.mkdir()
        tokens, ends = files_of(temporary)
        _write(tokens, np.uint16, sum(len(part.ids) for part in parts), (part.ids for part in parts))
        _write(ends, np.int64, 1 + sum(len(part.ends) - 1 for part in parts), _joined_ends(parts))


def files_of(folder: Path) -> list[Path]:
    """The files of the pairs in `folder`."""
    return [folder / "tokens.npy", folder / "ends.npy"]


def prepared_files(folder: Path) -> list[Path]:
    """All files of prepared data: the pairs of each split, and the tokenizer."""
    return [*(path for split in SPLITS for path in files_of(folder / split)), folder / TOKENIZER]


def is_saved(folder: Path) -> bool:
    """Whether there are all files of the pairs in `folder`."""
    return all(path.exists() for path in files_of(folder))


def _joined_ends(parts: Sequence[StoredPairs]) -> Iterator[np.ndarray]:
    start = np.zeros(1, np.int64)
    yield start
    for part in parts:
        yield part.ends[1:] + start
        start = start + len(part.ids)


def _write(path: Path, dtype: type[np.generic], size: int, arrays: Iterator[np.ndarray]) -> None:
    """A .npy file of several arrays end to end, `size` elements, without having them in memory at a time."""
    with path.open("wb") as file:
        _write_header(file, np.dtype(dtype), size)
        for array in arrays:
            file.write(np.ascontiguousarray(array, dtype).data)


def _write_header(file: BinaryIO, dtype: np.dtype[np.generic], size: int) -> None:
    description = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": description, "fortran_order": False, "shape": (size,)})


def _remedy(folder: Path) -> str:
    return f"delete {folder.parent} and prepare the data again"
