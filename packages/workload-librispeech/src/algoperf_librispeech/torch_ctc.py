"""Connectionist temporal classification in PyTorch: Graves et al., https://doi.org/10.1145/1143844.1143891."""

import torch
import torch.nn.functional as F
from torch import Tensor

from algoperf_librispeech.spec import BLANK

# An array whose second axis is time, and paddings [B, length], which are 1 where it is padded.
Padded = tuple[Tensor, Tensor]


def ctc_losses(labels: Padded, logits: Padded, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Negative log likelihood of each transcript, and how many tokens that stands for.

    Both are zero, and so is the gradient, where a transcript does not fit: a token needs a frame, and two equal tokens
    in a row one between them; and where there is no frame at all.

    Args:
        labels: tokens [B, L], integers.
        logits: [B, T, V].
        mask: [B], multiplies both; where it is zero, nothing else is looked at.

    Returns:
        Two of [B], of the type of the logits or float32, whichever is longer.
    """
    (ids, label_paddings), (scores, frame_paddings) = labels, logits
    num_tokens, num_frames = (_lengths(paddings) for paddings in (label_paddings, frame_paddings))
    num_repeats = ((ids[:, 1:] == ids[:, :-1]) & (label_paddings[:, 1:] == 0)).sum(dim=1)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    fits = (num_frames > 0) & (num_frames >= num_tokens + num_repeats)
    weights = fits.to(scores.dtype) if mask is None else fits * mask.to(scores.dtype)
    counted = weights > 0
    # What does not count may be no number at all, and nothing times that is not 0. In its place is one frame of no
    # token, whose loss is a number.
    scores = scores.masked_fill(~counted[:, None, None], 0.0)
    # PyTorch wants lengths on the host; both in one copy.
    frames, tokens = torch.stack((torch.where(counted, num_frames, 1), torch.where(counted, num_tokens, 0))).cpu()
    losses = F.ctc_loss(
        F.log_softmax(scores, dim=-1).transpose(0, 1),
        ids.int(),
        frames,
        tokens,
        blank=BLANK,
        reduction="none",
    )
    return losses * weights, num_tokens * weights


def _lengths(paddings: Tensor) -> Tensor:
    """How many are not padded in each row, int64 [B]."""
    return (paddings == 0).sum(dim=1)
