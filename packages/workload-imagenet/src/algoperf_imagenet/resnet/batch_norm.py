"""Batch normalisation in PyTorch as the benchmark defines it: Ioffe and Szegedy, https://arxiv.org/abs/1502.03167.

It differs from `torch.nn.BatchNorm2d`, and from `torch.nn.SyncBatchNorm`, in three things. Statistics are those of the
batch over all processes, on any kind of device, so that no result depends on the number of devices. The running
variance follows the biased variance of the batch, the one that normalises. And updating the running statistics can be
suspended, without changing what normalises.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class BatchNorm2d(nn.BatchNorm2d):
    """Normalises each channel of [B, C, H, W]. Names, shapes and arguments are those of `nn.BatchNorm2d`.

    Attributes:
        moves_statistics: whether a forward pass in training mode moves the running statistics; see `still_statistics`.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float | None

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(num_features, eps, momentum)
        self.moves_statistics = True

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, H, W] to the same shape."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        normalise = _over_processes if _has_other_processes() else _in_this_process
        y, mean, variance = normalise(x, self.weight, self.bias, self.eps)
        if self.moves_statistics:
            self.num_batches_tracked.add_(1)
            # Without a momentum, `nn.BatchNorm2d` takes the mean over all batches.
            momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance, momentum)
        return y


@contextmanager
def still_statistics(model: nn.Module) -> Iterator[None]:
    """Within, forward passes of the model leave the running statistics as they are."""
    norms = [module for module in model.modules() if isinstance(module, BatchNorm2d)]
    for norm in norms:
        norm.moves_statistics = False
    try:
        yield
    finally:
        for norm in norms:
            norm.moves_statistics = True


def _has_other_processes() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _in_this_process(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The normalised [B, C, H, W], and the mean and the biased variance [C] that it was normalised with."""
    # PyTorch's operation tells what it computed through the running statistics alone: with a momentum of 1, it
    # overwrites them. It keeps both for the backward pass, so they must not be changed in place.
    mean, unbiased = torch.zeros_like(weight), torch.zeros_like(weight)
    y = F.batch_norm(x, mean, unbiased, weight, bias, training=True, momentum=1.0, eps=eps)
    count = x.numel() // x.shape[1]
    return y, mean, unbiased * ((count - 1) / count)


def _over_processes(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The same with the statistics of all processes' batches, which may be of different sizes."""
    # Under automatic mixed precision, images may be of a shorter type than parameters and statistics.
    y, mean, variance = _OverProcesses.apply(x.to(weight.dtype), weight, bias, eps)
    return y.to(x.dtype), mean, variance


class _OverProcesses(torch.autograd.Function):
    """One collective operation in each direction. The gradients of weight and bias are this process's share."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance, count = _global_statistics(x)
        inverse = torch.rsqrt(variance + eps)
        scale = weight * inverse
        y = torch.addcmul(_per_channel(bias - mean * scale), x, _per_channel(scale))
        ctx.save_for_backward(x, weight, mean, inverse, count)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *unused: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse, count = ctx.saved_tensors
        centred = x - _per_channel(mean)
        bias_gradient = gradient.sum(dim=(0, 2, 3))
        weight_gradient = (gradient * centred).sum(dim=(0, 2, 3)) * inverse
        sums = torch.stack((bias_gradient, weight_gradient))
        dist.all_reduce(sums)
        # The two means of the gradient that normalising takes out: along the mean and along the variance.
        along_mean, along_variance = sums / count
        scale = weight * inverse
        x_gradient = gradient * _per_channel(scale) - _per_channel(scale * along_mean)
        x_gradient -= centred * _per_channel(scale * along_variance * inverse)
        return x_gradient, weight_gradient, bias_gradient, None


def _global_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [C], biased variance [C] and number (a scalar) of values per channel, over all processes."""
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    count = mean.new_full((1,), x.numel() // x.shape[1])
    mine = torch.cat((count, mean, variance))
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    # Gathered and not summed: a sum of squares less the square of a sum would lose digits.
    dist.all_gather(parts, mine)
    counts, means, variances = torch.stack(parts).split((1, x.shape[1], x.shape[1]), dim=1)
    total = counts.sum()
    mean = (counts * means).sum(dim=0) / total
    variance = (counts * (variances + (means - mean).square())).sum(dim=0) / total
    return mean, variance, total


def _per_channel(vector: Tensor) -> Tensor:
    return vector.view(1, -1, 1, 1)
