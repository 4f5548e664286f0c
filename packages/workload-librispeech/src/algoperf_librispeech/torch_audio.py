"""Batches of utterances on PyTorch devices: what was copied there becomes what models and losses are given."""

from typing import Any

import torch
from torch import Tensor

from algoperf_librispeech.spec import END


def finish(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with pairs of arrays and their paddings, float32, which are 1 where there is nothing and 0 elsewhere.

    `inputs`, int16 [B, N], of which `lengths` [B] samples count, become audio, float32 [B, N], and its paddings [B, N];
    `targets`, tokens [B, L] that end with END, become the tokens and their paddings [B, L]. `lengths` are left out.
    """
    rest = {name: value for name, value in batch.items() if name != "lengths"}
    audio, lengths, ids = batch["inputs"], batch["lengths"], batch["targets"]
    is_end = (ids == END).int()
    # Nothing ends in rows of padding.
    num_tokens = torch.where(is_end.any(dim=1), is_end.argmax(dim=1) + 1, 0)
    inputs = (audio.float(), paddings(lengths, audio.shape[1]))
    return {**rest, "inputs": inputs, "targets": (ids, paddings(num_tokens, ids.shape[1]))}


def paddings(lengths: Tensor, size: int) -> Tensor:
    """Float32 [B, size], which are 1 from each of the lengths [B] on, and 0 before."""
    return (torch.arange(size, device=lengths.device) >= lengths[:, None]).float()
