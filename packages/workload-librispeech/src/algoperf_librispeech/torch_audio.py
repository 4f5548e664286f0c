"""Batches of utterances on PyTorch devices: integers are copied there, and become what models are given."""

from typing import Any

import torch
from torch import Tensor


def finish(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch, whose `inputs` were audio (int16 [B, N]) and its lengths in samples (integers [B]).

    They become audio (float32 [B, N], as loud as before) and its paddings (float32 [B, N], 1 where there is none).
    """
    audio, lengths = batch["inputs"]
    return {**batch, "inputs": (audio.float(), paddings(lengths, audio.shape[1]))}


def paddings(lengths: Tensor, size: int) -> Tensor:
    """Float32 [B, size], which are 1 from each of the lengths [B] on, and 0 before."""
    return (torch.arange(size, device=lengths.device) >= lengths[:, None]).float()
