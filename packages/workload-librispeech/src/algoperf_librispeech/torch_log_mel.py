"""The log-mel front end in PyTorch; `log_mel` has its constants."""

from functools import cache

import torch
from torch import Tensor

from algoperf_librispeech.log_mel import (
    FFT_SIZE,
    FRAME_SIZE,
    FRAME_STEP,
    MIN_ENERGY,
    PRE_EMPHASIS,
    SAMPLE_SCALE,
    WINDOW_SIZE,
    mel_weights,
    statistics,
    window,
)


def log_mel(audio: Tensor, paddings: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised log-mel energies of each frame, and which frames are padding.

    A frame is real if one of its samples is. Computed in the type of the audio under mixed precision, too.

    Args:
        audio: [B, N], with the magnitudes of 16-bit integers; whatever it is where it is padded.
        paddings: [B, N], 1 where the audio is padded and 0 elsewhere.

    Returns:
        [B, F, NUM_BINS], and paddings [B, F].
    """
    emphasis, weights, mean, deviation = (constant.to(audio.dtype) for constant in _constants(audio.device))
    with torch.autocast(audio.device.type, enabled=False):
        x = audio * (1 - paddings) * SAMPLE_SCALE
        # Once for all frames, which overlap. A frame's last sample is not used.
        emphasised = x[:, 1:-1] - PRE_EMPHASIS * x[:, :-2]
        frames = emphasised.unfold(1, WINDOW_SIZE - 1, FRAME_STEP) * emphasis
        spectrum = torch.view_as_real(torch.fft.rfft(frames, FFT_SIZE))
        energies = spectrum.square().sum(dim=-1) @ weights
        features = (energies.clamp(min=MIN_ENERGY).log() - mean) / deviation
        return features, paddings.unfold(1, FRAME_SIZE, FRAME_STEP).amin(dim=-1)


@torch.compiler.assume_constant_result
def _constants(device: torch.device) -> tuple[Tensor, ...]:
    """The window, the mel weights, mean and deviation, float32.

    They are no buffers of a model: those are converted when a model is, and copied to all processes at each step.
    """
    return _made(device)


@cache
def _made(device: torch.device) -> tuple[Tensor, ...]:
    # The window begins with a zero, so that it hides the first sample of a frame.
    arrays = (window()[1:], mel_weights(), *statistics())
    return tuple(torch.tensor(array, device=device) for array in arrays)
