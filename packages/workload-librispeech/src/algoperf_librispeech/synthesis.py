"""Synthetic speech at the models' sample rate, always the same."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from algoperf.data.preparation import DataError
from algoperf.data.processors import num_processors
from algoperf_librispeech import espeak
from algoperf_librispeech.spec import SAMPLE_RATE

# What one process says. It is part of what the audio is; see `espeak`.
_CHUNK = 1_000


def speak(lines: Sequence[espeak.Line]) -> Iterator[np.ndarray]:
    """The audio of each line, in their order; int16 [samples], `SAMPLE_RATE`. It depends on the lines alone."""
    chunks = [lines[start : start + _CHUNK] for start in range(0, len(lines), _CHUNK)]
    with ThreadPoolExecutor(num_processors()) as pool:
        for spoken in pool.map(_speak, chunks):
            yield from (resampled(samples, espeak.RATE_HZ) for samples in spoken)


def resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    """Audio int16 [any number] of another sample rate at `SAMPLE_RATE`, int16."""
    # Only who prepares mini data has it, and importing it takes seconds.
    import librosa

    floats = librosa.resample(samples.astype(np.float32), orig_sr=rate, target_sr=SAMPLE_RATE, res_type="polyphase")
    return np.clip(np.rint(floats), -(2**15), 2**15 - 1).astype(np.int16)


def _speak(lines: Sequence[espeak.Line]) -> list[np.ndarray]:
    """The audio of each line, said by a process of its own."""
    command = [sys.executable, "-m", espeak.__name__]
    done = subprocess.run(command, input=json.dumps(lines).encode(), capture_output=True, check=False)
    if done.returncode:
        reason = (done.stderr.decode().strip().splitlines() or ["it says nothing"])[-1]
        raise DataError(f"eSpeak ended with {done.returncode} ({reason}); run the same command again.")
    audio, place, size = [], 0, np.dtype(np.int64).itemsize
    for _ in lines:
        (number,) = np.frombuffer(done.stdout, np.int64, 1, place)
        audio.append(np.frombuffer(done.stdout, np.int16, number, place + size))
        place += size + audio[-1].nbytes
    return audio
