"""The facts of the data, which both models share: ImageNet (ILSVRC2012), tested on ImageNet-v2; digits at mini scale.

ImageNet: Russakovsky et al., https://arxiv.org/abs/1409.0575. ImageNet-v2: Recht et al., https://arxiv.org/abs/1902.10811.
"""

from dataclasses import dataclass

from algoperf.spec import DatasetSpec, Framework


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What batches of images are like.

    Attributes:
        image_size: height and width of an image, pixels.
        num_classes: classes that labels count.
        min_area: the smallest part of an image's area that a training crop may have.
        flip: whether half of the training images are mirrored.
        rand_augment: how many operations of RandAugment a training image goes through.
        mixup_alpha: both parameters of the Beta distribution that mixup draws its weight from; None mixes nothing.
    """

    image_size: int = 224
    num_classes: int = 1000
    min_area: float = 0.08
    flip: bool = True
    rand_augment: int = 0
    mixup_alpha: float | None = None


IMAGENET = DatasetSpec(
    name="imagenet/full",
    prepare="algoperf_imagenet.prepare:prepare_full",
    open="algoperf_imagenet.data:open_dataset",
    finalize="algoperf_imagenet.metrics:finalize",
    pictures="algoperf_imagenet.pictures:pictures",
    source="ILSVRC2012 (ImageNet) for training and validation, ImageNet-v2 (matched frequency) for testing.",
    licence="ImageNet's terms of access (non-commercial research), MIT (ImageNet-v2)",
    options=Pictures(),
    on_device={
        Framework.JAX: "algoperf_imagenet.jax_images:finish",
        Framework.PYTORCH: "algoperf_imagenet.torch_images:finish",
    },
)

DIGITS = DatasetSpec(
    name="imagenet/mini",
    prepare="algoperf_imagenet.mini:prepare_mini",
    open="algoperf_imagenet.data:open_dataset",
    finalize="algoperf_imagenet.metrics:finalize",
    pictures="algoperf_imagenet.pictures:pictures",
    source="5,000 digits of MNIST for training and validation, 1,797 of another collection (UCI) for testing.",
    licence="CC BY-SA 3.0 (MNIST), CC BY 4.0 (Optical Recognition of Handwritten Digits, UCI)",
    options=Pictures(image_size=28, num_classes=10, min_area=0.8, flip=False),
    on_device=IMAGENET.on_device,
)
