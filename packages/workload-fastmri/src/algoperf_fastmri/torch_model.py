"""The U-Net of Ronneberger et al. (https://arxiv.org/abs/1505.04597) in PyTorch, as for fastMRI.

Sizes and norms: Zbontar et al., https://arxiv.org/abs/1811.08839, section 5.2; variants: AlgoPerf
(https://arxiv.org/abs/2306.07179, appendix D).

In shapes, B are the examples of a batch, H and W height and width, C channels.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoperf.backends.pytorch_layers import dropout, lecun_normal_
from algoperf_fastmri.spec import UNet

# In place: no norm needs its output in the backward pass.
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "leaky_relu": partial(F.leaky_relu, negative_slope=0.2, inplace=True),
    "tanh": torch.tanh_,
}


def channel_dropout(x: Tensor, rate: float) -> Tensor:
    """Drops whole channels of single examples out of [B, C, H, W]."""
    return x * dropout(x.new_ones(x.shape[:2]), rate)[:, :, None, None]


def pad_like(x: Tensor, skip: Tensor) -> Tensor:
    """Reflects the last row or column where `skip` has one more, because pooling left an odd one out."""
    height, width = (larger - size for size, larger in zip(x.shape[2:], skip.shape[2:], strict=True))
    return F.pad(x, (0, width, 0, height), mode="reflect") if height or width else x


class ConvBlock(nn.Module):
    """Twice: a 3x3 convolution, a norm, the activation and dropout of whole channels."""

    def __init__(self, config: UNet, channels: int, features: int) -> None:
        super().__init__()
        self.activation = _ACTIVATIONS[config.activation]
        for i, width in enumerate((channels, features)):
            conv = nn.Conv2d(width, features, 3, padding=1, bias=False)
            lecun_normal_(conv.weight, fan_in=9 * width)
            self.add_module(f"conv_{i}", conv)
            # One group is a layer norm over height, width and channels.
            norm = nn.GroupNorm(1, features, eps=1e-6) if config.norm == "layer" else nn.InstanceNorm2d(features)
            self.add_module(f"norm_{i}", norm)

    def forward(self, x: Tensor, dropout_rate: float | None) -> Tensor:
        """Maps [B, ., H, W] to [B, features, H, W]."""
        for i in range(2):
            x = self.activation(self.get_submodule(f"norm_{i}")(self.get_submodule(f"conv_{i}")(x)))
            if dropout_rate is not None:
                x = channel_dropout(x, dropout_rate)
        return x


class UNetModel(nn.Module):
    """Blocks between which the image is halved, then blocks between which it is doubled and joined with its likes."""

    def __init__(self, config: UNet) -> None:
        super().__init__()
        self.activation = _ACTIVATIONS[config.activation]
        self.num_pools = config.num_pools
        widths = [config.num_channels * 2**i for i in range(config.num_pools)]
        for i, (channels, width) in enumerate(zip((1, *widths), widths, strict=False)):
            self.add_module(f"down_{i}", ConvBlock(config, channels, width))
        self.bottom = ConvBlock(config, widths[-1], 2 * widths[-1])
        for i, width in enumerate(reversed(widths)):
            transpose = nn.ConvTranspose2d(2 * width, width, 2, stride=2, bias=False)
            lecun_normal_(transpose.weight, fan_in=4 * 2 * width)
            self.add_module(f"transpose_{i}", transpose)
            self.add_module(f"up_{i}", ConvBlock(config, 2 * width, width))
        self.output = nn.Conv2d(config.num_channels, 1, 1)
        lecun_normal_(self.output.weight, fan_in=config.num_channels)
        assert self.output.bias is not None
        nn.init.zeros_(self.output.bias)

    def forward(self, images: Tensor, dropout_rate: float | None = None) -> Tensor:
        """Maps images [B, H, W] to images [B, H, W]. A rate of None: no dropout."""
        x = images[:, None].to(self.output.weight.dtype)
        skips = []
        for i in range(self.num_pools):
            x = self.get_submodule(f"down_{i}")(x, dropout_rate)
            skips.append(x)
            x = F.avg_pool2d(x, 2)
        x = self.bottom(x, dropout_rate)
        for i in range(self.num_pools):
            skip = skips.pop()
            x = self.activation(F.instance_norm(self.get_submodule(f"transpose_{i}")(x)))
            x = self.get_submodule(f"up_{i}")(torch.cat([pad_like(x, skip), skip], dim=1), dropout_rate)
        outputs: Tensor = self.output(x)[:, 0]
        return outputs
