"""Utterances on disk: FLAC files as they were published, laid end to end, and their transcripts; numpy and soundfile.

A split is a folder of shards, `NAME.arrayrecord`, whose records are FLAC files. Audio is neither decoded for storage
nor encoded again, so 960 hours take about 57 GB. Beside the shards lie

- `utterances`: `transcripts.txt`, a line "ID TEXT" per utterance in the order of the sorted shards; `samples.npy`, how
  long each utterance is; `counts.npy`, how many records each shard has; `dropped.txt`, the transcripts of utterances
  that are too long; and `skipped.txt`, which names damaged ones;
- `tokens`: the transcripts as tokens, each with END behind; see `algoperf.data.token_files`.

Nothing but `tokens` depends on the tokenizer.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from algoperf.data.files import remove, writing
from algoperf.data.preparation import DataError
from algoperf.data.record_shards import SUFFIX, RecordShards, shards_in, write_shard
from algoperf.data.token_files import StoredSentences, files_of, is_saved, save_sentences
from algoperf.data.tokenizer import TOKENIZER, Tokenizer
from algoperf_librispeech.flac import DamagedAudio, decode
from algoperf_librispeech.spec import BLANK

# The small ones first: what is wrong with utterances shows early.
SPLITS = ("test", "validation", "train")
# What belongs to the utterances of a split, tokens apart; a folder, and what is in it.
_UTTERANCES = "utterances"
_TRANSCRIPTS, _DROPPED, _SKIPPED = "transcripts.txt", "dropped.txt", "skipped.txt"
_SAMPLES, _COUNTS = "samples.npy", "counts.npy"
_TOKENS = "tokens"
_REMEDY = "delete the folder of the prepared data and prepare it again"
_OTHER_TOKENIZER = "if it was given, use another one or none, and else prepare the data again from its source"


class UnfitTokenizer(DataError):
    """A tokenizer that cannot make tokens of a transcript, or makes too many."""


class Utterance(NamedTuple):
    """An utterance as it was published.

    Attributes:
        name: its ID; no blanks.
        flac: its file.
        num_samples: how long it is.
        text: its transcript; one line.
    """

    name: str
    flac: bytes
    num_samples: int
    text: str


@dataclass(frozen=True)
class Part:
    """What belongs to the utterances of a shard of an unfinished split.

    Attributes:
        transcripts: a line "ID TEXT" for each utterance.
        num_samples: of each utterance.
        dropped: a line "ID TEXT" for each utterance that was left out because it is too long.
        skipped: damaged utterances that were left out, and why; each a line.
    """

    transcripts: list[str] = field(default_factory=list)
    num_samples: list[int] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def write_part(folder: Path, name: str, utterances: Iterable[Utterance], part: Part) -> None:
    """Writes some utterances of a split as a shard. They are read one by one.

    Args:
        folder: the split's.
        name: of the part; parts are in the order of their names.
        utterances: what is in it.
        part: what was left out, which may grow while `utterances` are read; these are added to it.

    Raises:
        DataError: there is no room, or something else is wrong with the disk.
    """

    def records() -> Iterator[bytes]:
        for utterance in utterances:
            part.transcripts.append(f"{utterance.name} {utterance.text}")
            part.num_samples.append(utterance.num_samples)
            yield utterance.flac

    def write_rest() -> None:
        with writing(_sidecar(folder, name)) as temporary:
            temporary.write_text(json.dumps(asdict(part)), encoding="utf-8")

    write_shard(folder / f"{name}{SUFFIX}", records(), write_rest)


def read_part(folder: Path, name: str) -> Part | None:
    """What belongs to a part, or None if it is not written."""
    path = _sidecar(folder, name)
    if not path.exists() or not (folder / f"{name}{SUFFIX}").exists():
        return None
    return Part(**json.loads(path.read_text(encoding="utf-8")))


def finish_audio(folder: Path) -> None:
    """Gathers what belongs to the parts of a split; from then on its audio is complete, and says so."""
    if not has_audio(folder):
        parts = read_parts(folder)
        with writing(folder / _UTTERANCES) as temporary:
            temporary.mkdir()
            _write_lines(temporary / _TRANSCRIPTS, chain.from_iterable(part.transcripts for part in parts))
            _write_lines(temporary / _DROPPED, chain.from_iterable(part.dropped for part in parts))
            _write_lines(temporary / _SKIPPED, chain.from_iterable(part.skipped for part in parts))
            np.save(temporary / _SAMPLES, np.concatenate([np.array(part.num_samples, np.int32) for part in parts]))
            np.save(temporary / _COUNTS, np.array([len(part.num_samples) for part in parts], np.int64))
    for path in shards_in(folder):
        remove(_sidecar(folder, path.stem))
    discard_unfinished(folder)


def has_audio(folder: Path) -> bool:
    """Whether the audio of a split is complete."""
    return (folder / _UTTERANCES).exists()


def discard_unfinished(folder: Path) -> None:
    """Removes what a killed run was about to write."""
    for path in folder.glob(".*.tmp"):
        remove(path)


def read_parts(folder: Path) -> list[Part]:
    """What is in a split whose audio is not finished."""
    return [part for path in shards_in(folder) if (part := read_part(folder, path.stem))]


def read_transcripts(folder: Path, *, with_dropped: bool = False) -> list[tuple[str, str]]:
    """ID and text of each utterance of a split whose audio is complete; those that were dropped come last."""
    names = [_TRANSCRIPTS, _DROPPED] if with_dropped else [_TRANSCRIPTS]
    lines = (line.partition(" ") for file in names for line in _lines(folder / _UTTERANCES / file))
    return [(name, text) for name, _, text in lines]


def write_tokens(folder: Path, tokenizer: Tokenizer, max_tokens: int) -> None:
    """Writes the transcripts of a split whose audio is complete as tokens.

    Args:
        folder: the split's.
        tokenizer: makes tokens of text.
        max_tokens: what a transcript may have, its end included.

    Raises:
        UnfitTokenizer: it does not know a character, or a transcript has more tokens.
        DataError: there is no room, or something else is wrong with the disk.
    """
    names, texts = zip(*read_transcripts(folder), strict=True)
    sentences = StoredSentences.of(tokenizer.encode(texts))
    unknown = np.flatnonzero(sentences.ids == BLANK)
    if len(unknown):
        number = int(np.searchsorted(sentences.ends, unknown[0], side="right")) - 1
        characters = [c for c in dict.fromkeys(texts[number]) if BLANK in tokenizer.encode([c])[0]]
        raise UnfitTokenizer(
            f"The transcript of {names[number]} has characters that the tokenizer does not know: "
            f"{' '.join(map(repr, characters))}; {_OTHER_TOKENIZER}."
        )
    longest = int(sentences.lengths.argmax())
    if sentences.lengths[longest] > max_tokens:
        raise UnfitTokenizer(
            f"The transcript of {names[longest]} has {sentences.lengths[longest]} tokens, its end included, and may "
            f"have {max_tokens}; {_OTHER_TOKENIZER}."
        )
    save_sentences(folder / _TOKENS, [sentences])


def write_split(folder: Path, utterances: Iterable[Utterance], tokenizer: Tokenizer, max_tokens: int) -> None:
    """Writes a whole split, unless it is there. Raises DataError as `write_part` and `write_tokens` do."""
    if not has_audio(folder):
        write_part(folder, folder.name, utterances, Part())
    finish_audio(folder)
    if not has_tokens(folder):
        write_tokens(folder, tokenizer, max_tokens)


def has_tokens(folder: Path) -> bool:
    """Whether the transcripts of a split are tokens."""
    return is_saved(folder / _TOKENS)


def discard_tokens(folder: Path) -> None:
    """Removes the tokens of a split, which another tokenizer has made."""
    remove(folder / _TOKENS)


def prepared_files(folder: Path) -> list[Path]:
    """All files of prepared data: those of each split, and the tokenizer."""
    return [*chain.from_iterable(_split_files(folder / split) for split in SPLITS), folder / TOKENIZER]


def num_skipped(folder: Path) -> int:
    """How many damaged training utterances were left out of the data set in `folder`."""
    return len(_lines(skipped_of(folder / "train")))


def skipped_of(folder: Path) -> Path:
    """The file that names the utterances which were left out of a split because they are damaged, one a line."""
    return folder / _UTTERANCES / _SKIPPED


class StoredUtterances:
    """The utterances of a split, in any order. Threads may share one; a copy in another process opens files anew.

    Attributes:
        num_samples: of each utterance [N], int32.
        num_tokens: of each transcript, its end included [N], int32.
    """

    def __init__(self, folder: Path):
        """Opens a split. Raises DataError if it is not finished, or its files do not belong together."""
        self._folder = folder
        try:
            self.num_samples: np.ndarray = np.load(folder / _UTTERANCES / _SAMPLES)
            counts = np.load(folder / _UTTERANCES / _COUNTS)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{folder} holds no finished split ({error}); {_REMEDY}.") from error
        self._sentences = StoredSentences.load(folder / _TOKENS)
        paths = shards_in(folder)
        sizes = {len(self.num_samples), len(self._sentences), int(counts.sum())}
        if len(counts) != len(paths) or len(sizes) != 1:
            raise DataError(f"The files in {folder} are not those it was written with; {_REMEDY}.")
        self._audio = RecordShards(paths, counts)

    @classmethod
    def load(cls, folder: Path) -> "StoredUtterances":
        """The split in a folder; see the constructor."""
        return cls(folder)

    def __len__(self) -> int:
        return len(self.num_samples)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._folder,)

    @property
    def num_tokens(self) -> np.ndarray:
        """Tokens of each transcript, its end included [N], int32."""
        return self._sentences.lengths

    def audio(self, numbers: np.ndarray) -> list[np.ndarray]:
        """The samples of utterances [any number], int16 each.

        Raises:
            DataError: one is damaged, of another kind than 16 kHz mono, or of another length than it was.
        """
        return [self._decoded(int(number), flac) for number, flac in zip(numbers, self._audio.read(numbers))]

    def tokens(self, numbers: np.ndarray) -> np.ndarray:
        """The tokens of the transcripts of utterances [any number], end to end; uint16."""
        return self._sentences.tokens(numbers)

    def transcripts(self) -> list[tuple[str, str]]:
        """ID and text of each utterance. Read from disk."""
        return read_transcripts(self._folder)

    def _decoded(self, number: int, flac: bytes) -> np.ndarray:
        try:
            samples = decode(flac)
            if len(samples) != self.num_samples[number]:
                raise DamagedAudio(f"it has {len(samples)} samples instead of {self.num_samples[number]}")
        except DamagedAudio as error:
            name = self.transcripts()[number][0]
            raise DataError(
                f"The audio of {name}, record {self._audio.place(number)}, is damaged ({error}); delete the folder of "
                "the prepared data and prepare it again."
            ) from error
        return samples


def _split_files(folder: Path) -> list[Path]:
    return [*shards_in(folder), *sorted((folder / _UTTERANCES).iterdir()), *files_of(folder / _TOKENS)]


def _sidecar(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _lines(path: Path) -> list[str]:
    # Not `splitlines`, which ends lines at other characters, too.
    return path.read_text(encoding="utf-8").split("\n")[:-1]
