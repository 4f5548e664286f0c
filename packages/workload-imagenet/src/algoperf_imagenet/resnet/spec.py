"""The facts of the ResNet-50 workload and its variants.

Figures at full scale: AlgoPerf (https://arxiv.org/abs/2306.07179, appendix D). Model: He et al.,
https://arxiv.org/abs/1512.03385, with the stride in the 3x3 convolution.
"""

from dataclasses import dataclass, replace
from typing import Literal

from algoperf.spec import Budget, Framework, LossType, Scale, Target, WorkloadSpec
from algoperf_imagenet.dataset import DIGITS, IMAGENET


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """Choices of the residual network.

    Attributes:
        stage_sizes: bottleneck blocks of each stage; the width doubles from stage to stage.
        width: channels inside the blocks of the first stage; a block's output has four times as many.
        activation: what follows the batch norms and the additions; "gelu" is the tanh approximation.
        last_norm_scale: what the scale of each block's last batch norm begins with.
        num_classes: outputs.
    """

    stage_sizes: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    activation: Literal["relu", "gelu", "silu"] = "relu"
    last_norm_scale: float = 0.0
    num_classes: int = 1000

    def __post_init__(self) -> None:
        if self.activation not in ("relu", "gelu", "silu"):
            raise ValueError(f"The activation is 'relu', 'gelu' or 'silu', not {self.activation!r}.")


def _target(validation: float, test: float) -> Target:
    return Target(metric="accuracy", goal="max", validation=validation, test=test)


_FULL = WorkloadSpec(
    name="imagenet_resnet",
    summary="ResNet-50 on ImageNet: 1,000 classes, tested on ImageNet-v2.",
    target=_target(0.77431, 0.656),
    loss_type=LossType.SOFTMAX_CROSS_ENTROPY,
    num_train_examples=1_281_167,
    num_eval_train_examples=50_176,
    num_validation_examples=50_000,
    num_test_examples=10_000,
    eval_batch_size=1_024,
    budgets={
        "v0.6": Budget(max_runtime_s=66_159, eval_period_s=510),
        "v1.0": Budget(max_runtime_s=49_918, eval_period_s=1_996),
    },
    step_hint=195_999,
    dropout_rate=None,
    dataset=IMAGENET,
    model=ResNet(),
    implementations={
        Framework.JAX: "algoperf_imagenet.resnet.jax_model:ResNetJax",
        Framework.PYTORCH: "algoperf_imagenet.resnet.torch_model:ResNetTorch",
    },
    output_layer={Framework.JAX: "Dense_0", Framework.PYTORCH: "fc"},
)

_MINI = replace(
    _FULL,
    summary="A small residual network on handwritten digits, tested on those of another collection.",
    scale=Scale.MINI,
    target=_target(0.97, 0.65),
    num_train_examples=4_000,
    num_eval_train_examples=1_000,
    num_validation_examples=1_000,
    num_test_examples=1_797,
    eval_batch_size=256,
    batch_size=64,
    budgets={rules: Budget(max_runtime_s=60, eval_period_s=3) for rules in ("v0.6", "v1.0")},
    step_hint=400,
    dataset=DIGITS,
    model=ResNet(stage_sizes=(1, 1, 1), width=16, num_classes=10),
)

IMAGENET_RESNET = replace(_FULL, mini=_MINI)

IMAGENET_RESNET_SILU = IMAGENET_RESNET.variant(
    "silu",
    summary="ResNet-50 with SiLU in place of ReLU.",
    target=_target(0.75445, 0.6323),
    mini_target=_target(0.97, 0.65),
    activation="silu",
)

IMAGENET_RESNET_GELU = IMAGENET_RESNET.variant(
    "gelu",
    summary="ResNet-50 with GELU (tanh approximation) in place of ReLU.",
    target=_target(0.76765, 0.6519),
    mini_target=_target(0.97, 0.65),
    activation="gelu",
)

IMAGENET_RESNET_LARGE_BN_INIT = IMAGENET_RESNET.variant(
    "large_bn_init",
    summary="ResNet-50 whose blocks begin with a batch-norm scale of 8 in place of 0.",
    target=_target(0.76526, 0.6423),
    mini_target=_target(0.97, 0.65),
    last_norm_scale=8.0,
)
