"""The facts of the vision transformer's workload and its variants.

Figures at full scale: AlgoPerf (https://arxiv.org/abs/2306.07179, appendix D). Model: ViT S/16, Dosovitskiy et al.,
https://arxiv.org/abs/2010.11929, as Beyer et al. simplified it, https://arxiv.org/abs/2205.01580.
"""

from dataclasses import dataclass, replace
from typing import Literal

from algoperf.spec import Budget, Framework, LossType, Scale, Target, WorkloadSpec
from algoperf_imagenet.dataset import DIGITS, IMAGENET


@dataclass(frozen=True, kw_only=True)
class VisionTransformer:
    """Choices of the vision transformer.

    Attributes:
        image_size: height and width of an image, pixels.
        patch_size: height and width of a patch, which becomes a token.
        width: of a token.
        depth: encoder blocks.
        mlp_dim: width inside a block's MLP.
        num_heads: of attention.
        num_classes: outputs.
        gated_mlp: whether a block's MLP multiplies its hidden layer by a linear function of it (GLU variant).
        norm: whether layer norms come before a block's branches ("pre") or after their additions ("post").
        pooling: how tokens become one vector: their mean, or attention of a learned probe ("map").
    """

    image_size: int = 224
    patch_size: int = 16
    width: int = 384
    depth: int = 12
    mlp_dim: int = 1536
    num_heads: int = 6
    num_classes: int = 1000
    gated_mlp: bool = False
    norm: Literal["pre", "post"] = "pre"
    pooling: Literal["mean", "map"] = "mean"

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"An image of {self.image_size} pixels cannot be divided into patches of {self.patch_size}; "
                "choose a patch_size that divides image_size."
            )
        if self.width % self.num_heads or self.width % 4:
            raise ValueError(f"A width of {self.width} is no multiple of 4 and of {self.num_heads} heads.")
        if self.norm not in ("pre", "post") or self.pooling not in ("mean", "map"):
            raise ValueError(f"norm is 'pre' or 'post', pooling 'mean' or 'map', not {self.norm!r}, {self.pooling!r}.")


def _target(validation: float, test: float) -> Target:
    return Target(metric="accuracy", goal="max", validation=validation, test=test)


_FULL = WorkloadSpec(
    name="imagenet_vit",
    summary="Vision transformer (S/16) on ImageNet: 1,000 classes, tested on ImageNet-v2.",
    target=_target(0.77309, 0.6519),
    loss_type=LossType.SOFTMAX_CROSS_ENTROPY,
    num_train_examples=1_281_167,
    num_eval_train_examples=51_200,
    num_validation_examples=50_000,
    num_test_examples=10_000,
    eval_batch_size=2_048,
    budgets={
        "v0.6": Budget(max_runtime_s=69_768, eval_period_s=420),
        "v1.0": Budget(max_runtime_s=64_292, eval_period_s=2_571),
    },
    step_hint=167_999,
    dropout_rate=0.0,
    dataset=replace(IMAGENET, options=replace(IMAGENET.options, rand_augment=2, mixup_alpha=0.2)),
    model=VisionTransformer(),
    implementations={
        Framework.JAX: "algoperf_imagenet.vit.jax_model:VisionTransformerJax",
        Framework.PYTORCH: "algoperf_imagenet.vit.torch_model:VisionTransformerTorch",
    },
    output_layer={Framework.JAX: "head", Framework.PYTORCH: "head"},
)

_MINI = replace(
    _FULL,
    summary="A small vision transformer on handwritten digits, tested on those of another collection.",
    scale=Scale.MINI,
    target=_target(0.75, 0.53),
    num_train_examples=4_000,
    num_eval_train_examples=1_000,
    num_validation_examples=1_000,
    num_test_examples=1_797,
    eval_batch_size=256,
    batch_size=64,
    budgets={rules: Budget(max_runtime_s=90, eval_period_s=3) for rules in ("v0.6", "v1.0")},
    step_hint=1_200,
    dataset=replace(DIGITS, options=replace(DIGITS.options, rand_augment=1, mixup_alpha=0.2)),
    model=VisionTransformer(image_size=28, patch_size=7, width=64, depth=2, mlp_dim=128, num_heads=4, num_classes=10),
)

IMAGENET_VIT = replace(_FULL, mini=_MINI)

IMAGENET_VIT_GLU = IMAGENET_VIT.variant(
    "glu",
    summary="The vision transformer with gated MLPs.",
    target=_target(0.75738, 0.6359),
    mini_target=_target(0.8, 0.6),
    gated_mlp=True,
)

IMAGENET_VIT_POST_LN = IMAGENET_VIT.variant(
    "post_ln",
    summary="The vision transformer with layer norms after the additions.",
    target=_target(0.75312, 0.6286),
    mini_target=_target(0.6, 0.37),
    norm="post",
)

IMAGENET_VIT_MAP = IMAGENET_VIT.variant(
    "map",
    summary="The vision transformer with attention in place of the mean over tokens.",
    target=_target(0.77113, 0.6523),
    mini_target=_target(0.71, 0.52),
    pooling="map",
)
