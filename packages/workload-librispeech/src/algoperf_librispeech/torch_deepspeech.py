"""DeepSpeech in PyTorch: Amodei et al., https://arxiv.org/abs/1512.02595, with residual connections.

Shapes are those of `torch_layers`. A mask is 1 where a frame is real and 0 elsewhere; a dropout rate is 0 in
evaluation.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from algoperf.backends.pytorch_layers import lecun_normal_
from algoperf_librispeech import torch_spec_augment
from algoperf_librispeech.spec import DeepSpeech
from algoperf_librispeech.torch_layers import Dense, LayerNorm, MaskedBatchNorm, Subsampling, drop
from algoperf_librispeech.torch_log_mel import log_mel

_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "tanh": torch.tanh}


class _Layer(nn.Module):
    """What comes before a layer, masked batch norm or layer norm, and whether its input is added to its output."""

    def __init__(self, config: DeepSpeech) -> None:
        super().__init__()
        self.residual = config.residual
        self.norm: nn.Module = LayerNorm(config.width)
        if config.norm == "batch":
            self.norm = MaskedBatchNorm(config.width, config.statistics_momentum)

    def _enter(self, x: Tensor, mask: Tensor) -> Tensor:
        y: Tensor = self.norm(x, mask) if isinstance(self.norm, MaskedBatchNorm) else self.norm(x)
        return y

    def _leave(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y if self.residual else y


class Recurrent(_Layer):
    """A bidirectional LSTM (Hochreiter and Schmidhuber, https://doi.org/10.1162/neco.1997.9.8.1735).

    Its first bias and its second are added to each other; both begin with zero.
    """

    def __init__(self, config: DeepSpeech) -> None:
        super().__init__(config)
        self.lstm = nn.LSTM(config.width, config.width // 2, batch_first=True, bidirectional=True)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            elif name.startswith("weight_ih"):
                lecun_normal_(parameter, fan_in=config.width)
            else:
                for matrix in parameter.chunk(4):
                    nn.init.orthogonal_(matrix)

    def forward(self, x: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """Maps [B, T, W] to the same shape; the mask is [B, T, 1] and the lengths are [B], on the host and positive."""
        y = self._enter(x, mask)
        # On CPUs, what packed sequences of several lengths take grows with the square of the length.
        y = self.packed(y, lengths) if x.is_cuda else self.unpacked(y, lengths)
        return self._leave(x, (y * mask).to(x.dtype))

    def packed(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The LSTM of real frames, both directions at once."""
        # A copied or converted model's weights lie apart, and cuDNN would gather them at each call.
        self.lstm.flatten_parameters()
        sequences = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(sequences)[0], batch_first=True, total_length=x.shape[1])
        return y

    def unpacked(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The same at real frames, one direction after the other, with padding behind the real frames for both."""
        length = x.shape[1]
        # Reverses the real frames and the padded ones, each by themselves; twice is nothing.
        order = ((lengths[:, None] - 1 - torch.arange(length)) % length)[..., None].to(x.device)
        backward = self._direction(x.take_along_dim(order, dim=1), "_reverse")
        return torch.cat((self._direction(x, ""), backward.take_along_dim(order, dim=1)), dim=2)

    def _direction(self, x: Tensor, suffix: str) -> Tensor:
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        weights: list[Tensor] = [self.lstm.get_parameter(name + suffix) for name in names]
        zeros = x.new_zeros(1, len(x), self.lstm.hidden_size)
        return torch.lstm(
            x,
            (zeros, zeros),
            weights,
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=self.training,
            bidirectional=False,
            batch_first=True,
        )[0]


class FeedForward(_Layer):
    """Linear, activation, dropout."""

    def __init__(self, config: DeepSpeech) -> None:
        super().__init__(config)
        self.activation = _ACTIVATIONS[config.activation]
        self.linear = Dense(config.width, config.width)

    def forward(self, x: Tensor, mask: Tensor, dropout_rate: float) -> Tensor:
        """Maps [B, T, W] to the same shape; the mask is [B, T, 1]."""
        return self._leave(x, drop(self.activation(self.linear(self._enter(x, mask))), dropout_rate))


class DeepSpeechModel(nn.Module):
    """The front end, subsampling, LSTMs, feed-forward layers, and an output layer."""

    def __init__(self, config: DeepSpeech) -> None:
        super().__init__()
        self.spec_augment = config.spec_augment
        self.subsampling = Subsampling(config, config.activation)
        self.recurrent = nn.ModuleList(Recurrent(config) for _ in range(config.num_lstm_layers))
        self.feed_forward = nn.ModuleList(FeedForward(config) for _ in range(config.num_mlp_layers))
        self.norm = LayerNorm(config.width) if config.norm == "batch" else nn.Identity()
        self.output = Dense(config.width, config.vocab_size)

    def forward(self, audio: Tensor, paddings: Tensor, dropout_rate: float = 0.0) -> tuple[Tensor, Tensor]:
        """Maps audio and its paddings [B, N] to logits [B, T, vocab_size], zero where padded, and paddings [B, T]."""
        features, paddings = log_mel(audio, paddings)
        if self.training:
            uniforms = torch_spec_augment.draw(self.spec_augment, len(audio), audio.device)
            features = torch_spec_augment.hide(features, paddings, self.spec_augment, uniforms)
        rate = dropout_rate if self.training else 0.0
        x, paddings = self.subsampling(features, paddings)
        x, mask = drop(x, rate), (1 - paddings)[..., None]
        # One copy to the host for all layers. A row of padding has a frame of it, because an LSTM has to have one.
        lengths = (paddings == 0).sum(dim=1).clamp(min=1).cpu()
        for recurrent in self.recurrent:
            x = recurrent(x, mask, lengths)
        for feed_forward in self.feed_forward:
            x = feed_forward(x, mask, rate)
        return self.output(self.norm(x)) * mask, paddings
