"""Utterances as the models hear them: log-mel features, with what is said and what a model understands."""

import textwrap
from typing import Any

import numpy as np

from algoperf.data.pictures import Picture
from algoperf_librispeech.data import LibriSpeechDataset
from algoperf_librispeech.log_mel import (
    FFT_SIZE,
    FRAME_STEP,
    MIN_ENERGY,
    PRE_EMPHASIS,
    SAMPLE_SCALE,
    WINDOW_SIZE,
    mel_weights,
    num_frames,
    statistics,
    window,
)
from algoperf_librispeech.metrics import collapsed
from algoperf_librispeech.spec import BLANK

# Of the normalised features, in standard deviations: black and white.
_BLACK, _WHITE = -2.5, 2.5
# Characters of a line of a title.
_LINE = 40


def pictures(dataset: LibriSpeechDataset, batch: dict[str, Any], logits: Any = None) -> list[list[Picture]]:
    """For each real utterance its log-mel features, low frequencies below, with its text.

    Args:
        dataset: knows the texts of tokens.
        batch: of an evaluation, as it comes from the host; see `algoperf_librispeech.data`.
        logits: a pair of float [B, T, V] and paddings [B, T], or None.
    """
    said = dataset.decode([row[row != BLANK].tolist() for row in batch["targets"]])
    understood = None if logits is None else dataset.decode(collapsed(_chosen(*logits)))
    rows = []
    for i in np.flatnonzero(batch["weights"]):
        title = textwrap.fill(said[i], _LINE)
        if understood is not None:
            title += "\nmodel: " + textwrap.fill(understood[i], _LINE)
        shown = (features(batch["inputs"][i, : batch["lengths"][i]]) - _BLACK) / (_WHITE - _BLACK)
        rows.append([Picture(title, np.clip(shown, 0, 1).T[::-1])])
    return rows


def features(audio: np.ndarray) -> np.ndarray:
    """What `jax_log_mel` and `torch_log_mel` compute of one utterance without padding.

    Args:
        audio: int16 [N], at least a frame.

    Returns:
        float [F, NUM_BINS].
    """
    frames = np.lib.stride_tricks.sliding_window_view(audio * SAMPLE_SCALE, WINDOW_SIZE)[::FRAME_STEP]
    frames = frames[: num_frames(len(audio))]
    emphasised = frames[:, 1:] - PRE_EMPHASIS * frames[:, :-1]
    energies = np.abs(np.fft.rfft(emphasised * window()[1:], FFT_SIZE)) ** 2 @ mel_weights()
    mean, deviation = statistics()
    shown: np.ndarray = (np.log(np.maximum(energies, MIN_ENERGY)) - mean) / deviation
    return shown


def _chosen(logits: np.ndarray, paddings: np.ndarray) -> np.ndarray:
    """The likeliest token of each frame, int [B, T]."""
    return np.where(paddings > 0, BLANK, logits.argmax(axis=-1))
