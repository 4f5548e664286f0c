"""Prepares WMT, the full-scale data, from the published files as they are (see `algoperf_wmt.published`)."""

import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from algoperf.data.archives import check_archive
from algoperf.data.files import remove, writing
from algoperf.data.preparation import DataError, Preparation, file_sha256
from algoperf.data.token_files import is_saved
from algoperf.data.tokenizer import TOKENIZER, Tokenizer, train_tokenizer
from algoperf_wmt.parallel_text import Pair, extract, read_pairs, text_files
from algoperf_wmt.published import PUBLISHED, Corpus, WmtArchive, WmtFiles, check_source
from algoperf_wmt.sample import Sample
from algoperf_wmt.store import SPLITS, StoredPairs, prepared_files, save_pairs

# Of the public implementation's data; used, if it lies with the archives, in place of one that is trained.
GIVEN_TOKENIZER = "wmt_sentencepiece_model"
_WORK = "work"
# Pairs that a killed run loses at most, and how many are encoded at a time: their tokens are Python's integers.
_PART = 200_000
_BATCH = 20_000


def prepare_full(job: Preparation) -> list[Path]:
    """Turns the published files into a folder of tokens per split, and a tokenizer; see `algoperf_wmt.store`.

    An interrupted run goes on where it was: with the texts that it has extracted and the parts that are tokens. Beside
    the archives may lie a tokenizer, `GIVEN_TOKENIZER`.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: a file is missing, or is not the published one, or there is no room.
    """
    return prepare_files(job, PUBLISHED)


def prepare_files(job: Preparation, published: WmtFiles) -> list[Path]:
    """`prepare_full` with any files of that layout."""
    given = _given_tokenizer(job, published)
    if not (job.folder / TOKENIZER).exists():
        # Whatever tokens there are, they are another's.
        for split in SPLITS:
            remove(job.folder / split)
    unfinished = [split for split in SPLITS if not is_saved(job.folder / split)]
    if unfinished:
        texts = job.folder / _WORK / "texts"
        _extract_texts(job, texts, published)
        tokenizer = _tokenizer(job, texts, given, published)
        for split in unfinished:
            _write_split(job, split, texts, tokenizer, published)
    remove(job.folder / _WORK)
    return prepared_files(job.folder)


def _given_tokenizer(job: Preparation, published: WmtFiles) -> Path | None:
    """The tokenizer that lies with the archives. Removes another one that an earlier run has used."""
    given = job.source / GIVEN_TOKENIZER if job.source else None
    if given is None or not given.exists():
        return None
    Tokenizer.load(given, published.vocab_size)
    used = job.folder / TOKENIZER
    if used.exists() and file_sha256(used) != file_sha256(given):
        job.report(f"Discarding what was made with another tokenizer than {given}.")
        remove(used)
    return given


def _extract_texts(job: Preparation, folder: Path, published: WmtFiles) -> None:
    """Writes the texts that are not there yet, of archives that are the published ones."""
    corpora = [corpus for split in SPLITS for corpus in published.corpora[split]]
    members: dict[WmtArchive, dict[str, Path]] = {corpus.archive: {} for corpus in corpora}
    for corpus in corpora:
        names = (corpus.german, corpus.english)
        paths = zip(names, text_files(corpus, folder), strict=True)
        members[corpus.archive] |= {name: path for name, path in paths if not path.exists()}
    members = {archive: missing for archive, missing in members.items() if missing}
    if not members:
        return
    source = check_source(job.source, members)
    for archive in members:
        job.report(f"Checking the contents of {archive.name}.")
        check_archive(source / archive.name, archive)
    for archive, missing in members.items():
        job.report(f"Extracting {', '.join(missing)} from {archive.name}.")
        extract(source / archive.name, missing)


def _tokenizer(job: Preparation, texts: Path, given: Path | None, published: WmtFiles) -> Tokenizer:
    """The tokenizer: that of an earlier run, or the given one, or one that is trained; looks through all texts once."""
    path = job.folder / TOKENIZER
    origin = "that of an earlier run"
    if not path.exists():
        sample = _read_all(job, texts, published)
        if given:
            origin = f"a copy of {given}"
            with writing(path) as temporary:
                shutil.copyfile(given, temporary)
        else:
            origin = f"trained on {len(sample):,} pairs of sentences"
            job.report(f"Training a tokenizer of {published.vocab_size:,} tokens on {sample.size:,} bytes of text.")
            train_tokenizer(sample.sentences(), path, published.vocab_size)
    job.report(f"The tokenizer, {path}, is {origin}; SHA-256 {file_sha256(path)}.")
    return Tokenizer.load(path, published.vocab_size)


def _read_all(job: Preparation, texts: Path, published: WmtFiles) -> Sample:
    """What a tokenizer is trained on, after a look at all sentences.

    The published tokenizer's text is the beginning of a data set in another library's shuffled order. Here it is a
    random sample of the training pairs.

    Raises:
        DataError: a text is damaged, or a split has not as many pairs as it should.
    """
    sample = Sample(published.tokenizer_bytes)
    for split in SPLITS:
        num_pairs = 0
        for corpus in published.corpora[split]:
            job.report(f"Reading the sentences of {corpus.name}.")
            for german, english in read_pairs(corpus, texts):
                num_pairs += 1
                if split == "train":
                    sample.offer(f"{corpus.name} {german.line}", german.text, english.text)
        if num_pairs != published.split_sizes[split]:
            raise DataError(
                f"The {split} split came out with {num_pairs} pairs of sentences instead of "
                f"{published.split_sizes[split]}; remove {job.folder / _WORK} and run the same command again."
            )
    return sample


def _write_split(job: Preparation, split: str, texts: Path, tokenizer: Tokenizer, published: WmtFiles) -> None:
    # Tokens of another tokenizer are in another folder.
    folder = job.folder / _WORK / f"tokens-{file_sha256(job.folder / TOKENIZER)}" / split
    max_length = None if split == "train" else published.max_length
    parts: list[StoredPairs] = []
    for corpus in published.corpora[split]:
        for number, chunk in enumerate(_chunks(read_pairs(corpus, texts), _PART)):
            part = folder / corpus.name / f"{number:04}"
            if not is_saved(part):
                save_pairs(part, _encoded(corpus, chunk, tokenizer, max_length))
            parts.append(StoredPairs.load(part))
            done = sum(map(len, parts))
            job.report(f"{split}: {done:,} of {published.split_sizes[split]:,} pairs of sentences are tokens.")
    num_long = sum(int((part.lengths.max(axis=1) > published.max_length).sum()) for part in parts)
    if num_long:
        job.report(f"{split}: {num_long:,} pairs have more than {published.max_length} tokens; training omits them.")
    job.report(f"Writing the {split} split.")
    save_pairs(job.folder / split, parts)


def _chunks(pairs: Iterator[Pair], size: int) -> Iterator[list[Pair]]:
    while chunk := list(islice(pairs, size)):
        yield chunk


def _encoded(corpus: Corpus, pairs: Sequence[Pair], tokenizer: Tokenizer, max_length: int | None) -> list[StoredPairs]:
    """The tokens of pairs, in batches. Raises DataError if one has more than `max_length`."""
    encoded = []
    for batch in _chunks(iter(pairs), _BATCH):
        sides = ([sentence.text for sentence in side] for side in zip(*batch, strict=True))
        encoded.append(StoredPairs.of(*map(tokenizer.encode, sides)))
        if max_length:
            _check_lengths(corpus, batch, encoded[-1].lengths, max_length)
    return encoded


def _check_lengths(corpus: Corpus, pairs: Sequence[Pair], lengths: np.ndarray, max_length: int) -> None:
    too_long = np.argwhere(lengths > max_length)
    if len(too_long):
        pair, side = too_long[0]
        name = (corpus.german, corpus.english)[side]
        raise DataError(
            f"Line {pairs[pair][side].line} of {name} has {lengths[pair, side]} tokens, and no sentence that is "
            f"evaluated may have more than {max_length}; use the published tokenizer or none."
        )
