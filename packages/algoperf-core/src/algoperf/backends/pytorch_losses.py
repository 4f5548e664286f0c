"""Losses of several PyTorch workloads."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Elements of the logits that are worked on at a time.
_BLOCK_SIZE = 2**24


def token_cross_entropy(
    labels: Tensor, logits: Tensor, mask: Tensor | None = None, label_smoothing: float = 0.0
) -> dict[str, Tensor]:
    """Softmax cross entropy of each token, in float32 at least.

    Beside the logits and their gradient nothing of their size is made, where `torch.nn.functional.cross_entropy` keeps
    as much again.

    Args:
        labels: tokens [B, T], integers.
        logits: [B, T, V].
        mask: [B, T], multiplies the losses; None means that all tokens count, padding too.
        label_smoothing: moves labels towards 1 / V, before masking.

    Returns:
        `summed` and `n_valid_examples` (the sum of the mask), scalars, and `per_example` [B, T].

    Raises:
        ValueError: labels, logits and mask do not fit together.
    """
    # Sums of a shorter type would not even count a batch.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    mask = logits.new_ones(logits.shape[:-1]) if mask is None else mask
    if logits.ndim != 3 or not labels.shape == mask.shape == logits.shape[:-1]:
        raise ValueError(
            "Labels [B, T], logits [B, T, V] and a mask [B, T] are needed; they have the shapes "
            f"{tuple(labels.shape)}, {tuple(logits.shape)} and {tuple(mask.shape)}."
        )
    rows: Tensor = _CrossEntropy.apply(logits.flatten(0, 1), labels.flatten().long(), float(label_smoothing))
    losses = rows.view(labels.shape) * mask
    return {"summed": losses.sum(), "n_valid_examples": mask.sum(dtype=losses.dtype), "per_example": losses}


class _CrossEntropy(torch.autograd.Function):
    """Of rows of logits [N, V] and labels [N], block by block."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        log_sums = torch.cat([block.logsumexp(dim=1) for block in logits.split(_rows(logits))])
        ctx.save_for_backward(logits, labels, log_sums)
        ctx.label_smoothing = label_smoothing
        label_logits = logits.gather(1, labels[:, None])[:, 0]
        expected = (1 - label_smoothing) * label_logits
        if label_smoothing:
            expected += label_smoothing * logits.mean(dim=1)
        return log_sums - expected

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        logits, labels, log_sums = ctx.saved_tensors
        if torch.is_grad_enabled():
            # The gradient is to have gradients itself.
            with_graph = F.cross_entropy(logits, labels, reduction="none", label_smoothing=ctx.label_smoothing)
            return torch.autograd.grad(with_graph, logits, grad, create_graph=True)[0], None, None
        result = torch.empty_like(logits)
        rows = _rows(logits)
        arrays = (x.split(rows) for x in (result, logits, labels, log_sums, grad))
        for out, block, label, log_sum, factor in zip(*arrays, strict=True):
            torch.sub(block, log_sum[:, None], out=out).exp_()
            out -= ctx.label_smoothing / block.shape[1]
            out.scatter_add_(1, label[:, None], out.new_full((len(label), 1), ctx.label_smoothing - 1))
            out *= factor[:, None]
        return result, None, None


def _rows(logits: Tensor) -> int:
    """How many rows are a block."""
    return max(1, _BLOCK_SIZE // logits.shape[1])
