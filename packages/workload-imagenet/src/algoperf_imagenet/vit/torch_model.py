"""A vision transformer in PyTorch: Dosovitskiy et al., https://arxiv.org/abs/2010.11929, without a class token.

Fixed position embeddings and the mean over tokens are from Beyer et al., https://arxiv.org/abs/2205.01580; pooling by
attention ("MAP head") from Zhai et al., https://arxiv.org/abs/2106.04560; gated MLPs from Shazeer,
https://arxiv.org/abs/2002.05202.

In shapes, T is the number of tokens and D their width. A dropout rate is 0 in evaluation.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoperf.backends.pytorch_layers import dropout, lecun_normal_
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ParameterType, RandomState
from algoperf_imagenet.torch_classification import TorchClassification
from algoperf_imagenet.vit.positions import position_embedding
from algoperf_imagenet.vit.spec import VisionTransformer


def _drop(x: Tensor, rate: float) -> Tensor:
    return x if rate == 0 else dropout(x, rate)


def _norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-6)


def _mlp_layer(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.normal_(layer.bias, std=1e-6)
    return layer


class Mlp(nn.Module):
    """Linear, GELU (tanh approximation), dropout, linear; the gated one multiplies by a linear layer of the activation.

    Args:
        width: of inputs and outputs.
        hidden: width between them.
        is_gated: whether there is a gate.
    """

    def __init__(self, width: int, hidden: int, is_gated: bool = False) -> None:
        super().__init__()
        self.is_gated = is_gated
        self.linear1 = _mlp_layer(width, hidden)
        if is_gated:
            self.glu_linear = _mlp_layer(hidden, hidden)
        self.linear2 = _mlp_layer(hidden, width)

    def forward(self, x: Tensor, dropout_rate: float) -> Tensor:
        """Maps [B, T, D] to the same shape."""
        y = F.gelu(self.linear1(x), approximate="tanh")
        if self.is_gated:
            y = y * self.glu_linear(y)
        output: Tensor = self.linear2(_drop(y, dropout_rate))
        return output


class Projection(nn.Linear):
    """A linear layer of attention: one matrix of D x D, or several, one below the other.

    Args:
        width: D.
        matrices: how many there are; each is initialised by itself.
        weight_type: what `weight` is for.
        bias_type: what `bias` is for.
    """

    def __init__(
        self,
        width: int,
        matrices: int = 1,
        weight_type: ParameterType = ParameterType.WEIGHT,
        bias_type: ParameterType = ParameterType.BIAS,
    ) -> None:
        super().__init__(width, matrices * width)
        self.weight_type, self.bias_type = weight_type, bias_type
        for matrix in self.weight.split(width):
            nn.init.xavier_uniform_(matrix)
        nn.init.zeros_(self.bias)


def _attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """Maps queries [B, Q, D], keys and values [B, T, D] to [B, Q, D], before the output's projection."""
    heads = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Attention with several heads."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        bias = ParameterType.ATTENTION_BIAS
        self.num_heads = num_heads
        self.query = Projection(width, weight_type=ParameterType.ATTENTION_Q, bias_type=bias)
        self.key = Projection(width, weight_type=ParameterType.ATTENTION_K, bias_type=bias)
        self.value = Projection(width, weight_type=ParameterType.ATTENTION_V, bias_type=bias)
        self.out = Projection(width, weight_type=ParameterType.ATTENTION_OUT, bias_type=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, T, D] to the same shape."""
        output: Tensor = self.out(_attend(self.query(x), self.key(x), self.value(x), self.num_heads))
        return output


class ProbeAttention(nn.Module):
    """Attention with several heads, whose queries come from elsewhere; one layer makes both keys and values."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = Projection(width)
        self.kv_proj = Projection(width, matrices=2)
        self.out_proj = Projection(width)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Maps queries [B, Q, D], which look at tokens [B, T, D], to [B, Q, D]."""
        key, value = self.kv_proj(tokens).chunk(2, dim=-1)
        output: Tensor = self.out_proj(_attend(self.q_proj(queries), key, value, self.num_heads))
        return output


class EncoderBlock(nn.Module):
    """Attention and an MLP, each added to its input, with layer norms before them or after the additions."""

    def __init__(self, config: VisionTransformer) -> None:
        super().__init__()
        self.norm = config.norm
        self.layer_norm0 = _norm(config.width)
        self.self_attention1 = SelfAttention(config.width, config.num_heads)
        self.layer_norm2 = _norm(config.width)
        self.mlp3 = Mlp(config.width, config.mlp_dim, config.gated_mlp)

    def forward(self, x: Tensor, dropout_rate: float) -> Tensor:
        """Maps [B, T, D] to the same shape."""
        if self.norm == "pre":
            x = x + _drop(self.self_attention1(self.layer_norm0(x)), dropout_rate)
            return x + _drop(self.mlp3(self.layer_norm2(x), dropout_rate), dropout_rate)
        x = self.layer_norm0(x + _drop(self.self_attention1(x), dropout_rate))
        output: Tensor = self.layer_norm2(x + _drop(self.mlp3(x, dropout_rate), dropout_rate))
        return output


class Encoder(nn.Module):
    """Encoder blocks, and a last layer norm if theirs come first."""

    def __init__(self, config: VisionTransformer) -> None:
        super().__init__()
        self.net = nn.ModuleList(EncoderBlock(config) for _ in range(config.depth))
        self.encoder_norm = _norm(config.width) if config.norm == "pre" else nn.Identity()

    def forward(self, x: Tensor, dropout_rate: float) -> Tensor:
        """Maps [B, T, D] to the same shape."""
        x = _drop(x, dropout_rate)
        for block in self.net:
            x = block(x, dropout_rate)
        output: Tensor = self.encoder_norm(x)
        return output


class MapHead(nn.Module):
    """Pools tokens by the attention of one learned query, and an MLP. Dropout is in the MLP alone."""

    def __init__(self, config: VisionTransformer) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, config.width))
        # Xavier's bound for a matrix from 1 to D features.
        bound = (6 / (1 + config.width)) ** 0.5
        nn.init.uniform_(self.probe, -bound, bound)
        self.mha = ProbeAttention(config.width, config.num_heads)
        self.layer_norm = _norm(config.width)
        self.mlp = Mlp(config.width, config.mlp_dim)

    def forward(self, tokens: Tensor, dropout_rate: float) -> Tensor:
        """Maps [B, T, D] to [B, D]."""
        y = self.mha(self.probe.expand(tokens.shape[0], -1, -1), tokens)
        y = y + self.mlp(self.layer_norm(y), dropout_rate)
        pooled: Tensor = y[:, 0]
        return pooled


class VisionTransformerModel(nn.Module):
    """Patches become tokens; an encoder, pooling, a hidden layer and the output layer follow."""

    positions: Tensor

    def __init__(self, config: VisionTransformer) -> None:
        super().__init__()
        width, patch = config.width, config.patch_size
        self.pre_logits = nn.Linear(width, width)
        self.conv_patch_extract = nn.Conv2d(3, width, patch, patch)
        self.encoder = Encoder(config)
        self.head = nn.Linear(width, config.num_classes)
        self.map = MapHead(config) if config.pooling == "map" else None
        lecun_normal_(self.pre_logits.weight, fan_in=width)
        lecun_normal_(self.conv_patch_extract.weight, fan_in=3 * patch**2)
        for zero in (self.pre_logits.bias, self.conv_patch_extract.bias, self.head.weight, self.head.bias):
            assert zero is not None
            nn.init.zeros_(zero)
        side = config.image_size // patch
        positions = torch.empty(side**2, width)
        positions.copy_(torch.from_numpy(position_embedding(side, side, width)))
        # A constant is no part of a checkpoint.
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, images: Tensor, dropout_rate: float = 0.0) -> Tensor:
        """Maps images [B, 3, H, W] to logits [B, num_classes]."""
        rate = dropout_rate if self.training else 0.0
        tokens = self.conv_patch_extract(images).flatten(2).transpose(1, 2)
        x = self.encoder(tokens + self.positions, rate)
        x = x.mean(dim=1) if self.map is None else self.map(x, rate)
        logits: Tensor = self.head(torch.tanh(self.pre_logits(x)))
        return logits


class VisionTransformerTorch(TorchClassification):
    """The vision transformer and its variants in PyTorch."""

    def build_model(self) -> nn.Module:
        """The model with fresh parameters."""
        return VisionTransformerModel(self.spec.model)

    def parameter_type(self, module: nn.Module, name: str) -> ParameterType:
        """By the kind of the layer; those of the MAP head's attention are plain weights and biases."""
        if isinstance(module, nn.LayerNorm):
            return ParameterType.LAYER_NORM_SCALE if name == "weight" else ParameterType.LAYER_NORM_BIAS
        if isinstance(module, Projection):
            return module.weight_type if name == "weight" else module.bias_type
        if name == "bias":
            return ParameterType.BIAS
        return ParameterType.CONV_WEIGHT if isinstance(module, nn.Conv2d) else ParameterType.WEIGHT

    def model_fn(
        self,
        params: nn.Module,
        augmented_and_preprocessed_input_batch: Mapping[str, Any],
        model_state: ModelAuxiliaryState,
        mode: ForwardPassMode,
        rng: RandomState,
        update_batch_norm: bool,
        dropout_rate: float | None = None,
    ) -> tuple[Tensor, ModelAuxiliaryState]:
        """Logits [B, num_classes], float32, and None.

        Raises:
            ValueError: the inputs are not images [B, 3, image_size, image_size], or there is a model state.
        """
        del rng, update_batch_norm
        images, size = augmented_and_preprocessed_input_batch["inputs"], self.spec.model.image_size
        if model_state is not None:
            raise ValueError(f"{self.spec.name} has no model state; pass None as model_state.")
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise ValueError(
                f"{self.spec.name} needs inputs of the shape [B, 3, {size}, {size}], not {tuple(images.shape)}."
            )
        self.set_mode(params, mode)
        rate = self.spec.dropout_rate if dropout_rate is None else dropout_rate
        return params(images, rate), None
