"""The language model in PyTorch: a transformer (Vaswani et al., https://arxiv.org/abs/1706.03762), a decoder alone.

Norms are by the root mean square (Zhang and Sennrich, https://arxiv.org/abs/1910.07467), MLPs are gated (Shazeer,
https://arxiv.org/abs/2002.05202), positions are rotations (see `rotary`), and queries and keys are normalised (Henry et
al., https://arxiv.org/abs/2010.04245). One embedding serves the input and the output (Press and Wolf,
https://arxiv.org/abs/1608.05859). No layer has a bias.

In shapes, B is the number of sequences, T of tokens in each, W the width, H the heads and D their size, F the width
inside MLPs, V the vocabulary.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoperf.spec import ParameterType
from algoperf_lm.rotary import rotations
from algoperf_lm.spec import LanguageModel

EPS = 1e-6
GATES: Mapping[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "silu": F.silu}


class Linear(nn.Linear):
    """A linear layer without a bias.

    Args:
        inputs: features.
        outputs: features.
        deviation: of the normal distribution that the weight starts from.
        kind: what the weight is for.
    """

    def __init__(self, inputs: int, outputs: int, deviation: float, kind: ParameterType = ParameterType.WEIGHT) -> None:
        self.kind, self._deviation = kind, deviation
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        """Draws the weight."""
        nn.init.normal_(self.weight, std=self._deviation)


def unit(x: Tensor) -> Tensor:
    """X / (|x| + EPS) along the last axis; the gradient at 0 is finite."""
    squares = x.square().sum(dim=-1, keepdim=True)
    return x / ((squares + torch.finfo(x.dtype).tiny).sqrt() + EPS)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns pairs of neighbouring components of [B, T, H, D] by angles whose cosines and sines are [T, D / 2]."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    turned = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return turned.flatten(-2).to(x.dtype)


class Attention(nn.Module):
    """Attention of tokens to those before them and to themselves."""

    def __init__(self, config: LanguageModel) -> None:
        super().__init__()
        self.num_heads, width = config.num_heads, config.width
        self.in_proj = Linear(width, 3 * width, config.deviation, ParameterType.ATTENTION_QKV)
        self.out = Linear(width, width, config.residual_deviation, ParameterType.ATTENTION_OUT)
        self.temperature: nn.Parameter | float = config.temperature
        if config.learned_temperature:
            self.temperature = nn.Parameter(torch.tensor(config.temperature))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Maps [B, T, W] to the same shape; cosines and sines are [T, D / 2]."""
        query, key, value = (y.unflatten(-1, (self.num_heads, -1)) for y in self.in_proj(x).chunk(3, dim=-1))
        query, key = unit(rotate(query, cos, sin)) * self.temperature, unit(rotate(key, cos, sin))
        query, key, value = (y.transpose(1, 2) for y in (query, key, value))
        y = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0)
        result: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return result


class Mlp(nn.Module):
    """A linear layer whose one half is gated by the other, and a second one."""

    def __init__(self, config: LanguageModel) -> None:
        super().__init__()
        self.up = Linear(config.width, 2 * config.mlp_dim, config.deviation)
        self.down = Linear(config.mlp_dim, config.width, config.residual_deviation)
        self.gate = GATES[config.gate]

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, T, W] to the same shape."""
        values, gate = self.up(x).chunk(2, dim=-1)
        result: Tensor = self.down(values * self.gate(gate))
        return result


class Block(nn.Module):
    """Attention and an MLP, each added to its input."""

    def __init__(self, config: LanguageModel) -> None:
        super().__init__()
        self.is_pre = config.norm == "pre"
        self.attention_norm, self.attention = nn.RMSNorm(config.width, EPS), Attention(config)
        self.mlp_norm, self.mlp = nn.RMSNorm(config.width, EPS), Mlp(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Maps [B, T, W] to the same shape; cosines and sines are [T, D / 2]."""
        if self.is_pre:
            x = x + self.attention(self.attention_norm(x), cos, sin)
            return x + self.mlp(self.mlp_norm(x))
        x = self.attention_norm(x + self.attention(x, cos, sin))
        result: Tensor = self.mlp_norm(x + self.mlp(x))
        return result


class LmModel(nn.Module):
    """Blocks between an embedding of tokens and the same as the output."""

    rotations: Tensor

    def __init__(self, config: LanguageModel) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        nn.init.normal_(self.embedding.weight, std=config.deviation)
        self.block = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.last_norm = nn.RMSNorm(config.width, EPS) if config.norm == "pre" else nn.Identity()
        table = torch.empty(2, config.context, config.head_size // 2)
        table.copy_(torch.from_numpy(rotations(config.context, config.head_size, config.rotary_base)))
        # A constant is no part of a checkpoint.
        self.register_buffer("rotations", table, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens [B, T] to logits [B, T, V] of the next ones."""
        x, (cos, sin) = self.embedding(tokens), self.rotations[:, : tokens.shape[1]]
        for block in self.block:
            x = block(x, cos, sin)
        return F.linear(self.last_norm(x), self.embedding.weight)
