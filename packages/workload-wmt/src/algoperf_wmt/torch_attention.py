"""Attention in PyTorch: Vaswani et al., https://arxiv.org/abs/1706.03762, section 3.2; and which tokens see which.

In shapes, B is the number of rows, S and T the tokens of an input and a target row, Q the queries of a row, W the
width, H the heads and D their size.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from algoperf.spec import ParameterType
from algoperf_wmt.spec import Transformer


class Tokens(NamedTuple):
    """One side of a batch.

    Attributes:
        ids: tokens [B, L], integers; 0 is padding.
        positions: of each token in its sentence [B, L]; None means that a row is one sentence.
        segments: numbers of the sentences in a row [B, L], which do not see each other; None as above.
    """

    ids: Tensor
    positions: Tensor | None = None
    segments: Tensor | None = None


class Mask(NamedTuple):
    """Which keys queries look at.

    Attributes:
        visible: bool [B, 1, queries, keys], with at least one key for every query.
        sees: bool [B, 1, queries, 1], whether a query may really look at anything.
    """

    visible: Tensor
    sees: Tensor


def make_mask(allowed: Tensor) -> Mask:
    """The mask of what queries may look at, bool [B, 1, queries, keys]."""
    sees = allowed.any(dim=-1, keepdim=True)
    return Mask(allowed | ~sees, sees)


def may_look(queries: Tokens, keys: Tokens) -> Tensor:
    """Which keys a query may look at, bool [B, 1, queries, keys]: both are real, and of one sentence."""
    allowed = (queries.ids > 0)[:, :, None] & (keys.ids > 0)[:, None, :]
    if queries.segments is not None and keys.segments is not None:
        allowed &= queries.segments[:, :, None] == keys.segments[:, None, :]
    return allowed[:, None]


class Projection(nn.Linear):
    """A linear layer of attention, without a bias: one matrix of W x W, or several, one below the other.

    Args:
        width: W.
        kind: what the weight is for.
        matrices: how many there are; each is initialised by itself.
    """

    def __init__(self, width: int, kind: ParameterType, matrices: int = 1) -> None:
        super().__init__(width, matrices * width, bias=False)
        self.kind = kind
        for matrix in self.weight.split(width):
            nn.init.xavier_uniform_(matrix)


def _split(x: Tensor, num_heads: int) -> Tensor:
    """Maps [B, T, W] to [B, H, T, D]."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Mask, temperature: float) -> Tensor:
    """Maps queries [B, H, Q, D], keys and values [B, H, T, D] to [B, Q, W], before the output's projection.

    Who may look at nothing looks at everything evenly: its query is zero.
    """
    scale = temperature * queries.shape[-1] ** -0.5
    y = F.scaled_dot_product_attention(queries * mask.sees, keys, values, attn_mask=mask.visible, scale=scale)
    return y.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Attention with several heads, of tokens to each other."""

    def __init__(self, config: Transformer) -> None:
        super().__init__()
        self.num_heads, self.temperature = config.num_heads, config.attention_temperature
        self.in_proj = Projection(config.width, ParameterType.ATTENTION_QKV, matrices=3)
        self.out_proj = Projection(config.width, ParameterType.ATTENTION_OUT)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps [B, T, W] to queries, keys and values [B, H, T, D]."""
        queries, keys, values = (_split(y, self.num_heads) for y in self.in_proj(x).chunk(3, dim=-1))
        return queries, keys, values

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Mask) -> Tensor:
        """Maps queries [B, H, Q, D], keys and values [B, H, T, D] to [B, Q, W]."""
        output: Tensor = self.out_proj(_attend(queries, keys, values, mask, self.temperature))
        return output

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """Maps [B, T, W] to the same shape; the mask is for [B, 1, T, T]."""
        return self.attend(*self.project(x), mask)


class SourceAttention(nn.Module):
    """Attention with several heads, to what the encoder returned; one layer makes both keys and values."""

    def __init__(self, config: Transformer) -> None:
        super().__init__()
        self.num_heads, self.temperature = config.num_heads, config.attention_temperature
        self.q_proj = Projection(config.width, ParameterType.ATTENTION_Q)
        self.kv_proj = Projection(config.width, ParameterType.ATTENTION_KV, matrices=2)
        self.out_proj = Projection(config.width, ParameterType.ATTENTION_OUT)

    def keys_and_values(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Maps [B, S, W] to two of [B, H, S, D]."""
        keys, values = (_split(y, self.num_heads) for y in self.kv_proj(encoded).chunk(2, dim=-1))
        return keys, values

    def attend(self, x: Tensor, keys: Tensor, values: Tensor, mask: Mask) -> Tensor:
        """Maps [B, T, W], which looks at keys and values [B, H, S, D], to the same shape."""
        queries = _split(self.q_proj(x), self.num_heads)
        output: Tensor = self.out_proj(_attend(queries, keys, values, mask, self.temperature))
        return output

    def forward(self, x: Tensor, encoded: Tensor, mask: Mask) -> Tensor:
        """Maps [B, T, W], which looks at encoded [B, S, W], to the same shape; the mask is for [B, 1, T, S]."""
        return self.attend(x, *self.keys_and_values(encoded), mask)
