"""SpecAugment in PyTorch: Park et al., https://arxiv.org/abs/1904.08779.

It hides runs of frames, whose lengths depend on the utterance's ("adaptive" in https://arxiv.org/abs/1912.05533), and
runs of mel bins.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from algoperf_librispeech.spec import SpecAugment


class Uniforms(NamedTuple):
    """Random numbers in [0, 1) that decide on the masks, float32, in the order in which they are drawn.

    Attributes:
        time_sizes: [B, num_time_masks].
        time_starts: the same.
        frequency_sizes: [B, num_frequency_masks].
        frequency_starts: the same.
    """

    time_sizes: Tensor
    time_starts: Tensor
    frequency_sizes: Tensor
    frequency_starts: Tensor


def draw(spec: SpecAugment, batch_size: int, device: torch.device) -> Uniforms:
    """From the device's global generator, which is seeded for each step."""
    numbers = (spec.num_time_masks, spec.num_time_masks, spec.num_frequency_masks, spec.num_frequency_masks)
    return Uniforms(*(torch.rand(batch_size, number, device=device) for number in numbers))


def hide(features: Tensor, paddings: Tensor, spec: SpecAugment, uniforms: Uniforms) -> Tensor:
    """The features with zeros, their mean, where they are hidden.

    Args:
        features: [B, F, D].
        paddings: [B, F], 1 where a frame is padding; only real frames are hidden, but bins in all of them.
        spec: how much to hide.
        uniforms: where to hide it.
    """
    _, num_frames, num_bins = features.shape
    lengths = (1 - paddings).sum(dim=1, keepdim=True)
    longest = spec.max_time_share * lengths
    # A product may round up to the number itself.
    sizes = torch.minimum((uniforms.time_sizes * longest).floor(), longest.floor())
    time = _runs(sizes, uniforms.time_starts, lengths, num_frames)
    sizes = (uniforms.frequency_sizes * spec.max_frequency_bins).floor()
    frequency = _runs(sizes, uniforms.frequency_starts, torch.full_like(lengths, num_bins), num_bins)
    return features.masked_fill(time[:, :, None] | frequency[:, None, :], 0.0)


def _runs(sizes: Tensor, uniforms: Tensor, lengths: Tensor, num_places: int) -> Tensor:
    """Which places lie in one of the runs, bool [B, num_places].

    The sizes and where they start among so many places are float [B, M], the lengths [B, 1].
    """
    starts = (uniforms * (lengths - sizes + 1)).floor()
    places = torch.arange(num_places, device=sizes.device)
    return ((places >= starts[..., None]) & (places < (starts + sizes)[..., None])).any(dim=1)
