"""Turns published archives into parts of a split, several archives at a time; finished parts are not made again."""

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from algoperf.data.preparation import DataError, Preparation
from algoperf.data.processors import num_processors
from algoperf_librispeech.flac import DamagedAudio, announced_samples, decode
from algoperf_librispeech.published import LibriSpeechFiles, Subset
from algoperf_librispeech.spec import SAMPLE_RATE
from algoperf_librispeech.store import Part, Utterance, read_part, write_part
from algoperf_librispeech.transcripts import Recording, read_recordings

# Utterances that a killed run loses at most, per archive.
_PART = 4_000
# Per archive, utterances that are decoded ahead of the one that is written.
_AHEAD_PER_PROCESSOR = 4


class _Stopped(Exception):
    """Another archive failed, or the user interrupts."""


def part_names(subset: Subset) -> list[str]:
    """The names of the parts that a subset is divided into."""
    number = max(1, -(-subset.num_utterances // _PART))
    return [f"{subset.label}-{part:04}" for part in range(number)]


def is_written(folder: Path, subset: Subset) -> bool:
    """Whether all parts of a subset are in the folder of its split."""
    return all(read_part(folder, name) for name in part_names(subset))


def write_subsets(
    job: Preparation, source: Path, subsets: list[tuple[str, Subset]], published: LibriSpeechFiles
) -> None:
    """Writes the parts that are not there yet.

    Args:
        job: says where to, and who is told how far it is.
        source: the folder of the archives.
        subsets: splits and subsets.
        published: what utterances are too long.

    Raises:
        DataError: an archive is not as it should be, or has damaged audio, or there is no room.
    """
    # Threads do: reading, unzipping, decoding and writing leave Python's lock alone.
    readers, decoders = ThreadPoolExecutor(len(subsets)), ThreadPoolExecutor(num_processors())
    work = _Work(job, published, decoders)
    try:
        for future in as_completed([readers.submit(work.write, source, split, subset) for split, subset in subsets]):
            future.result()
    finally:
        # Where one fails, or the user interrupts, the others are given up.
        work.stop.set()
        readers.shutdown()
        decoders.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Work:
    """What the archives have in common.

    Attributes:
        job: says where to.
        published: what utterances are too long.
        decoders: threads that decode audio.
        stop: is set if one fails.
        reporting: held while a line is reported.
    """

    job: Preparation
    published: LibriSpeechFiles
    decoders: ThreadPoolExecutor
    stop: threading.Event = field(default_factory=threading.Event)
    reporting: threading.Lock = field(default_factory=threading.Lock)

    def write(self, source: Path, split: str, subset: Subset) -> None:
        """Writes the parts of a subset that are not there yet."""
        folder, names = self.job.folder / split, part_names(subset)
        recordings = read_recordings(source / subset.name, subset)
        remedy = self._remedy(split, subset)
        seconds = 0.0
        for number, name in enumerate(names, start=1):
            # The last one to the very end of the archive, where it shows whether that is as it should be.
            some = recordings if number == len(names) else islice(recordings, _PART)
            part = read_part(folder, name)
            if part:
                self._pass_over(some)
            else:
                part = Part()
                write_part(folder, name, self._checked(some, part, remedy), part)
            seconds += sum(part.num_samples) / SAMPLE_RATE
            done = min(number * _PART, subset.num_utterances)
            self._report(
                f"{subset.label}: {done:,} of {subset.num_utterances:,} utterances are done, "
                f"{seconds / 3_600:.1f} hours of audio are stored."
            )

    def _remedy(self, split: str, subset: Subset) -> str | None:
        """What to do about damaged audio; None leaves it out."""
        if split != "train":
            # Metrics of fewer utterances would be metrics of another set.
            return f"evaluated utterances are never left out; check this machine's disk and memory, or {subset.obtain}"
        return None if self.job.skip_damaged else "pass --skip-damaged to leave out such utterances"

    def _pass_over(self, recordings: Iterator[Recording]) -> None:
        for _ in recordings:
            if self.stop.is_set():
                raise _Stopped

    def _checked(self, recordings: Iterator[Recording], part: Part, remedy: str | None) -> Iterator[Utterance]:
        """The utterances that are neither damaged nor too long; the others are added to `part`."""
        for recording, length in self._lengths(recordings):
            try:
                num_samples = length.result()
            except DamagedAudio as error:
                if remedy:
                    raise DataError(f"{recording.name}.flac is damaged: {error}; {remedy}.") from error
                part.skipped.append(f"{recording.name} ({error})")
                continue
            if num_samples is None:
                part.dropped.append(f"{recording.name} {recording.text}")
            else:
                yield Utterance(recording.name, recording.flac, num_samples, recording.text)

    def _lengths(self, recordings: Iterator[Recording]) -> Iterator[tuple[Recording, Future[int | None]]]:
        """Each recording with its length, which is found out ahead of what is asked for."""
        waiting: deque[tuple[Recording, Future[int | None]]] = deque()
        for recording in recordings:
            if self.stop.is_set():
                raise _Stopped
            waiting.append((recording, self.decoders.submit(self._length, recording)))
            if len(waiting) > _AHEAD_PER_PROCESSOR * num_processors():
                yield waiting.popleft()
        yield from waiting

    def _length(self, recording: Recording) -> int | None:
        """Samples of a recording; None if it is too long. Raises DamagedAudio."""
        too_long = len(recording.text) > self.published.max_characters
        if too_long or announced_samples(recording.flac) > self.published.max_samples:
            return None
        return len(decode(recording.flac))

    def _report(self, line: str) -> None:
        with self.reporting:
            self.job.report(line)
