"""Prepares prose for the mini scale: descriptions of Debian's packages, in English and in German.

apt fetches them from the archive that the machine is set up for, into a folder of its own. They are under the licences
of the packages: for use, not for passing on. What is prepared depends on Debian's release, and so does its checksum.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from algoperf.data.preparation import DataError, Preparation
from algoperf_wmt.small_corpus import Rules, Text, write_corpus
from algoperf_wmt.store import prepared_files

RULES = Rules(
    split_sizes={"train": 29_000, "validation": 1_200, "test": 1_200},
    share=6,
    vocab_size=4_000,
    max_characters=200,
    max_shared=0.4,
)
_REMEDY = (
    "run `apt-get -o Acquire::Languages=en,de -o Acquire::GzipIndexes=false update` on a machine with Debian, and name "
    "the folder with its files *_Translation-de and *_Translation-en, /var/lib/apt/lists, with --source"
)
_STANZA = re.compile(r"Package: (\S+)\nDescription-md5: (\S+)\nDescription-\w+: (.*)", re.DOTALL)
# Between a sentence's end and the next one's beginning.
_SENTENCES = re.compile(r'(?<=[.!?]) +(?=[A-ZÄÖÜ"„»])')


def prepare_debian(job: Preparation) -> list[Path]:
    """Turns descriptions of packages into three splits of tokens and a tokenizer; see `algoperf_wmt.small_corpus`.

    A source is a folder of apt's lists; without one, apt fetches them.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: there is no apt, it could not fetch the descriptions, or there are too few.
    """
    download = job.folder / "download"
    if any(not path.exists() for path in prepared_files(job.folder)):
        lists = job.source or _fetch(download, job)
        german, english = (_descriptions(lists, language) for language in ("de", "en"))
        texts = (text for key in sorted(german.keys() & english.keys()) for text in _pairs(key, german, english))
        write_corpus(job, texts, RULES)
    shutil.rmtree(download, ignore_errors=True)
    return prepared_files(job.folder)


def _fetch(folder: Path, job: Preparation) -> Path:
    """Apt's lists, fetched into a folder; the machine's own stay as they are."""
    if shutil.which("apt-get") is None:
        raise DataError(f"There is no apt-get here to fetch the descriptions with; {_REMEDY}.")
    job.report("Fetching the descriptions of Debian's packages with apt-get.")
    lists, cache = folder / "lists", folder / "cache"
    for path in (lists / "partial", cache / "archives" / "partial"):
        path.mkdir(parents=True, exist_ok=True)
    options = {
        "Acquire::Languages": "en,de",
        "Acquire::GzipIndexes": "false",
        "Dir::State::Lists": str(lists),
        "Dir::Cache": str(cache),
    }
    command = ["apt-get", *(f"-o{name}={value}" for name, value in options.items()), "update"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DataError(f"apt-get could not fetch the descriptions ({reason}); {_REMEDY}.")
    return lists


def _descriptions(lists: Path, language: str) -> dict[tuple[str, str], str]:
    """Descriptions by package and by the checksum of the English one, which a translation belongs to."""
    files = sorted(lists.glob(f"*_Translation-{language}"))
    if not files:
        raise DataError(f"There are no files *_Translation-{language} in {lists}; {_REMEDY}.")
    found = {}
    for file in files:
        # `newline`: what Python takes for the end of a line may stand within one.
        with file.open(encoding="utf-8", newline="\n") as stanzas:
            try:
                text = stanzas.read()
            except UnicodeDecodeError as error:
                raise DataError(f"{file} is not UTF-8 ({error}); {_REMEDY}.") from error
        for match in map(_STANZA.fullmatch, text.strip("\n").split("\n\n")):
            if match:
                found[match[1], match[2]] = match[3]
    return found


def _pairs(
    key: tuple[str, str], german: dict[tuple[str, str], str], english: dict[tuple[str, str], str]
) -> Iterator[Text]:
    """Sentences of a description, as far as both languages have as many of them."""
    sides = [list(_paragraphs(descriptions[key])) for descriptions in (german, english)]
    if len(sides[0]) != len(sides[1]):
        return
    for paragraphs in zip(*sides, strict=True):
        sentences = [_SENTENCES.split(paragraph) for paragraph in paragraphs]
        if len(sentences[0]) == len(sentences[1]):
            for sentence in zip(*sentences, strict=True):
                # Packages of one program share its name, and sentences that are nearly the same.
                yield Text(key[0].partition("-")[0], *sentence)


def _paragraphs(description: str) -> Iterator[str]:
    """The title, and the paragraphs of the text; lists are empty ones."""
    title, _, text = description.partition("\n")
    yield title.strip()
    for paragraph in text.split("\n .\n") if text else ():
        lines = paragraph.split("\n")
        # What is indented further is no running text.
        yield "" if any(line.startswith("  ") for line in lines) else " ".join(line.strip() for line in lines)
