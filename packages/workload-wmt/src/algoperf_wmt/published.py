"""The published files of WMT's German and English texts, and whether a folder holds them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from algoperf.data.archives import Archive
from algoperf.data.preparation import DataError

_COMMAND = "algoperf-orchestrate data prepare wmt --scale full --source FOLDER"


@dataclass(frozen=True, kw_only=True)
class WmtArchive(Archive):
    """A published archive.

    Attributes:
        url: where it is.
    """

    url: str


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A text and its translation, sentence by sentence.

    Attributes:
        name: of the corpus.
        archive: tar.gz that holds both.
        german: the German text's name in it; ends in .sgm where sentences are SGML's segments and not lines.
        english: the English text's name in it.
    """

    name: str
    archive: WmtArchive
    german: str
    english: str


@dataclass(frozen=True, kw_only=True)
class WmtFiles:
    """What the data is made of, and what has to come out.

    Attributes:
        corpora: of each split, in the order of its pairs.
        split_sizes: pairs per split, without those of which a side is empty.
        vocab_size: of the tokenizer.
        max_length: tokens that a side of an evaluated pair may have.
        tokenizer_bytes: of text that the tokenizer is trained on.
    """

    corpora: Mapping[str, Sequence[Corpus]]
    split_sizes: Mapping[str, int]
    vocab_size: int
    max_length: int
    tokenizer_bytes: int


def _archive(url: str, size: int, sha256: str) -> WmtArchive:
    return WmtArchive(
        url=url,
        name=url.rpartition("/")[2],
        obtain=f"download {url} into the folder of the others, and run `{_COMMAND}`",
        size=size,
        digest=f"sha256:{sha256}",
    )


def _lines(name: str, prefix: str, archive: WmtArchive) -> Corpus:
    return Corpus(name=name, archive=archive, german=f"{prefix}.de", english=f"{prefix}.en")


_EUROPARL = _archive(
    "http://www.statmt.org/wmt13/training-parallel-europarl-v7.tgz",
    657_632_379,
    "0224c7c710c8a063dfd893b0cc0830202d61f4c75c17eb8e31836103d27d96e7",
)
_COMMON_CRAWL = _archive(
    "http://www.statmt.org/wmt13/training-parallel-commoncrawl.tgz",
    918_311_367,
    "c7a74e2ea01ac6c920123108627e35278d4ccb5701e15428ffa34de86fa3a9e5",
)
_NEWS_COMMENTARY = _archive(
    "http://data.statmt.org/wmt17/translation-task/training-parallel-nc-v12.tgz",
    168_591_139,
    "2b45f30ef1d550d302fd17dd3a5cbe19134ccc4c2cf50c2dae534aee600101a2",
)
_RAPID = _archive(
    "http://data.statmt.org/wmt18/translation-task/rapid2016.tgz",
    161_050_516,
    "41557dd5d8f0ed3a6d98bce3b798b1a9d3b68361eb99d902329ddbb943a6b55a",
)
_DEV = _archive(
    "http://data.statmt.org/wmt19/translation-task/dev.tgz",
    38_654_961,
    "7a7deccf82ebb05ba508dba5eb21356492224e8f630ec4f992132b029b4b25e7",
)

PUBLISHED = WmtFiles(
    corpora={
        "train": (
            _lines("europarl-v7", "training/europarl-v7.de-en", _EUROPARL),
            _lines("commoncrawl", "commoncrawl.de-en", _COMMON_CRAWL),
            _lines("news-commentary-v12", "training/news-commentary-v12.de-en", _NEWS_COMMENTARY),
            _lines("rapid2016", "rapid2016.de-en", _RAPID),
        ),
        "validation": (_lines("newstest2013", "dev/newstest2013", _DEV),),
        "test": (
            Corpus(
                name="newstest2014",
                archive=_DEV,
                german="dev/newstest2014-deen-src.de.sgm",
                english="dev/newstest2014-deen-ref.en.sgm",
            ),
        ),
    },
    split_sizes={"train": 5_906_184, "validation": 3_000, "test": 3_003},
    vocab_size=32_000,
    max_length=256,
    tokenizer_bytes=10_000_000,
)


def check_source(source: Path | None, archives: Iterable[WmtArchive]) -> Path:
    """The source, if it is a folder with these files. Raises DataError, with what to do, if it is not."""
    missing = [archive for archive in archives if source is None or not (source / archive.name).is_file()]
    remedy = f"download {', '.join(archive.url for archive in missing)} into it and run `{_COMMAND}`"
    if source is None:
        raise DataError(f"Preparing this data needs a folder with the published files; {remedy}.")
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; name the one with the published files: {remedy}.")
    if missing:
        names = ", ".join(archive.name for archive in missing)
        raise DataError(f"There is no {names} in {source}; {remedy}.")
    return source
