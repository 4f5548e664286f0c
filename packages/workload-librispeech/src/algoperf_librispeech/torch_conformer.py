"""The Conformer in PyTorch: Gulati et al., https://arxiv.org/abs/2005.08100.

Shapes are those of `torch_layers`; H is the number of heads of attention and D their size. A mask is 1 where a frame is
real and 0 elsewhere. A dropout rate is 0 in evaluation.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoperf.backends.pytorch_layers import ACTIVATIONS
from algoperf.spec import ParameterType
from algoperf_librispeech import torch_spec_augment
from algoperf_librispeech.spec import Conformer
from algoperf_librispeech.torch_layers import Dense, LayerNorm, MaskedBatchNorm, Subsampling, drop
from algoperf_librispeech.torch_log_mel import log_mel


class FeedForward(nn.Module):
    """Layer norm, linear, activation, dropout, linear, dropout."""

    def __init__(self, config: Conformer) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.norm = LayerNorm(config.width)
        self.linear1 = Dense(config.width, config.mlp_dim)
        self.linear2 = Dense(config.mlp_dim, config.width)

    def forward(self, x: Tensor, dropout_rate: float) -> Tensor:
        """Maps [B, T, W] to the same shape."""
        y = self.activation(self.linear1(self.norm(x)))
        return drop(self.linear2(drop(y, dropout_rate)), dropout_rate)


class QueryScaler(nn.Module):
    """Multiplies queries by a learned factor for each dimension, which begins with 1 / sqrt(D)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(size))

    def forward(self, queries: Tensor) -> Tensor:
        """Maps [..., D] to the same shape."""
        # The softplus of 0 is ln 2.
        return queries * (F.softplus(self.scale) / (math.log(2) * len(self.scale) ** 0.5))


class Attention(nn.Module):
    """Layer norm, attention with several heads to the real frames, dropout."""

    def __init__(self, config: Conformer) -> None:
        super().__init__()
        width, bias = config.width, ParameterType.ATTENTION_BIAS
        self.num_heads, self.temperature = config.num_heads, config.attention_temperature
        self.norm = LayerNorm(width)
        self.in_proj = Dense(width, width, ParameterType.ATTENTION_QKV, bias, matrices=3)
        self.out_proj = Dense(width, width, ParameterType.ATTENTION_OUT, bias)
        self.query_scaler = QueryScaler(width // config.num_heads)

    def forward(self, x: Tensor, visible: Tensor, dropout_rate: float) -> Tensor:
        """Maps [B, T, W] to the same shape; visible is bool [B, 1, 1, T], with at least one frame in each row."""
        parts = self.in_proj(self.norm(x)).chunk(3, dim=-1)
        queries, keys, values = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        queries = self.query_scaler(queries)
        y = F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible, scale=1.0)
        y = y.transpose(1, 2).flatten(2) * self.temperature
        return drop(self.out_proj(y), dropout_rate)


class Convolution(nn.Module):
    """Layer norm, gated linear unit, depthwise convolution over frames, batch norm, activation, linear, dropout."""

    def __init__(self, config: Conformer) -> None:
        super().__init__()
        width, size, kind = config.width, config.kernel_size, ParameterType.CONV_WEIGHT
        self.activation = ACTIVATIONS[config.activation]
        self.norm = LayerNorm(width)
        self.linear1 = Dense(width, width, kind)
        self.gate = Dense(width, width, kind)
        self.depthwise = nn.Conv1d(width, width, size, padding=size // 2, groups=width, bias=False)
        nn.init.xavier_uniform_(self.depthwise.weight)
        self.batch_norm = MaskedBatchNorm(width, config.statistics_momentum)
        self.linear2 = Dense(width, width, kind)

    def forward(self, x: Tensor, mask: Tensor, dropout_rate: float) -> Tensor:
        """Maps [B, T, W] to the same shape; the mask is [B, T, 1]."""
        x = self.norm(x)
        x = self.linear1(x) * torch.sigmoid(self.gate(x)) * mask
        x = self.depthwise(x.transpose(1, 2).to(self.depthwise.weight.dtype)).transpose(1, 2)
        x = self.activation(self.batch_norm(x, mask))
        return drop(self.linear2(x), dropout_rate)


class ConformerBlock(nn.Module):
    """Half a feed-forward module, attention, convolution, and half a feed-forward module, each added to its input."""

    def __init__(self, config: Conformer) -> None:
        super().__init__()
        self.feed_forward1 = FeedForward(config)
        self.attention = Attention(config)
        self.convolution = Convolution(config)
        self.feed_forward2 = FeedForward(config)
        self.norm = LayerNorm(config.width) if config.block_norm else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor, visible: Tensor, dropout_rate: float) -> Tensor:
        """Maps [B, T, W] to the same shape; the mask is [B, T, 1], and visible that of `Attention`."""
        x = x + 0.5 * self.feed_forward1(x, dropout_rate)
        x = x + self.attention(x, visible, dropout_rate)
        x = x + self.convolution(x, mask, dropout_rate)
        y: Tensor = self.norm(x + 0.5 * self.feed_forward2(x, dropout_rate))
        return y


class ConformerModel(nn.Module):
    """The front end, subsampling, blocks, and an output layer."""

    def __init__(self, config: Conformer) -> None:
        super().__init__()
        self.spec_augment = config.spec_augment
        self.subsampling = Subsampling(config, "relu")
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.num_blocks))
        self.norm = LayerNorm(config.width)
        self.output = Dense(config.width, config.vocab_size)

    def forward(self, audio: Tensor, paddings: Tensor, dropout_rate: float = 0.0) -> tuple[Tensor, Tensor]:
        """Maps audio and its paddings [B, N] to logits [B, T, vocab_size], zero where padded, and paddings [B, T]."""
        features, paddings = log_mel(audio, paddings)
        if self.training:
            uniforms = torch_spec_augment.draw(self.spec_augment, len(audio), audio.device)
            features = torch_spec_augment.hide(features, paddings, self.spec_augment, uniforms)
        rate = dropout_rate if self.training else 0.0
        x, paddings = self.subsampling(features, paddings)
        x = drop((x + _positions(x)).to(x.dtype), rate)
        mask = (1 - paddings)[..., None]
        # Where no frame is real, attention may look at any, as softmax of nothing is no number.
        visible = (paddings == 0) | (paddings > 0).all(dim=1, keepdim=True)
        for block in self.blocks:
            x = block(x, mask, visible[:, None, None], rate)
        return self.output(self.norm(x)) * mask, paddings


def _positions(x: Tensor) -> Tensor:
    """What is added to frames [B, T, W], so that they know where they are: sines and then cosines, float32 [T, W]."""
    half = x.shape[2] // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float64, device=x.device) * (-math.log(10_000) / (half - 1)))
    angles = torch.arange(x.shape[1], device=x.device)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=1).float()
