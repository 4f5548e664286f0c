"""The transformer in PyTorch: Vaswani et al., https://arxiv.org/abs/1706.03762, with layer norms before the branches.

Layer norms after the additions are the original's; gated MLPs are from Shazeer, https://arxiv.org/abs/2002.05202. One
embedding serves both languages and the output (Press and Wolf, https://arxiv.org/abs/1608.05859).

In shapes, B is the number of rows, S and T the tokens of an input and a target row, W the width, H the heads of
attention and D their size, V the vocabulary. While translating, K is the number of beams and L the longest
translation. A dropout rate is 0 in evaluation.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoperf.backends import pytorch_layers
from algoperf.backends.pytorch_layers import dropout
from algoperf_wmt.positions import position_embedding
from algoperf_wmt.spec import Transformer
from algoperf_wmt.torch_attention import Mask, SelfAttention, SourceAttention, Tokens, make_mask, may_look

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {**pytorch_layers.ACTIVATIONS, "tanh": torch.tanh}


class LayerCache(NamedTuple):
    """What a layer of the decoder remembers while it translates.

    Attributes:
        keys: of self attention [B, H, L, K, D]; what slot k was given at position t lies at [:, :, t, k].
        values: the same for values.
        source_keys: of attention to the encoder [B, H, S, D], one for all beams.
        source_values: the same for values.
    """

    keys: Tensor
    values: Tensor
    source_keys: Tensor
    source_values: Tensor


class Cache(NamedTuple):
    """What the decoder remembers: which inputs are real (for [B, 1, 1, S]), and what each layer does."""

    source_mask: Mask
    layers: tuple[LayerCache, ...]


def _drop(x: Tensor, rate: float) -> Tensor:
    return x if rate == 0 else dropout(x, rate)


def _norm(config: Transformer) -> nn.LayerNorm:
    return nn.LayerNorm(config.width, eps=1e-6)


def _dense(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.normal_(layer.bias, std=1e-6)
    return layer


class Layer(nn.Module):
    """What layers of the encoder and of the decoder share: an MLP, and where layer norms are.

    The MLP is linear, activation, dropout, linear, dropout; the gated one multiplies by a linear layer of its input.
    """

    linear1: nn.Linear
    linear_glu: nn.Linear | None
    linear2: nn.Linear

    def __init__(self, config: Transformer) -> None:
        super().__init__()
        self.norm, self.activation = config.norm, ACTIVATIONS[config.activation]

    def _make_mlp(self, config: Transformer) -> None:
        self.linear1 = _dense(config.width, config.mlp_dim)
        self.linear_glu = _dense(config.width, config.mlp_dim) if config.gated_mlp else None
        self.linear2 = _dense(config.mlp_dim, config.width)

    def _mlp(self, x: Tensor, dropout_rate: float) -> Tensor:
        y = self.activation(self.linear1(x))
        if self.linear_glu is not None:
            y = y * self.linear_glu(x)
        return _drop(self.linear2(_drop(y, dropout_rate)), dropout_rate)

    def _enter(self, norm: nn.LayerNorm, x: Tensor) -> Tensor:
        """What a branch is given."""
        y: Tensor = norm(x) if self.norm == "pre" else x
        return y

    def _leave(self, norm: nn.LayerNorm, x: Tensor, branch: Tensor) -> Tensor:
        """Adds a branch to its input."""
        y: Tensor = x + branch if self.norm == "pre" else norm(x + branch)
        return y


class EncoderLayer(Layer):
    """Self attention and an MLP, each added to its input."""

    def __init__(self, config: Transformer) -> None:
        super().__init__(config)
        self.self_attn = SelfAttention(config)
        self._make_mlp(config)
        self.norm1, self.norm2 = _norm(config), _norm(config)

    def forward(self, x: Tensor, mask: Mask, dropout_rate: float) -> Tensor:
        """Maps [B, S, W] to the same shape; the mask is for [B, 1, S, S]."""
        attended = self.self_attn(self._enter(self.norm1, x), mask)
        x = self._leave(self.norm1, x, _drop(attended, dropout_rate))
        return self._leave(self.norm2, x, self._mlp(self._enter(self.norm2, x), dropout_rate))


class DecoderLayer(Layer):
    """Self attention, attention to the encoder and an MLP, each added to its input."""

    def __init__(self, config: Transformer) -> None:
        super().__init__(config)
        self.self_attn, self.multihead_attn = SelfAttention(config), SourceAttention(config)
        self._make_mlp(config)
        self.norm1, self.norm2, self.norm3 = _norm(config), _norm(config), _norm(config)

    def forward(self, x: Tensor, encoded: Tensor, mask: Mask, source_mask: Mask, dropout_rate: float) -> Tensor:
        """Maps [B, T, W] to the same shape; encoded is [B, S, W], the masks are for [B, 1, T, T] and [B, 1, T, S]."""
        attended = self.self_attn(self._enter(self.norm1, x), mask)
        x = self._leave(self.norm1, x, _drop(attended, dropout_rate))
        attended = self.multihead_attn(self._enter(self.norm2, x), encoded, source_mask)
        x = self._leave(self.norm2, x, _drop(attended, dropout_rate))
        return self._leave(self.norm3, x, self._mlp(self._enter(self.norm3, x), dropout_rate))

    def start(self, encoded: Tensor, num_beams: int, max_length: int) -> LayerCache:
        """A cache that knows the encoder's output [B, S, W], and nothing else."""
        keys, values = self.multihead_attn.keys_and_values(encoded)
        batch, heads, _, size = keys.shape
        empty = keys.new_zeros(2, batch, heads, max_length, num_beams, size)
        return LayerCache(empty[0], empty[1], keys, values)

    def step(self, x: Tensor, position: int, mask: Mask, source_mask: Mask, cache: LayerCache) -> Tensor:
        """Maps [B, K, W], one token of each beam, to the same shape, and notes it in the cache.

        The masks are for [B, 1, K, (position + 1) * K] and [B, 1, 1, S].
        """
        queries, keys, values = self.self_attn.project(self._enter(self.norm1, x))
        cache.keys[:, :, position], cache.values[:, :, position] = keys, values
        # Views: nothing is copied.
        keys, values = (kept[:, :, : position + 1].flatten(2, 3) for kept in (cache.keys, cache.values))
        x = self._leave(self.norm1, x, self.self_attn.attend(queries, keys, values, mask))
        y = self._enter(self.norm2, x)
        attended = self.multihead_attn.attend(y, cache.source_keys, cache.source_values, source_mask)
        x = self._leave(self.norm2, x, attended)
        return self._leave(self.norm3, x, self._mlp(self._enter(self.norm3, x), 0.0))


class Stack(nn.Module):
    """Layers, and a last layer norm if theirs come first."""

    def __init__(self, layers: Iterable[Layer], config: Transformer) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = _norm(config) if config.norm == "pre" else nn.Identity()

    def forward(self, x: Tensor, *context: Any) -> Tensor:
        """Maps x to the same shape; the context is what each layer takes besides."""
        for layer in self.layers:
            x = layer(x, *context)
        y: Tensor = self.norm(x)
        return y


class Encoder(nn.Module):
    """Dropout, and the encoder's layers."""

    def __init__(self, config: Transformer) -> None:
        super().__init__()
        self.encoder = Stack((EncoderLayer(config) for _ in range(config.num_layers)), config)

    def forward(self, x: Tensor, mask: Mask, dropout_rate: float) -> Tensor:
        """Maps [B, S, W] to the same shape; the mask is for [B, 1, S, S]."""
        encoded: Tensor = self.encoder(_drop(x, dropout_rate), mask, dropout_rate)
        return encoded


class Decoder(nn.Module):
    """Dropout, and the decoder's layers."""

    def __init__(self, config: Transformer) -> None:
        super().__init__()
        self.max_length = config.max_length
        self.decoder = Stack((DecoderLayer(config) for _ in range(config.num_layers)), config)

    def forward(self, x: Tensor, encoded: Tensor, mask: Mask, source_mask: Mask, dropout_rate: float) -> Tensor:
        """As of a layer."""
        decoded: Tensor = self.decoder(_drop(x, dropout_rate), encoded, mask, source_mask, dropout_rate)
        return decoded

    @property
    def _layers(self) -> Iterable[DecoderLayer]:
        return cast(Iterable[DecoderLayer], self.decoder.layers)

    def start(self, encoded: Tensor, num_beams: int) -> tuple[LayerCache, ...]:
        """As of a layer, for each."""
        return tuple(layer.start(encoded, num_beams, self.max_length) for layer in self._layers)

    def step(self, x: Tensor, position: int, mask: Mask, cache: Cache) -> Tensor:
        """As of a layer."""
        for layer, remembered in zip(self._layers, cache.layers, strict=True):
            x = layer.step(x, position, mask, cache.source_mask, remembered)
        y: Tensor = self.decoder.norm(x)
        return y


class TransformerModel(nn.Module):
    """Encoder and decoder around one embedding of tokens."""

    position_table: Tensor

    def __init__(self, config: Transformer) -> None:
        super().__init__()
        # Its start is the normal distribution of deviation 1.
        self.shared_embedding = nn.Embedding(config.vocab_size, config.width)
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        table = torch.empty(config.max_length, config.width)
        table.copy_(torch.from_numpy(position_embedding(config.max_length, config.width)))
        # A constant is no part of a checkpoint.
        self.register_buffer("position_table", table, persistent=False)

    def forward(self, inputs: Tokens, targets: Tokens, dropout_rate: float = 0.0) -> Tensor:
        """Maps inputs [B, S] and targets [B, T] to logits [B, T, V], each of which has seen earlier targets only."""
        return self.decode(self.encode(inputs, dropout_rate), inputs, targets, dropout_rate)

    def encode(self, inputs: Tokens, dropout_rate: float = 0.0) -> Tensor:
        """Maps inputs [B, S] to [B, S, W]."""
        rate = dropout_rate if self.training else 0.0
        x = self._embed(inputs.ids, inputs.positions)
        encoded: Tensor = self.encoder(x, make_mask(may_look(inputs, inputs)), rate)
        return encoded

    def decode(self, encoded: Tensor, inputs: Tokens, targets: Tokens, dropout_rate: float = 0.0) -> Tensor:
        """As `forward`, from what `encode` returned."""
        rate = dropout_rate if self.training else 0.0
        # Over the whole row: in a packed one, a sentence starts with the end of the one before it.
        shifted = F.pad(targets.ids, (1, -1))
        x = self._embed(shifted, targets.positions)
        mask, source_mask = make_mask(may_look(targets, targets).tril()), make_mask(may_look(targets, inputs))
        return self._logits(self.decoder(x, encoded, mask, source_mask, rate))

    def start_decoding(self, encoded: Tensor, inputs: Tensor, num_beams: int) -> Cache:
        """A cache for translating inputs [B, S], one sentence per row, with what `encode` made of them."""
        return Cache(make_mask((inputs > 0)[:, None, None]), self.decoder.start(encoded, num_beams))

    def decode_step(self, tokens: Tensor, position: int, history: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """One token of each beam.

        Nothing in the cache moves when a beam goes on with another one's sentence: it says where its past lies.

        Args:
            tokens: int32 [B, K], what each slot is given.
            position: of these tokens.
            history: int32 [B, K, L]; the slot that was given the token of beam k's sentence at position t is at
                [:, k, t], and at `position` it is k. Later ones do not matter.
            cache: of `start_decoding`, or of the step before; it is changed.

        Returns:
            Logits of each beam's next token [B, K, V], and the cache.
        """
        slots = torch.arange(history.shape[1], device=history.device)
        # Every beam sees its own token at least.
        seen = (history[:, :, : position + 1, None] == slots).flatten(2)[:, None]
        x = self._embed(tokens, torch.full_like(tokens, position))
        x = self.decoder.step(x, position, make_mask(seen), cache)
        return self._logits(x), cache

    def _embed(self, ids: Tensor, positions: Tensor | None) -> Tensor:
        places = self.position_table[: ids.shape[1]] if positions is None else self.position_table[positions]
        x: Tensor = self.shared_embedding(ids)
        # In the parameters' type, which a submission may have made a shorter one.
        return (x + places).to(x.dtype)

    def _logits(self, x: Tensor) -> Tensor:
        # Scaled before there are V of them.
        return F.linear(x * x.shape[-1] ** -0.5, self.shared_embedding.weight)
