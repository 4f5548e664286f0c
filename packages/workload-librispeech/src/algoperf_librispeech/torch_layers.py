"""What both models are made of in PyTorch.

In shapes, B is the number of utterances, N the samples, F the frames of the front end, T those of a model, W its width.
What a layer makes of padded frames is never seen: where frames mix, only real ones count.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from algoperf.backends.pytorch_layers import dropout
from algoperf.spec import ParameterType
from algoperf_librispeech.log_mel import NUM_BINS
from algoperf_librispeech.spec import Acoustic

_IN_PLACE = {"relu": torch.relu_, "tanh": torch.tanh_}


def drop(x: Tensor, rate: float) -> Tensor:
    """Dropout, which is nothing at a rate of zero."""
    return x if rate == 0 else dropout(x, rate)


class Dense(nn.Linear):
    """A linear layer of one matrix, or of several, one below the other.

    Args:
        inputs: width of the input.
        outputs: width of one matrix's output.
        kind: what the weight is for.
        bias_kind: what the bias is for.
        matrices: how many there are; each is initialised by itself.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kind: ParameterType = ParameterType.WEIGHT,
        bias_kind: ParameterType = ParameterType.BIAS,
        matrices: int = 1,
    ) -> None:
        super().__init__(inputs, matrices * outputs)
        self.kinds: Mapping[str, ParameterType] = {"weight": kind, "bias": bias_kind}
        for matrix in self.weight.split(outputs):
            nn.init.xavier_uniform_(matrix)
        nn.init.zeros_(self.bias)


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al., https://arxiv.org/abs/1607.06450); what multiplies is one more than `scale`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., W] to the same shape."""
        return F.layer_norm(x, self.scale.shape, 1 + self.scale, self.bias, eps=1e-6)


class MaskedBatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, https://arxiv.org/abs/1502.03167) over the real frames.

    Statistics are those of the batch over all processes; the variance is the biased one, for the running statistics
    too. What multiplies is one more than `scale`.

    Attributes:
        momentum: share of the running statistics that a forward pass in training mode keeps.
        moves_statistics: whether it moves them at all; see `batch_norm_mode`.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, momentum: float) -> None:
        super().__init__()
        self.eps, self.momentum, self.moves_statistics = 1e-3, momentum, True
        self.scale = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps [B, T, W] to the same shape, with zeros where the mask [B, T, 1] is zero and not one."""
        mean, variance = self._batch_statistics(x, mask) if self.training else (self.running_mean, self.running_var)
        y = (x - mean) * (torch.rsqrt(variance + self.eps) * (1 + self.scale)) + self.bias
        return (y * mask).to(x.dtype)

    def _batch_statistics(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        totals = _over_processes(torch.cat(((x * mask).sum(dim=(0, 1)), mask.sum().view(1))))
        count = totals[-1].clamp(min=1)
        mean = totals[:-1] / count
        # Around the mean: the mean square less the square of the mean would lose digits.
        variance = _over_processes(((x - mean).square() * mask).sum(dim=(0, 1))) / count
        if self.moves_statistics:
            self.running_mean.lerp_(mean.detach().to(self.running_mean.dtype), 1 - self.momentum)
            self.running_var.lerp_(variance.detach().to(self.running_var.dtype), 1 - self.momentum)
        return mean, variance


def _over_processes(x: Tensor) -> Tensor:
    """The sum over all processes, through which gradients flow to all of them."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    total: Tensor = all_reduce(x)
    return total


@contextmanager
def batch_norm_mode(model: nn.Module, uses_running: bool, moves: bool) -> Iterator[None]:
    """Within, batch norms use the running statistics or the batch's, and those move the running ones or do not."""
    norms = [module for module in model.modules() if isinstance(module, MaskedBatchNorm)]
    for norm in norms:
        norm.train(not uses_running)
        norm.moves_statistics = moves
    try:
        yield
    finally:
        for norm in norms:
            norm.train(model.training)
            norm.moves_statistics = True


class Subsampling(nn.Module):
    """Two convolutions of 3x3 over frames and bins, with a stride of 2, and a linear layer: a quarter of the frames.

    They pad with zeros as JAX's "SAME" does, and padded frames are zeros after each of them.
    """

    def __init__(self, config: Acoustic, activation: str) -> None:
        super().__init__()
        channels = config.subsampling_channels
        self.activation_ = _IN_PLACE[activation]
        self.conv1, self.conv2 = _conv(1, channels), _conv(channels, channels)
        self.linear = Dense(channels * NUM_BINS // 4, config.width)

    def forward(self, features: Tensor, paddings: Tensor) -> tuple[Tensor, Tensor]:
        """Maps features [B, F, NUM_BINS] and their paddings [B, F] to [B, T, W] and [B, T]; T is F / 4, rounded up."""
        half = paddings[:, ::2]
        quarter = half[:, ::2]
        # What the second convolution pads with, the first one computes as well, and the mask makes it zero: its output
        # is the largest array of all, and is neither copied nor kept twice.
        inner = (*_same_padding(NUM_BINS // 2), *_same_padding(half.shape[1]))
        outer = (*_same_padding(NUM_BINS), *_same_padding(features.shape[1]))
        mask = F.pad(_image(1 - half).expand(-1, -1, -1, NUM_BINS // 2), inner)
        x = F.pad(features[:, None].to(self.conv1.weight.dtype), [a + 2 * b for a, b in zip(outer, inner, strict=True)])
        # Activations of zero are zero.
        x = self.activation_(self.conv1(x).mul_(mask))
        x = self.activation_(self.conv2(x).mul_(_image(1 - quarter)))
        y: Tensor = self.linear(x.permute(0, 2, 3, 1).flatten(2))
        return y, quarter


def _conv(channels: int, features: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, features, 3, stride=2)
    nn.init.xavier_uniform_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def _same_padding(size: int) -> tuple[int, int]:
    """Zeros before and behind an axis, so that a kernel of 3 with a stride of 2 leaves half of it, rounded up."""
    return size % 2, 1


def _image(mask: Tensor) -> Tensor:
    """[B, T] as [B, 1, T, 1]."""
    return mask[:, None, :, None]
