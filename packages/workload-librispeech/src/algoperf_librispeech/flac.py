"""FLAC files in memory: 16-bit samples of one channel, as LibriSpeech was published."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import soundfile

from algoperf_librispeech.spec import SAMPLE_RATE

_PUBLISHED = ("FLAC", "PCM_16", 1, SAMPLE_RATE)
# What libsndfile says of a file that announces no samples: a FLAC file may leave open how long it is.
_UNKNOWN = 2**63 - 1
# A day; what announces more is damaged, and would only be found to have no room in memory.
_MOST = 24 * 3_600 * SAMPLE_RATE


class DamagedAudio(Exception):
    """What is wrong with a FLAC file, as a part of a sentence."""


def announced_samples(flac: bytes) -> int:
    """How many samples a file says that it has. Raises DamagedAudio unless it is FLAC of 16 bits, 16 kHz and mono."""
    with _opened(flac) as file:
        return int(file.frames)


def encode(samples: np.ndarray) -> bytes:
    """A file of samples, int16."""
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, "PCM_16", format="FLAC")
    return file.getvalue()


def decode(flac: bytes) -> np.ndarray:
    """The samples of a file, int16. Raises DamagedAudio if it is damaged, of another kind, or empty.

    A header that announces fewer samples than there are hides the others; the checksums of archives stand against that.
    """
    with _opened(flac) as file:
        announced = file.frames
        if announced > _MOST:
            raise DamagedAudio(f"it announces {announced} samples")
        # libsndfile notices most files that have fewer than they announce.
        samples: np.ndarray = file.read(dtype="int16")
    if len(samples) != announced:
        raise DamagedAudio(f"it has {len(samples)} samples and announces {announced}")
    return samples


@contextmanager
def _opened(flac: bytes) -> Iterator[soundfile.SoundFile]:
    try:
        with soundfile.SoundFile(io.BytesIO(flac)) as file:
            kind = (file.format, file.subtype, file.channels, file.samplerate)
            if kind != _PUBLISHED:
                raise DamagedAudio(f"it is {_words(*kind)} and not {_words(*_PUBLISHED)}")
            if file.frames in (0, _UNKNOWN):
                raise DamagedAudio("it announces no samples")
            yield file
    except soundfile.LibsndfileError as error:
        raise DamagedAudio(f"it cannot be decoded: {error.error_string.rstrip('.')}") from error


def _words(form: str, subtype: str, channels: int, rate: int) -> str:
    return f"{form} {subtype} of {channels} channel{'s' * (channels != 1)} at {rate} Hz"
