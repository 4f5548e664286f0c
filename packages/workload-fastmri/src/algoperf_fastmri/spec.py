"""The facts of fastMRI: a U-Net that makes images of knees from a quarter of their measurements.

Figures at full scale: AlgoPerf (https://arxiv.org/abs/2306.07179, appendix D). Data and metric: Zbontar et al.,
https://arxiv.org/abs/1811.08839.
"""

from dataclasses import dataclass, replace
from typing import Literal

from algoperf.spec import Budget, DatasetSpec, Framework, LossType, Scale, Target, WorkloadSpec


@dataclass(frozen=True, kw_only=True)
class UNet:
    """Choices of the U-Net (Ronneberger et al., https://arxiv.org/abs/1505.04597).

    Attributes:
        num_channels: of the first block; each pooling doubles them.
        num_pools: how often the image is halved, and later doubled.
        activation: "leaky_relu" with a slope of 0.2, or "tanh".
        norm: of the convolutions: "instance", without parameters, or "layer", over height, width and channels.
    """

    num_channels: int = 32
    num_pools: int = 4
    activation: Literal["leaky_relu", "tanh"] = "leaky_relu"
    norm: Literal["instance", "layer"] = "instance"

    def __post_init__(self) -> None:
        if self.activation not in ("leaky_relu", "tanh") or self.norm not in ("instance", "layer"):
            raise ValueError(
                "activation is 'leaky_relu' or 'tanh', norm 'instance' or 'layer', not "
                f"{self.activation!r}, {self.norm!r}."
            )


@dataclass(frozen=True, kw_only=True)
class Scans:
    """What is made of the measurements.

    Attributes:
        image_size: height and width of the images, in pixels; what is measured beyond is cropped away.
        acceleration: one of so many columns of k-space is kept.
        center_fraction: of the columns, those around the lowest frequency that are always kept.
    """

    image_size: int = 320
    acceleration: int = 4
    center_fraction: float = 0.08


def _target(validation: float, test: float) -> Target:
    return Target(metric="ssim", goal="max", validation=validation, test=test)


_FULL = WorkloadSpec(
    name="fastmri",
    summary="U-Net that makes images of knees from a quarter of their measurements (fastMRI), scored by SSIM.",
    target=_target(0.723653, 0.740633),
    loss_type=LossType.MEAN_ABSOLUTE_ERROR,
    num_train_examples=34_742,
    num_eval_train_examples=3_584,
    num_validation_examples=3_554,
    num_test_examples=3_581,
    eval_batch_size=256,
    budgets={
        "v0.6": Budget(max_runtime_s=4_430, eval_period_s=80),
        "v1.0": Budget(max_runtime_s=2_745, eval_period_s=109),
    },
    step_hint=18_094,
    dropout_rate=0.0,
    dataset=DatasetSpec(
        name="fastmri/full",
        prepare="algoperf_fastmri.prepare:prepare_full",
        open="algoperf_fastmri.data:open_dataset",
        finalize="algoperf_fastmri.metrics:finalize",
        pictures="algoperf_fastmri.pictures:pictures",
        source="fastMRI of New York University: single-coil measurements of knees.",
        licence="the fastMRI data sharing agreement: for research, not for passing on",
        options=Scans(),
    ),
    model=UNet(),
    implementations={
        Framework.JAX: "algoperf_fastmri.jax_workload:FastmriJax",
        Framework.PYTORCH: "algoperf_fastmri.torch_workload:FastmriTorch",
    },
    output_layer={Framework.JAX: "output", Framework.PYTORCH: "output"},
)

_MINI = replace(
    _FULL,
    summary="A small U-Net that makes images of a brain from a quarter of simulated measurements.",
    scale=Scale.MINI,
    target=_target(0.79, 0.83),
    num_train_examples=1_344,
    num_eval_train_examples=160,
    num_validation_examples=320,
    num_test_examples=320,
    eval_batch_size=32,
    batch_size=8,
    budgets={rules: Budget(max_runtime_s=90, eval_period_s=5) for rules in ("v0.6", "v1.0")},
    step_hint=400,
    dataset=replace(
        _FULL.dataset,
        name="fastmri/mini",
        prepare="algoperf_fastmri.mini:prepare_mini",
        source="The MNI brain template, as nilearn has it, with simulated measurements.",
        licence="BSD-3-Clause (nilearn); MNI's notice for the template",
        options=Scans(image_size=64),
    ),
    model=UNet(num_channels=8, num_pools=3),
)

FASTMRI = replace(_FULL, mini=_MINI)

# Only at mini scale: what a suite trains on is `FASTMRI` at that scale, which needs no Debian.
FASTMRI_DEBIAN = replace(
    _MINI,
    name="fastmri_debian",
    summary="The small U-Net, tested on another brain than it is trained on. Needs apt.",
    dataset=replace(
        _MINI.dataset,
        name="fastmri_debian/mini",
        prepare="algoperf_fastmri.debian:prepare_debian",
        source="The MNI brain template, as nilearn has it, and Colin Holmes's brain, as Debian has it.",
        licence="BSD-3-Clause (nilearn, mricron-data); the notices of both brains' authors",
    ),
)

FASTMRI_MODEL_SIZE = FASTMRI.variant(
    "model_size",
    summary="fastMRI with twice the channels and one pooling less.",
    target=_target(0.723559, 0.740726),
    mini_target=_target(0.81, 0.845),
    mini_model={"num_channels": 16, "num_pools": 2},
    num_channels=64,
    num_pools=3,
)

FASTMRI_TANH = FASTMRI.variant(
    "tanh",
    summary="fastMRI with tanh in place of leaky ReLU.",
    target=_target(0.71784, 0.734505),
    mini_target=_target(0.6, 0.61),
    activation="tanh",
)

FASTMRI_LAYERNORM = FASTMRI.variant(
    "layernorm",
    summary="fastMRI with layer norms in place of instance norms.",
    target=_target(0.723284, 0.739996),
    mini_target=_target(0.775, 0.81),
    norm="layer",
)
