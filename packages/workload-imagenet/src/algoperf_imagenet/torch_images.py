"""The end of the data pipeline in PyTorch, on the device: normalisation and mixup."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from algoperf_imagenet.normalisation import MEAN, STANDARD_DEVIATION


@torch.no_grad()
def finish(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Turns 8-bit `inputs` into float32 [B, 3, H, W], channels last, normalised and, with a `mixup`, mixed.

    A process feeds one shard, so `previous` holds one picture and `mixup` one weight.
    """
    rest = {name: tensor for name, tensor in batch.items() if name not in ("inputs", "previous", "mixup")}
    inputs = _normalised(batch["inputs"])
    if "mixup" in batch:
        before = torch.cat([_normalised(batch["previous"]), inputs[:-1]])
        inputs = before.lerp_(inputs, batch["mixup"][0])
    # A view: the memory keeps its order, in which convolutions are fastest.
    return rest | {"inputs": inputs.permute(0, 3, 1, 2)}


def _normalised(pictures: Tensor) -> Tensor:
    """Of uint8 [B, H, W, 3], float32 of the same shape."""
    mean, deviation = _constants(pictures.device)
    return pictures.float().sub_(mean).div_(deviation)


@lru_cache(maxsize=1)
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """Once, because copying them to a GPU waits for it."""
    mean, deviation = (torch.tensor(values, device=device) for values in (MEAN, STANDARD_DEVIATION))
    return mean, deviation
