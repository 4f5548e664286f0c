"""The constants of the log-mel front end, in numpy: how audio is cut into frames, and what a frame is weighted with.

A frame is what the models hear of 25 ms: the energies of 80 bands of frequencies, equally wide on the mel scale
(Stevens et al., https://doi.org/10.1121/1.1915893), as logarithms. `jax_log_mel` and `torch_log_mel` compute them.
"""

import json
from functools import cache
from importlib.resources import files

import numpy as np

from algoperf_librispeech.spec import SAMPLE_RATE

# In samples. A frame has one more than its window, because pre-emphasis looks back by one.
FRAME_STEP = 160
WINDOW_SIZE = 400
FRAME_SIZE = WINDOW_SIZE + 1
FFT_SIZE = 512

NUM_BINS = 80
PRE_EMPHASIS = 0.97
# Samples are 16-bit integers; this makes them numbers between -1 and 1.
SAMPLE_SCALE = 2.0**-15
# Energies below it count as it.
MIN_ENERGY = 1e-5
_LOWEST_HZ, _HIGHEST_HZ = 125.0, 7_600.0


def num_frames(num_samples: int) -> int:
    """Frames of audio of so many samples: those that lie in it as a whole."""
    return max(0, (num_samples - FRAME_SIZE) // FRAME_STEP + 1)


@cache
def window() -> np.ndarray:
    """The periodic Hann window, float32 [WINDOW_SIZE]."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_SIZE) / WINDOW_SIZE)).astype(np.float32)


@cache
def mel_weights() -> np.ndarray:
    """What a spectrum's energies are weighted with in each bin, float32 [FFT_SIZE // 2 + 1, NUM_BINS].

    Triangles that are linear in mel, of height 1; 0 Hz counts nowhere.
    """
    spectrum = _mel(np.linspace(0, SAMPLE_RATE / 2, FFT_SIZE // 2 + 1))[:, None]
    edges = np.linspace(_mel(_LOWEST_HZ), _mel(_HIGHEST_HZ), NUM_BINS + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    weights = np.minimum((spectrum - lower) / (centre - lower), (upper - spectrum) / (upper - centre))
    weights[0] = 0
    return np.maximum(weights, 0).astype(np.float32)


@cache
def statistics() -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each bin over LibriSpeech; frames are normalised with them. Float32 [NUM_BINS]."""
    tables = json.loads((files(__package__) / "mel_statistics.json").read_text(encoding="utf-8"))
    mean, deviation = (np.array(tables[name], np.float32) for name in ("mean", "stddev"))
    return mean, deviation


def _mel(hertz: np.ndarray | float) -> np.ndarray:
    """The HTK formula for the mel scale (Young et al., The HTK Book, 2006, section 5.4)."""
    return 1127 * np.log1p(np.asarray(hertz, np.float64) / 700)
