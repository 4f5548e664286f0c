"""ResNet-50 in JAX: He et al., https://arxiv.org/abs/1512.03385, with the stride in a block's 3x3 convolution.

That a block's last batch norm begins with a scale of 0 is from Goyal et al., https://arxiv.org/abs/1706.02677.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from algoperf.backends.jax_layers import ACTIVATIONS
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ModelInitState, ParameterType, RandomState
from algoperf_imagenet.jax_classification import JaxClassification
from algoperf_imagenet.resnet.spec import ResNet


def _conv(features: int, size: int, stride: int, name: str) -> nn.Conv:
    """A convolution whose output has 1/stride of the input's height and width, rounded up."""
    return nn.Conv(features, (size, size), stride, padding="SAME", use_bias=False, name=name)


def _norm(use_running_average: bool, name: str, scale: float = 1.0) -> nn.BatchNorm:
    """A batch norm; under `jax.jit` its statistics are those of the whole batch, on however many devices it lies."""
    scale_init = nn.initializers.constant(scale)
    return nn.BatchNorm(use_running_average, momentum=0.9, epsilon=1e-5, scale_init=scale_init, name=name)


class BottleneckBlock(nn.Module):
    """Convolutions of 1x1, 3x3 and 1x1, added to the input, or to a projection of it where the shape changes."""

    config: ResNet
    features: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, 4 * features]."""
        activation = ACTIVATIONS[self.config.activation]
        width = 4 * self.features
        y = _conv(self.features, 1, 1, "Conv_0")(x)
        y = activation(_norm(use_running_average, "BatchNorm_0")(y))
        y = _conv(self.features, 3, self.stride, "Conv_1")(y)
        y = activation(_norm(use_running_average, "BatchNorm_1")(y))
        y = _conv(width, 1, 1, "Conv_2")(y)
        y = _norm(use_running_average, "BatchNorm_2", self.config.last_norm_scale)(y)
        if self.stride != 1 or x.shape[-1] != width:
            x = _conv(width, 1, self.stride, "Conv_proj")(x)
            x = _norm(use_running_average, "BatchNorm_proj")(x)
        return activation(x + y)


class ResNetModel(nn.Module):
    """A stem, stages of bottleneck blocks, the mean over positions, and a dense layer."""

    config: ResNet

    @nn.compact
    def __call__(self, images: jax.Array, use_running_average: bool = True) -> jax.Array:
        """Maps images [B, H, W, 3] to logits [B, num_classes]."""
        config = self.config
        x = nn.Conv(config.width, (7, 7), 2, padding=3, use_bias=False, name="Conv_init")(images)
        x = ACTIVATIONS[config.activation](_norm(use_running_average, "BatchNorm_init")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        number = 0
        for stage, size in enumerate(config.stage_sizes):
            for i in range(size):
                stride = 2 if stage > 0 and i == 0 else 1
                block = BottleneckBlock(config, config.width * 2**stage, stride, name=f"BottleneckResNetBlock_{number}")
                x = block(x, use_running_average)
                number += 1
        x = x.mean(axis=(1, 2))
        return nn.Dense(config.num_classes, kernel_init=nn.initializers.normal(0.01), name="Dense_0")(x)


class ResNetJax(JaxClassification):
    """ResNet-50 and its variants in JAX. The model state is `{"batch_stats": running statistics}`."""

    @property
    def _model(self) -> ResNetModel:
        return ResNetModel(self.spec.model)

    def init_variables(self, rng: RandomState) -> ModelInitState:
        """Fresh parameters and running statistics."""
        # Neither depends on the size of the images.
        variables = self._model.init(rng, jnp.zeros((1, 32, 32, 3)))
        return variables["params"], {"batch_stats": variables["batch_stats"]}

    def parameter_type(self, path: tuple[str, ...]) -> ParameterType:
        """By the layer's and the parameter's name."""
        *_, layer, name = path
        if layer.startswith("BatchNorm"):
            return ParameterType.BATCH_NORM_SCALE if name == "scale" else ParameterType.BATCH_NORM_BIAS
        if name == "bias":
            return ParameterType.BIAS
        return ParameterType.CONV_WEIGHT if layer.startswith("Conv") else ParameterType.WEIGHT

    def model_fn(
        self,
        params: Any,
        augmented_and_preprocessed_input_batch: Mapping[str, Any],
        model_state: ModelAuxiliaryState,
        mode: ForwardPassMode,
        rng: RandomState,
        update_batch_norm: bool,
        dropout_rate: float | jax.Array | None = None,
        use_running_average_bn: bool | None = None,
    ) -> tuple[jax.Array, ModelAuxiliaryState]:
        """Logits [B, num_classes], float32, and the new model state.

        Args:
            params: as `init_model_fn` made them.
            augmented_and_preprocessed_input_batch: its `inputs` are normalised images [B, H, W, 3].
            model_state: the running statistics.
            mode: TRAIN normalises with the statistics of this batch, EVAL with the running ones.
            rng: unused, because nothing is random.
            update_batch_norm: whether the running statistics move. If not, they are returned as they are.
            dropout_rate: unused, because there is no dropout.
            use_running_average_bn: whether the running statistics normalise, in place of what `mode` says; if they
                do, they never move.

        Raises:
            ValueError: the inputs are no images, there is no model state, or statistics are to be updated in EVAL mode.
        """
        del rng, dropout_rate
        images = augmented_and_preprocessed_input_batch["inputs"]
        if model_state is None:
            raise ValueError(f"{self.spec.name} has running statistics; pass them as model_state.")
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"{self.spec.name} needs inputs of the shape [B, H, W, 3], not {images.shape}.")
        is_evaluation = mode is ForwardPassMode.EVAL
        if is_evaluation and update_batch_norm:
            raise ValueError("Batch-norm statistics are not updated in EVAL mode; pass update_batch_norm=False.")
        use_running_average = is_evaluation if use_running_average_bn is None else use_running_average_bn
        logits, new_state = self._model.apply(
            {"params": params, **model_state}, images, use_running_average, mutable=["batch_stats"]
        )
        return logits, new_state if update_batch_norm and not use_running_average else model_state
