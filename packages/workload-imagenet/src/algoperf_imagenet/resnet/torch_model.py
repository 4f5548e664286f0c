"""ResNet-50 in PyTorch: He et al., https://arxiv.org/abs/1512.03385, with the stride in a block's 3x3 convolution.

That a block's last batch norm begins with a scale of 0 is from Goyal et al., https://arxiv.org/abs/1706.02677.
"""

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoperf.backends.pytorch_layers import ACTIVATIONS, lecun_normal_
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ParameterType, RandomState
from algoperf_imagenet.resnet.batch_norm import BatchNorm2d, still_statistics
from algoperf_imagenet.resnet.spec import ResNet
from algoperf_imagenet.torch_classification import TorchClassification


def _conv(channels: int, features: int, size: int, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    conv = nn.Conv2d(channels, features, size, stride, padding, bias=False)
    lecun_normal_(conv.weight, fan_in=channels * size**2)
    return conv


class SamePadding(nn.Module):
    """Pads with zeros, so that a 3x3 convolution's output has 1/stride of the height and width, rounded up.

    What is to be added to the two sides of an axis differs by one where the stride is 2 and the size is even; the
    more is added behind. JAX calls this "SAME".
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, H, W] to [B, C, H', W']."""
        height, width = (self._padding(size) for size in x.shape[2:])
        return F.pad(x, (*width, *height))

    def _padding(self, size: int) -> tuple[int, int]:
        total = max((-(-size // self.stride) - 1) * self.stride + 3 - size, 0)
        return total // 2, total - total // 2


class BottleneckBlock(nn.Module):
    """Convolutions of 1x1, 3x3 and 1x1, added to the input, or to a projection of it where the shape changes."""

    def __init__(self, config: ResNet, channels: int, features: int, stride: int) -> None:
        super().__init__()
        width = 4 * features
        self.activation = ACTIVATIONS[config.activation]
        self.padding = nn.Identity() if stride == 1 else SamePadding(stride)
        self.conv1 = _conv(channels, features, 1)
        self.bn1 = BatchNorm2d(features)
        self.conv2 = _conv(features, features, 3, stride, padding=1 if stride == 1 else 0)
        self.bn2 = BatchNorm2d(features)
        self.conv3 = _conv(features, width, 1)
        self.bn3 = BatchNorm2d(width)
        nn.init.constant_(self.bn3.weight, config.last_norm_scale)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            layers = OrderedDict(conv=_conv(channels, width, 1, stride), bn=BatchNorm2d(width))
            self.downsample = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, H, W] to [B, 4 * features, H / stride, W / stride]."""
        y = self.activation(self.bn1(self.conv1(x)))
        y = self.activation(self.bn2(self.conv2(self.padding(y))))
        return self.activation(self.downsample(x) + self.bn3(self.conv3(y)))


class ResNetModel(nn.Module):
    """A stem, stages of bottleneck blocks, the mean over positions, and a linear layer."""

    def __init__(self, config: ResNet) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.conv1 = _conv(3, config.width, 7, stride=2, padding=3)
        self.bn1 = BatchNorm2d(config.width)
        self.stages = [f"layer{stage + 1}" for stage in range(len(config.stage_sizes))]
        channels = config.width
        for stage, (name, size) in enumerate(zip(self.stages, config.stage_sizes, strict=True)):
            features = config.width * 2**stage
            first = BottleneckBlock(config, channels, features, stride=2 if stage > 0 else 1)
            channels = 4 * features
            later = (BottleneckBlock(config, channels, features, stride=1) for _ in range(size - 1))
            self.add_module(name, nn.Sequential(first, *later))
        self.fc = nn.Linear(channels, config.num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images [B, 3, H, W] to logits [B, num_classes]."""
        x = self.activation(self.bn1(self.conv1(images)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


class ResNetTorch(TorchClassification):
    """ResNet-50 and its variants in PyTorch. Running statistics are buffers of the model."""

    def build_model(self) -> nn.Module:
        """The model with fresh parameters and running statistics; weights lie in memory as images do."""
        model = ResNetModel(self.spec.model)
        # The annotations of `to` leave this keyword out.
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def parameter_type(self, module: nn.Module, name: str) -> ParameterType:
        """By the kind of the layer."""
        if isinstance(module, BatchNorm2d):
            return ParameterType.BATCH_NORM_SCALE if name == "weight" else ParameterType.BATCH_NORM_BIAS
        if isinstance(module, nn.Conv2d):
            return ParameterType.CONV_WEIGHT
        assert isinstance(module, nn.Linear)
        return ParameterType.WEIGHT if name == "weight" else ParameterType.BIAS

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
        """Logits [B, num_classes], float32, and None, because running statistics are in `params`.

        Args:
            params: the model.
            augmented_and_preprocessed_input_batch: its `inputs` are normalised images [B, 3, H, W].
            model_state: None.
            mode: TRAIN normalises with the statistics of this batch, EVAL with the running ones.
            rng: unused, because nothing is random.
            update_batch_norm: whether the running statistics move.
            dropout_rate: unused, because there is no dropout.

        Raises:
            ValueError: the inputs are no images, there is a model state, or statistics are to be updated in EVAL mode.
        """
        del rng, dropout_rate
        images = augmented_and_preprocessed_input_batch["inputs"]
        if model_state is not None:
            raise ValueError(f"{self.spec.name} has its statistics in the model; pass None as model_state.")
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"{self.spec.name} needs inputs of the shape [B, 3, H, W], not {tuple(images.shape)}.")
        if mode is ForwardPassMode.EVAL and update_batch_norm:
            raise ValueError("Batch-norm statistics are not updated in EVAL mode; pass update_batch_norm=False.")
        self.set_mode(params, mode)
        is_still = mode is ForwardPassMode.TRAIN and not update_batch_norm
        with still_statistics(params) if is_still else nullcontext():
            return params(images), None
