"""Prepares a second set of mini data: prompts of a telephone exchange, which one person reads.

They come with Debian's packages of Asterisk, under CC BY-SA 3.0; apt fetches them. Because they are only twelve
minutes, training also has what they say in the synthetic voices of `mini`. What is evaluated is the person alone, with
sentences that training has not heard.
"""

import gzip
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from algoperf.data.files import remove
from algoperf.data.preparation import DataError, Preparation
from algoperf.data.tokenizer import TOKENIZER, Tokenizer, train_tokenizer
from algoperf_librispeech.espeak import Line
from algoperf_librispeech.flac import encode
from algoperf_librispeech.mini import VOICES, fits
from algoperf_librispeech.spec import SAMPLE_RATE, Utterances
from algoperf_librispeech.store import SPLITS, Utterance, has_tokens, prepared_files, write_split
from algoperf_librispeech.synthesis import resampled, speak

PACKAGES = ("asterisk-core-sounds-en", "asterisk-core-sounds-en-wav")
OPTIONS = Utterances(vocab_size=31, max_samples=4 * SAMPLE_RATE, max_tokens=80)
# What packages of this version come to.
VERSION = "1.6.1"
SPLIT_SIZES = {"train": 2_507, "validation": 81, "test": 87}
_REMEDY = f"run `apt-get download {' '.join(PACKAGES)}` on a machine with Debian, and name the folder with --source"
_DIGITS = "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE".split()
# In percent, for validation and as much for testing.
_SHARE = 18
_RATE, _PITCH = 140, 50


class Prompt(NamedTuple):
    """A recording, and what is said.

    Attributes:
        name: of the recording.
        text: words in capital letters.
        samples: int16, `SAMPLE_RATE`.
    """

    name: str
    text: str
    samples: np.ndarray


def prepare_debian(job: Preparation) -> list[Path]:
    """Turns the packages into three splits of audio and a tokenizer of characters.

    A source is a folder with the packages; without one, apt fetches them.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: the packages cannot be had or read, or are of another version, or there is no room.
    """
    download = job.folder / "download"
    if any(not has_tokens(job.folder / split) for split in SPLITS):
        # What an interrupted run has left may be of other packages, and of another tokenizer.
        for path in (download, job.folder / TOKENIZER, *(job.folder / split for split in SPLITS)):
            remove(path)
        prompts = sorted(_prompts(_unpacked(job.source or _fetch(job, download), download)))
        tokenizer = job.folder / TOKENIZER
        train_tokenizer((prompt.text for prompt in prompts), tokenizer, OPTIONS.vocab_size, kind="char")
        for split in SPLITS:
            job.report(f"Writing the {split} split.")
            chosen = [prompt for prompt in prompts if split_of(prompt.text) == split]
            utterances = [Utterance(one.name, encode(one.samples), len(one.samples), one.text) for one in chosen]
            if split == "train":
                utterances += _spoken({prompt.text for prompt in chosen})
            if len(utterances) != SPLIT_SIZES[split]:
                raise DataError(
                    f"The {split} split came out with {len(utterances)} utterances in place of {SPLIT_SIZES[split]}: "
                    f"these are not the packages of version {VERSION}; {_REMEDY}."
                )
            loaded = Tokenizer.load(tokenizer, OPTIONS.vocab_size)
            write_split(job.folder / split, utterances, loaded, OPTIONS.max_tokens)
    shutil.rmtree(download, ignore_errors=True)
    return prepared_files(job.folder)


def split_of(text: str) -> str:
    """The split that a text belongs to; several prompts may say the same."""
    percent = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 100
    if percent < 2 * _SHARE:
        return "validation" if percent < _SHARE else "test"
    return "train"


def words_of(text: str) -> str | None:
    """What is said, in capital letters; None if the text is a description, or has numbers of several digits."""
    if re.search(r'[][<>()*#"]|\d\d', text):
        return None
    spelt = re.sub(r"\d", lambda digit: _DIGITS[int(digit[0])], text.upper())
    return " ".join(re.findall(r"[A-Z]+(?:'[A-Z]+)*", spelt)) or None


def _fetch(job: Preparation, folder: Path) -> Path:
    if shutil.which("apt-get") is None:
        raise DataError(f"There is no apt-get here to fetch the recordings with; {_REMEDY}.")
    job.report(f"Fetching {' and '.join(PACKAGES)} with apt-get.")
    folder.mkdir(parents=True, exist_ok=True)
    result = subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DataError(f"apt-get could not fetch the recordings ({reason}); {_REMEDY}.")
    return folder


def _unpacked(source: Path, folder: Path) -> Path:
    """The contents of both packages, none of whose programs run."""
    contents = folder / "contents"
    for package in PACKAGES:
        files = sorted(source.glob(f"{package}_*.deb"))
        if not files:
            raise DataError(f"There is no package {package} in {source}; {_REMEDY}.")
        contents.mkdir(parents=True, exist_ok=True)
        command = ["dpkg-deb", "-x", str(files[-1]), str(contents)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            reason = (result.stderr.strip().splitlines() or ["no reason given"])[0]
            raise DataError(f"{files[-1]} cannot be unpacked ({reason}); {_REMEDY}.")
    return contents


def _prompts(contents: Path) -> Iterator[Prompt]:
    """The recordings that say words, and fit into a row."""
    doc = contents / "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
    with gzip.open(doc, "rt", encoding="utf-8") as lines:
        texts = dict(line.strip().split(": ", 1) for line in lines if ": " in line and not line.startswith(";"))
    for name, text in texts.items():
        path, words = contents / f"usr/share/asterisk/sounds/en_US_f_Allison/{name}.wav", words_of(text)
        if words and path.exists():
            audio = resampled(*soundfile.read(path, dtype="int16"))
            if fits(words, len(audio), OPTIONS):
                yield Prompt(name, words, audio)


def _spoken(texts: set[str]) -> Iterator[Utterance]:
    lines = [Line(text, voice, _RATE, _PITCH) for text in sorted(texts) for voice in VOICES]
    for number, (line, samples) in enumerate(zip(lines, speak(lines), strict=True)):
        if fits(line.text, len(samples), OPTIONS):
            yield Utterance(f"spoken-{number:04}", encode(samples), len(samples), line.text)
