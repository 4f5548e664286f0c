"""Prepares LibriSpeech, the full-scale data, from the published archives (see `algoperf_librispeech.published`)."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from algoperf.data.files import remove, writing
from algoperf.data.preparation import DataError, Preparation, file_sha256
from algoperf.data.record_shards import SUFFIX
from algoperf.data.sources import check_contents, check_folder, check_space, forget_checks
from algoperf.data.tokenizer import TOKENIZER, Tokenizer, train_tokenizer
from algoperf_librispeech.published import COMMAND, PUBLISHED, LibriSpeechFiles, Subset
from algoperf_librispeech.spec import SAMPLE_RATE
from algoperf_librispeech.store import (
    SPLITS,
    UnfitTokenizer,
    discard_tokens,
    discard_unfinished,
    finish_audio,
    has_audio,
    has_tokens,
    prepared_files,
    read_parts,
    read_transcripts,
    skipped_of,
    write_tokens,
)
from algoperf_librispeech.subsets import is_written, part_names, write_subsets

# Of the public implementation's data, and a SentencePiece model whatever its name says; used, if it lies with the
# archives, in place of one that is trained.
GIVEN_TOKENIZER = "spm_model.vocab"


def prepare_full(job: Preparation) -> list[Path]:
    """Turns the published archives into a folder of FLAC files and tokens per split; see `algoperf_librispeech.store`.

    About 57 GB are written; archives are not unpacked. An interrupted run goes on with the parts of archives that it
    was at. Beside the archives may lie a tokenizer, `GIVEN_TOKENIZER`.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: a file is missing, or is not the published one, or audio is damaged, or there is no room.
    """
    return prepare_files(job, PUBLISHED)


def prepare_files(job: Preparation, published: LibriSpeechFiles) -> list[Path]:
    """`prepare_full` with any files of that layout."""
    given = _given_tokenizer(job, published)
    _store_audio(job, published)
    _write_tokens(job, given, published)
    forget_checks(job.folder)
    return prepared_files(job.folder)


def _given_tokenizer(job: Preparation, published: LibriSpeechFiles) -> Path | None:
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


def _store_audio(job: Preparation, published: LibriSpeechFiles) -> None:
    """Writes the audio that is not there yet. Archives of which all is there are not needed."""
    unfinished = [split for split in SPLITS if not has_audio(job.folder / split)]
    missing = [
        (split, subset)
        for split in unfinished
        for subset in published.subsets[split]
        if not is_written(job.folder / split, subset)
    ]
    if missing:
        archives = [subset for _, subset in missing]
        source = check_folder(job.source, archives, COMMAND)
        check_space(job.folder, sum(_missing_bytes(job.folder / split, subset) for split, subset in missing))
        check_contents(job, source, archives)
        write_subsets(job, source, missing, published)
    for split in unfinished:
        _check_size(job, split, published)
    for split in SPLITS:
        # Again, in case a run was killed while it tidied up.
        finish_audio(job.folder / split)


def _missing_bytes(folder: Path, subset: Subset) -> int:
    """About how much is still to be written: audio takes as much as it does in the archive."""
    discard_unfinished(folder)
    shards = [folder / f"{name}{SUFFIX}" for name in part_names(subset)]
    return max(0, (subset.size or 0) - sum(path.stat().st_size for path in shards if path.exists()))


def _check_size(job: Preparation, split: str, published: LibriSpeechFiles) -> None:
    """Raises DataError unless the audio of a split is as much as it should be."""
    folder, expected = job.folder / split, published.split_sizes[split]
    parts = read_parts(folder)
    kept, dropped = (sum(len(lines) for lines in some) for some in zip(*((p.transcripts, p.dropped) for p in parts)))
    skipped = [line for part in parts for line in part.skipped]
    if kept + len(skipped) != expected:
        raise DataError(
            f"The {split} split came out with {kept + len(skipped)} utterances instead of {expected}, beside {dropped} "
            f"that are too long; delete {folder} and run the same command again."
        )
    hours = sum(sum(part.num_samples) for part in parts) / SAMPLE_RATE / 3_600
    job.report(
        f"{split}: {kept:,} utterances, {hours:.1f} hours of audio; {dropped:,} are left out for more than "
        f"{published.max_characters} characters or {published.max_samples:,} samples."
    )
    if skipped:
        job.report(f"Damaged utterances that were left out: {len(skipped)}, named in {skipped_of(folder)}.")


def _write_tokens(job: Preparation, given: Path | None, published: LibriSpeechFiles) -> None:
    """Writes the tokens that are not there yet: with the tokenizer of an earlier run, a given one or one it trains."""
    path, origin = job.folder / TOKENIZER, "that of an earlier run"
    if not path.exists():
        # Whatever tokens there are, they are another's.
        for split in SPLITS:
            discard_tokens(job.folder / split)
        if given:
            origin = f"a copy of {given}"
            with writing(path) as temporary:
                shutil.copyfile(given, temporary)
        else:
            texts = list(_tokenizer_text(job.folder / "train", published))
            origin = f"trained on {len(texts):,} transcripts of {published.tokenizer_subset}"
            job.report(f"Training a tokenizer of {published.vocab_size:,} tokens on {len(texts):,} transcripts.")
            train_tokenizer(texts, path, published.vocab_size)
    job.report(f"The tokenizer, {path}, is {origin}; SHA-256 {file_sha256(path)}.")
    tokenizer = Tokenizer.load(path, published.vocab_size)
    for split in SPLITS:
        if not has_tokens(job.folder / split):
            job.report(f"Turning the transcripts of the {split} split into tokens.")
            try:
                write_tokens(job.folder / split, tokenizer, published.max_tokens)
            except UnfitTokenizer:
                # It is not what the next run should go on with.
                remove(path)
                raise


def _tokenizer_text(folder: Path, published: LibriSpeechFiles) -> Iterator[str]:
    """What a tokenizer is trained on: transcripts by ID, so that it does not depend on their order in the archive."""
    subset, left = f"{published.tokenizer_subset}/", published.tokenizer_characters
    for name, text in sorted(read_transcripts(folder, with_dropped=True)):
        if name.startswith(subset):
            left -= len(text)
            if left < 0:
                return
            yield text
