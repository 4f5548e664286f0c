"""The log-mel front end in PyTorch; `log_mel` has its constants."""

import numpy as np
import torch
from torch import Tensor, nn

from algoperf_librispeech import log_mel


class LogMel(nn.Module):
    """Makes of audio what the models hear. There is nothing to learn, and nothing for a checkpoint."""

    window: Tensor
    mel_weights: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, deviation = log_mel.statistics()
        # The window begins with a zero, so that it hides the first sample of a frame.
        constants = {"window": log_mel.window()[1:], "mel_weights": log_mel.mel_weights()}
        for name, array in {**constants, "mean": mean, "deviation": deviation}.items():
            self.register_buffer(name, _tensor(array), persistent=False)

    def forward(self, audio: Tensor, paddings: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised log-mel energies of each frame, and which frames are padding.

        A frame is real if one of its samples is. Computed in the type of the audio under mixed precision, too.

        Args:
            audio: [B, N], with the magnitudes of 16-bit integers; whatever it is where it is padded.
            paddings: [B, N], 1 where the audio is padded and 0 elsewhere.

        Returns:
            [B, F, NUM_BINS], and paddings [B, F].
        """
        with torch.autocast(audio.device.type, enabled=False):
            x = audio * (1 - paddings) * log_mel.SAMPLE_SCALE
            # Once for all frames, which overlap. A frame's last sample is not used.
            emphasised = x[:, 1:-1] - log_mel.PRE_EMPHASIS * x[:, :-2]
            frames = emphasised.unfold(1, log_mel.WINDOW_SIZE - 1, log_mel.FRAME_STEP) * self.window
            spectrum = torch.view_as_real(torch.fft.rfft(frames, log_mel.FFT_SIZE))
            energies = spectrum.square().sum(dim=-1) @ self.mel_weights
            features = (energies.clamp(min=log_mel.MIN_ENERGY).log() - self.mean) / self.deviation
            return features, paddings.unfold(1, log_mel.FRAME_SIZE, log_mel.FRAME_STEP).amin(dim=-1)


def _tensor(array: np.ndarray) -> Tensor:
    """A copy on the default device, which may be "meta"."""
    return torch.empty(array.shape).copy_(torch.from_numpy(array))
