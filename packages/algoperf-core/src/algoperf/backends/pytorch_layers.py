"""What models of several PyTorch workloads are made of."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}


def dropout(x: Tensor, rate: float) -> Tensor:
    """Zeroes each element with probability `rate` and divides the others by `1 - rate`.

    Sixteen random bits decide an element, because drawing them is a large part of a training step on CPUs; the
    probability is thereby rounded to a multiple of 2**-16.

    Args:
        x: [..., D].
        rate: in [0, 1 - 2**-16].
    """
    *rows, width = x.shape
    words = torch.empty(*rows, -(-width // 4), dtype=torch.int64, device=x.device)
    bits = words.random_(torch.iinfo(torch.int64).min, None).view(torch.int16)[..., :width]
    # The bits are read as a signed number, of which 2**15 is none: hence "<=" and the 1.
    mask = bits <= round((1 - rate) * 2**16) - 2**15 - 1
    return x * (mask.to(x.dtype) * (1 / (1 - rate)))


def lecun_normal_(weight: Tensor, fan_in: int) -> None:
    """Fills a weight as flax does: a normal distribution cut at two sigma, whose deviation then is sqrt(1 / fan_in)."""
    sigma = fan_in**-0.5 / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=sigma, a=-2 * sigma, b=2 * sigma)
