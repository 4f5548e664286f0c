"""Texts and their translations: out of published archives into files, and from files sentence by sentence."""

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from algoperf.data.files import writing
from algoperf.data.preparation import DataError
from algoperf_wmt.published import Corpus

_SEGMENT = re.compile(r'<seg id="\d+">(.*)</seg>')
_BLOCK_BYTES = 2**20


class Sentence(NamedTuple):
    """A sentence and the number of its line, from 1."""

    text: str
    line: int


class Pair(NamedTuple):
    """A sentence and its translation."""

    german: Sentence
    english: Sentence


def text_files(corpus: Corpus, folder: Path) -> tuple[Path, Path]:
    """Where the German and the English text of a corpus lie in the folder of texts."""
    return folder / PurePosixPath(corpus.german).name, folder / PurePosixPath(corpus.english).name


def extract(archive: Path, members: Mapping[str, Path]) -> None:
    """Writes files of a tar.gz, by their names there, each whole or not at all.

    Raises:
        DataError: the archive is damaged or lacks one of them, or there is no room for them.
    """
    missing = dict(members)
    # Unzipped by gzip, which notices where a file breaks off; tarfile's own unzipping does not.
    with _named(archive), gzip.open(archive) as unzipped, tarfile.open(fileobj=unzipped, mode="r|") as tar:
        for info in tar:
            target = missing.pop(str(PurePosixPath(info.name)), None)
            if target:
                content = tar.extractfile(info)
                if content is None:
                    raise tarfile.ReadError(f"{info.name} is no file")
                _copy(archive, content, target)
            if not missing:
                return
    raise DataError(f"{archive} lacks {', '.join(missing)}; download it again.")


def _copy(archive: Path, content: IO[bytes], target: Path) -> None:
    with writing(target) as temporary, temporary.open("wb") as file:
        while True:
            with _named(archive):
                block = content.read(_BLOCK_BYTES)
            if not block:
                break
            file.write(block)


@contextmanager
def _named(archive: Path) -> Iterator[None]:
    """Says in which archive an error is."""
    try:
        yield
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{archive} cannot be read ({error}); if it is damaged, download it again.") from error


def read_pairs(corpus: Corpus, folder: Path) -> Iterator[Pair]:
    """The pairs of a corpus of which no side is empty.

    Raises:
        DataError: one text has more sentences than the other, or is not UTF-8.
    """
    texts = text_files(corpus, folder)
    for german, english in zip_longest(*map(read_sentences, texts)):
        if german is None or english is None:
            raise DataError(_not_parallel(corpus, texts))
        if german.text and english.text:
            yield Pair(german, english)


def read_sentences(path: Path) -> Iterator[Sentence]:
    r"""The lines of a text, or the segments of one in SGML.

    Lines end with "\n" alone, as `str.splitlines` would not have it: other characters that end lines occur inside
    sentences. Segments are found by a regular expression, since the files are no valid SGML; entities stay as they are.

    Raises:
        DataError: the text is not UTF-8.
    """
    is_sgml = path.suffix == ".sgm"
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.removesuffix(b"\n").decode()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"Line {number} of {path} is not UTF-8 ({error}); delete it and run the same command again."
                ) from error
            if not is_sgml:
                yield Sentence(text, number)
            elif segment := _SEGMENT.match(text):
                yield Sentence(segment[1], number)


def _not_parallel(corpus: Corpus, texts: tuple[Path, Path]) -> str:
    counts, last = [], []
    for path in texts:
        lines = [sentence.line for sentence in read_sentences(path)]
        counts.append(len(lines))
        last.append(lines[-1] if lines else 0)
    shorter = counts.index(min(counts))
    return (
        f"{corpus.german} and {corpus.english} of {corpus.archive.name} have {counts[0]} and {counts[1]} sentences "
        f"instead of as many (the last of {texts[shorter].name} is in line {last[shorter]}); {corpus.archive.obtain}."
    )
