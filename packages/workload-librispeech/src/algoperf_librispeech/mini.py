"""Prepares the mini data: short sentences of a few words, which eSpeak NG speaks in several voices.

It is synthetic speech, and the sentences mean nothing; what is known of real speech cannot be seen with it. Half of the
sentences that are evaluated are said in voices that training has not heard, and none of them is in training.
"""

from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from algoperf.data.preparation import DataError, Preparation
from algoperf.data.tokenizer import TOKENIZER, Tokenizer, train_tokenizer
from algoperf_librispeech.espeak import Line
from algoperf_librispeech.flac import encode
from algoperf_librispeech.log_mel import num_frames
from algoperf_librispeech.spec import Utterances
from algoperf_librispeech.store import SPLITS, Utterance, prepared_files, write_split
from algoperf_librispeech.synthesis import speak

LEXICON = (
    "A AND BIG BLACK BLUE BOOK CLOSE COME DOOR DOWN EIGHT FIND FIRE FIVE FOUR GIVE GO GREEN HOUSE IN LEFT LIGHT MUSIC "
    "MY NEW NINE OFF OLD ON ONE OPEN RED RIGHT SEVEN SIX SMALL START STOP TABLE TAKE TEN THE THREE TURN TWO UP WATER "
    "WHITE WINDOW WITH YOUR"
).split()
# Those with an echo are missing: what they say is never the same twice.
VOICES = ("en-us+m1", "en-us+m3", "en-us+m4", "en-us+m5", "en-us+m7", "en-us+f1", "en-us+f4", "en-us+linda")
HELD_OUT_VOICES = ("en-us+m2", "en-us+belinda")
SPLIT_SIZES = {"train": 4_000, "validation": 700, "test": 700}
OPTIONS = Utterances(vocab_size=27, max_samples=32_000, max_tokens=32)
_WORDS = (2, 4)
_RATES = (115, 165)
_PITCHES = (35, 65)
# Some sentences take longer than a row, or have hardly more frames than tokens.
_SPARE = 1.1
_MAX_DENSITY = 0.9
_SEED = 0


class Sentence(NamedTuple):
    """What is said in which split."""

    split: str
    line: Line


def prepare_mini(job: Preparation) -> list[Path]:
    """Has sentences spoken, and writes three splits of them and a tokenizer of characters.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: there is no room, or something else is wrong with the disk.
    """
    sentences = draw_sentences()
    tokenizer = job.folder / TOKENIZER
    if not tokenizer.exists():
        train_tokenizer((sentence.line.text for sentence in sentences), tokenizer, OPTIONS.vocab_size, kind="char")
    for split in SPLITS:
        job.report(f"Having {SPLIT_SIZES[split]:,} sentences spoken for the {split} split.")
        lines = [sentence.line for sentence in sentences if sentence.split == split]
        spoken = _utterances(split, lines)
        write_split(job.folder / split, spoken, Tokenizer.load(tokenizer, OPTIONS.vocab_size), OPTIONS.max_tokens)
    return prepared_files(job.folder)


def draw_sentences() -> list[Sentence]:
    """More sentences than each split has, no two of the same words; always the same ones."""
    # Of all generators of random numbers this is the one that promises never to change.
    rng = np.random.RandomState(_SEED)
    sentences, seen = [], set()
    for split, size in SPLIT_SIZES.items():
        for number in range(int(size * _SPARE)):
            text = None
            while text is None or text in seen:
                text = " ".join(
                    LEXICON[i] for i in rng.randint(len(LEXICON), size=rng.randint(_WORDS[0], _WORDS[1] + 1))
                )
            seen.add(text)
            voices = HELD_OUT_VOICES if split != "train" and number % 2 else VOICES
            voice = voices[rng.randint(len(voices))]
            rate, pitch = (int(rng.randint(low, high + 1)) for low, high in (_RATES, _PITCHES))
            sentences.append(Sentence(split, Line(text, voice, rate, pitch)))
    return sentences


def _utterances(split: str, lines: list[Line]) -> Iterator[Utterance]:
    """The first of the lines that fit, as many as the split has. Raises DataError if too few do."""
    fitting = ((line.text, samples) for line, samples in zip(lines, speak(lines)) if fits(line.text, len(samples)))
    number = 0
    for number, (text, samples) in enumerate(islice(fitting, SPLIT_SIZES[split]), start=1):
        yield Utterance(f"{split}-{number:04}", encode(samples), len(samples), text)
    if number < SPLIT_SIZES[split]:
        raise DataError(
            f"Of the sentences of the {split} split only {number} fit into a row, in place of {SPLIT_SIZES[split]}: "
            "this voice is another one; install the version of espeakng-loader that this package asks for."
        )


def fits(text: str, num_samples: int, options: Utterances = OPTIONS) -> bool:
    """Whether there is room for audio in a row, and room for its tokens in the frames that the models give."""
    # A token for each character, for the space that SentencePiece puts before them, and for the end; and CTC needs a
    # frame between equal neighbours.
    num_tokens = len(text) + 2 + sum(one == other for one, other in pairwise(text))
    num_outputs = -(-num_frames(num_samples) // 4)
    return num_samples <= options.max_samples and num_tokens <= _MAX_DENSITY * num_outputs
