"""Text as tokens and back: SentencePiece (Kudo and Richardson, https://arxiv.org/abs/1808.06226).

Needs the extra `text` of this package.
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import sentencepiece

from algoperf.data.files import writing
from algoperf.data.preparation import DataError
from algoperf.data.processors import num_processors

# Its name in the folder of the prepared data.
TOKENIZER = "tokenizer.model"
# The ids of unknown tokens, of beginnings and of ends.
_UNKNOWN, _BEGINNING, _END = 0, 1, 2
# Sums over sentences are made per thread and then added, so each number of threads has its own rounding errors. This is
# SentencePiece's own choice; on machines with fewer processors some wait.
_TRAINING_THREADS = 16
_ERRORS_ONLY = 2


class Tokenizer:
    """A trained SentencePiece model."""

    def __init__(self, processor: Any):
        self._processor = processor

    @classmethod
    def load(cls, path: Path, vocab_size: int) -> "Tokenizer":
        """The tokenizer in a file. Raises DataError unless it is one, of so many tokens and with the data's ids."""
        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(path.read_bytes())
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{path} is no SentencePiece model; put one there, or remove it and prepare the data again."
            ) from error
        facts = (processor.vocab_size(), processor.unk_id(), processor.bos_id(), processor.eos_id())
        expected = (vocab_size, _UNKNOWN, _BEGINNING, _END)
        if facts != expected:
            raise DataError(
                f"{path} is a tokenizer that does not match the data: its vocabulary size and its ids of unknown "
                f"tokens, beginning and end are {facts} instead of {expected}; put the right one there, or remove it "
                "and prepare the data again."
            )
        return cls(processor)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, with 2, which is the end, behind."""
        ids: list[list[int]] = self._processor.encode(list(texts), add_eos=True, num_threads=num_processors())
        return ids

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sentence of token ids."""
        texts: list[str] = self._processor.decode([list(map(int, sentence)) for sentence in ids])
        return texts


def train_tokenizer(
    sentences: Iterable[str], path: Path, vocab_size: int, kind: Literal["unigram", "char"] = "unigram"
) -> None:
    """Trains a model on sentences and writes it. The file depends on the sentences and their order alone.

    Args:
        sentences: what it is trained on.
        path: of the file.
        vocab_size: tokens that it shall have; with "char" the characters, and three more.
        kind: "unigram" is a language model of pieces of words (Kudo, https://arxiv.org/abs/1804.10959); with "char"
            each character is a token.

    Raises:
        RuntimeError: the sentences are too few for so many tokens.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type=kind,
        vocab_size=vocab_size,
        character_coverage=1.0,
        num_threads=_TRAINING_THREADS,
        minloglevel=_ERRORS_ONLY,
    )
    with writing(path) as temporary:
        temporary.write_bytes(model.getvalue())
