"""Tokens on disk, end to end: one array, or the tokens of sentences.

Sentences are `tokens.npy`, and `ends.npy`, which is 0 and then where each one ends.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

from algoperf.data.files import writing
from algoperf.data.preparation import DataError
from algoperf.data.ragged import runs

MAX_VOCAB_SIZE = 2**16
_REMEDY = "delete the folder of the prepared data and prepare it again"
Sentence: TypeAlias = Sequence[int] | np.ndarray


@dataclass(frozen=True)
class StoredSentences:
    """Sentences as they lie on disk. In shapes, T and N are the tokens and the sentences.

    Attributes:
        ids: tokens of all sentences [T], uint16.
        ends: 0, and then where each sentence ends in `ids` [N + 1], int64.
    """

    ids: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, sentences: Sequence[Sentence]) -> "StoredSentences":
        """These sentences of tokens, none of them empty."""
        lengths = np.array([len(sentence) for sentence in sentences], np.int64)
        ids = [np.asarray(sentence, np.uint16) for sentence in sentences]
        return cls(np.concatenate([np.empty(0, np.uint16), *ids]), np.append(0, np.cumsum(lengths)))

    @classmethod
    def load(cls, folder: Path) -> "StoredSentences":
        """The sentences that `save_sentences` wrote, memory-mapped. Raises DataError if the files are not whole."""
        try:
            ids, ends = (np.asarray(np.load(path, mmap_mode="r")) for path in files_of(folder))
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{folder} holds no sentences of tokens ({error}); {_REMEDY}.") from error
        typed = [(array.dtype.name, array.ndim) for array in (ids, ends)] == [("uint16", 1), ("int64", 1)]
        fitting = typed and len(ends) > 0 and (ends[0], ends[-1]) == (0, len(ids))
        sentences = cls(ids, ends)
        if not fitting or sentences.lengths.min(initial=1) < 1:
            raise DataError(f"The files in {folder} do not belong together; {_REMEDY}.")
        return sentences

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, number: int) -> np.ndarray:
        """The tokens of a sentence, uint16."""
        return self.ids[self.ends[number] : self.ends[number + 1]]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each sentence. Shape [N], int32."""
        lengths = np.empty(len(self), np.int32)
        # Into int32 at once: of millions of sentences, int64 would take twice as much.
        np.subtract(self.ends[1:], self.ends[:-1], out=lengths, casting="same_kind")
        return lengths

    def tokens(self, numbers: np.ndarray) -> np.ndarray:
        """The tokens of sentences [any number], end to end; uint16."""
        return self.ids[runs(self.ends[numbers], self.lengths[numbers])]


def save_sentences(folder: Path, parts: Sequence[StoredSentences]) -> None:
    """Writes sentences, part after part, into a folder that appears when it is complete.

    Raises:
        DataError: there is no room, or something else is wrong with the disk.
    """
    with writing(folder) as temporary:
        temporary.mkdir()
        tokens, ends = files_of(temporary)
        _write(tokens, np.uint16, sum(len(part.ids) for part in parts), (part.ids for part in parts))
        _write(ends, np.int64, 1 + sum(map(len, parts)), _joined_ends(parts))


def save_tokens(path: Path, num_tokens: int, parts: Iterable[np.ndarray]) -> None:
    """Writes arrays of tokens, so many in all, end to end into a .npy file that appears when it is complete.

    Raises:
        DataError: there is no room, or something else is wrong with the disk.
    """
    with writing(path) as temporary:
        _write(temporary, np.uint16, num_tokens, parts)


def load_tokens(path: Path) -> np.ndarray:
    """The tokens that `save_tokens` wrote, memory-mapped; [T], uint16. Raises DataError if the file is not whole."""
    try:
        tokens = np.asarray(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} holds no tokens, or not all ({error}); {_REMEDY}.") from error
    if (tokens.dtype.name, tokens.ndim) != ("uint16", 1):
        raise DataError(f"{path} holds {tokens.dtype.name} of {tokens.ndim} dimensions and no tokens; {_REMEDY}.")
    return tokens


def files_of(folder: Path) -> list[Path]:
    """The files of the sentences in `folder`."""
    return [folder / "tokens.npy", folder / "ends.npy"]


def is_saved(folder: Path) -> bool:
    """Whether there are all files of the sentences in `folder`."""
    return all(path.exists() for path in files_of(folder))


def _joined_ends(parts: Sequence[StoredSentences]) -> Iterator[np.ndarray]:
    start = np.zeros(1, np.int64)
    yield start
    for part in parts:
        yield part.ends[1:] + start
        start = start + len(part.ids)


def _write(path: Path, dtype: type[np.generic], size: int, arrays: Iterable[np.ndarray]) -> None:
    """A .npy file of several arrays end to end, `size` elements, without having them in memory at a time."""
    with path.open("wb") as file:
        _write_header(file, np.dtype(dtype), size)
        for array in arrays:
            file.write(np.ascontiguousarray(array, dtype).data)


def _write_header(file: BinaryIO, dtype: np.dtype[np.generic], size: int) -> None:
    description = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": description, "fortran_order": False, "shape": (size,)})
