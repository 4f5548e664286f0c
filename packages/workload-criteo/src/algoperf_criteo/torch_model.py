"""The deep learning recommendation model of Naumov et al. (https://arxiv.org/abs/1906.00091) in PyTorch.

Sizes, layer norms and the residual variant: AlgoPerf (https://arxiv.org/abs/2306.07179, appendix D).

In shapes, B are the examples of a batch.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoperf.backends.pytorch_layers import dropout
from algoperf_criteo.spec import NUM_CATEGORICAL, NUM_CHUNKS, NUM_DENSE, Dlrm


def dot_products(features: Tensor) -> Tensor:
    """Dot products of all pairs of features, each with itself too: [B, F, D] to [B, F * (F + 1) / 2].

    Pairs are in the order of the upper triangle's rows.
    """
    num = features.shape[1]
    first, second = torch.triu_indices(num, num, device=features.device)
    # Not [:, first, second] of the products, whose gradient takes twice as long.
    return torch.bmm(features, features.transpose(1, 2)).flatten(1).index_select(1, first * num + second)


def dense_layer(in_features: int, features: int, init: Callable[[Tensor], Tensor]) -> nn.Linear:
    """A linear layer; its weight by `init`, its bias normal with a deviation of 1 / sqrt(features)."""
    layer = nn.Linear(in_features, features)
    init(layer.weight)
    nn.init.normal_(layer.bias, std=features**-0.5)
    return layer


class MLP(nn.Module):
    """For each width: linear, ReLU and perhaps layer norm.

    With `residual`, each layer but the first adds its output to its input, after the ReLU.
    """

    def __init__(self, in_features: int, dims: tuple[int, ...], init: Callable[[Tensor], Tensor], config: Dlrm) -> None:
        super().__init__()
        self.num_layers = len(dims)
        self.residual = config.interaction == "residual"
        for i, (width, features) in enumerate(zip((in_features, *dims), dims, strict=False)):
            self.add_module(f"dense_{i}", dense_layer(width, features, init))
            self.add_module(f"norm_{i}", nn.LayerNorm(features, eps=1e-6) if config.layer_norm else nn.Identity())

    def forward(self, x: Tensor, dropout_rate: float | None = None) -> Tensor:
        """Maps [B, .] to [B, dims[-1]]; with a rate, the last layer's output is dropped out (before it is added)."""
        for i in range(self.num_layers):
            h = self.get_submodule(f"norm_{i}")(F.relu(self.get_submodule(f"dense_{i}")(x)))
            if i == self.num_layers - 1 and dropout_rate is not None:
                h = dropout(h, dropout_rate)
            x = x + h if self.residual and i > 0 else h
        return x


class DlrmModel(nn.Module):
    """Predicts clicks from dense features and from categories, whose embeddings lie in one table.

    Row r of the table is row r % n of chunk r // n, where n are the rows of a chunk. A chunk's gradient is what
    autodiff gives: a dense tensor, zero in the rows that a batch does not look up. Optimizers of submissions take
    tensors of the parameters' shapes, and momentum and weight decay move all rows.
    """

    def __init__(self, config: Dlrm) -> None:
        super().__init__()
        self.config = config
        self.chunk_rows = config.vocab_size // NUM_CHUNKS
        for i in range(NUM_CHUNKS):
            chunk = torch.empty(self.chunk_rows, config.embed_dim).uniform_(0, config.embedding_limit)
            self.register_parameter(f"embedding_chunk_{i}", nn.Parameter(chunk))
        num_features = 1 + NUM_CATEGORICAL
        joint = num_features * (num_features + 1) // 2
        if config.interaction == "residual":
            joint = NUM_CATEGORICAL * config.embed_dim
        bottom, top = config.bottom_dims, config.top_dims
        self.bottom_mlp = MLP(NUM_DENSE, bottom, nn.init.xavier_uniform_, config)
        self.top_mlp = MLP(bottom[-1] + joint, top, nn.init.xavier_normal_, config)
        self.output = dense_layer(top[-1], 1, nn.init.xavier_normal_)
        self.embedding_norm = nn.LayerNorm(config.embed_dim, eps=1e-6) if config.layer_norm else nn.Identity()

    def embed(self, ids: Tensor) -> Tensor:
        """Rows of the table, [..., embed_dim], for ids below vocab_size."""
        row, chunk = ids % self.chunk_rows, ids // self.chunk_rows
        embeddings = F.embedding(row, self.get_parameter("embedding_chunk_0"))
        for i in range(1, NUM_CHUNKS):
            # Joining the chunks would copy the whole table in each step.
            rows = F.embedding(row, self.get_parameter(f"embedding_chunk_{i}"))
            embeddings = torch.where((chunk == i)[..., None], rows, embeddings)
        return embeddings

    def forward(self, inputs: Tensor, dropout_rate: float | None = None) -> Tensor:
        """Maps dense features and ids (as floats), [B, 13 + 26], to logits [B, 1]. A rate of None: no dropout."""
        # Ids need float32, whatever the parameters' type.
        dense, ids = inputs[:, :NUM_DENSE].to(self.output.weight.dtype), inputs[:, NUM_DENSE:].to(torch.int32)
        bottom = self.bottom_mlp(dense)
        embeddings = self.embedding_norm(self.embed(ids % self.config.vocab_size))
        if self.config.interaction == "dot":
            joint = dot_products(torch.cat([bottom[:, None], embeddings], dim=1))
        else:
            joint = embeddings.flatten(1)
        logits: Tensor = self.output(self.top_mlp(torch.cat([bottom, joint], dim=1), dropout_rate))
        return logits
