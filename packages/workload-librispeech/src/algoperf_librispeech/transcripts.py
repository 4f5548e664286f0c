"""Reads the utterances of a published archive: `SPEAKER-CHAPTER-NUMBER.flac`, and beside it the chapter's transcripts.

A line of `SPEAKER-CHAPTER.trans.txt` is the ID of an utterance, a blank, and what is said.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from algoperf.data.preparation import DataError
from algoperf.data.tar_gz import stream_tar_gz
from algoperf_librispeech.published import Subset

_AUDIO, _TEXT = ".flac", ".trans.txt"


class Recording(NamedTuple):
    """An utterance as it is in an archive.

    Attributes:
        name: of the subset and the utterance, such as "dev-clean/84-121123-0000".
        flac: its file.
        text: its transcript.
    """

    name: str
    flac: bytes
    text: str


def read_recordings(path: Path, subset: Subset) -> Iterator[Recording]:
    """The utterances of an archive, in the order in which both their audio and their transcripts have been read.

    Args:
        path: the archive; read once, from its beginning.
        subset: what it should hold.

    Raises:
        DataError: it cannot be read; or what it holds does not fit together, or is too much or too little. This is
            known at the end.
    """
    number = 0
    for recording in _paired(path, subset):
        number += 1
        yield recording
    if number != subset.num_utterances:
        raise DataError(f"{path} holds {number} utterances and should hold {subset.num_utterances}; {subset.obtain}.")


def _paired(path: Path, subset: Subset) -> Iterator[Recording]:
    """Each file with its transcript, whichever comes first."""
    # Until the other one comes. By folder and ID.
    audio: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    for name, content in stream_tar_gz(path):
        if name.endswith(_AUDIO):
            new: Iterable[str] = [name.removesuffix(_AUDIO)]
            audio[name.removesuffix(_AUDIO)] = content
        elif name.endswith(_TEXT):
            new = read_transcripts(name, content, f"{path}; {subset.obtain}.")
            texts |= new
        else:
            continue
        for key in new:
            if key in audio and key in texts:
                yield Recording(f"{subset.label}/{PurePosixPath(key).name}", audio.pop(key), texts.pop(key))
    if audio:
        raise DataError(f"{next(iter(audio))}{_AUDIO} has no transcript in {path}; {subset.obtain}.")
    if texts:
        raise DataError(f"{next(iter(texts))} has a transcript and no audio in {path}; {subset.obtain}.")


def read_transcripts(name: str, content: bytes, rest: str) -> dict[str, str]:
    """The transcripts of a chapter.

    Args:
        name: of the file, in its archive.
        content: of the file.
        rest: how messages end: which archive it is, and what to do.

    Returns:
        Texts by folder and ID.

    Raises:
        DataError: a line is not an ID of the chapter and a text, or is the second one of an utterance.
    """
    folder, chapter = PurePosixPath(name).parent, PurePosixPath(name).name.removesuffix(_TEXT)
    texts: dict[str, str] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        where = f"Line {number} of {name}"
        try:
            utterance, _, text = line.decode().strip().partition(" ")
        except UnicodeDecodeError as error:
            raise DataError(f"{where} is not UTF-8 ({error}) in {rest}") from error
        if not utterance.startswith(f"{chapter}-"):
            raise DataError(f"{where} does not begin with the ID of an utterance of {chapter} in {rest}")
        if not text.strip():
            raise DataError(f"{where} has no text in {rest}")
        if f"{folder}/{utterance}" in texts:
            raise DataError(f"{where} is the second transcript of {utterance} in {rest}")
        texts[f"{folder}/{utterance}"] = text.strip()
    return texts
