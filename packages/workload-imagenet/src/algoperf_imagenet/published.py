"""The published files of ImageNet."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from algoperf.data.archives import Archive

COMMAND = "algoperf-orchestrate data prepare imagenet_resnet --scale full --source FOLDER"
_LOGIN = (
    "download it from https://image-net.org/challenges/LSVRC/2012/2012-downloads.php (after a login; research only) "
    f"into the folder of the others, and run `{COMMAND}`"
)


@dataclass(frozen=True, kw_only=True)
class ImageNetFiles:
    """The published files.

    Attributes:
        train: tar of a tar per class.
        validation: tar of images.
        devkit: names the classes, and the validation images' labels.
        test: ImageNet-v2, matched frequency: tar.gz of a folder per class, whose name is the label.
        num_classes: how many classes there are.
        split_sizes: images per split.
    """

    train: Archive
    validation: Archive
    devkit: Archive
    test: Archive
    num_classes: int
    split_sizes: Mapping[str, int]

    def needed_for(self, splits: Iterable[str]) -> list[Archive]:
        """The files that these splits are made of."""
        sources = {
            "train": [self.train, self.devkit],
            "validation": [self.validation, self.devkit],
            "test": [self.test],
        }
        needed = [archive for split in splits for archive in sources[split]]
        return [archive for archive in (self.train, self.validation, self.devkit, self.test) if archive in needed]


PUBLISHED = ImageNetFiles(
    train=Archive(
        name="ILSVRC2012_img_train.tar",
        obtain=_LOGIN,
        size=147_897_477_120,
        digest="sha256:b08200a27a8e34218a0e58fde36b0fe8f73bc377f4acea2d91602057c3ca45bb",
    ),
    validation=Archive(
        name="ILSVRC2012_img_val.tar",
        obtain=_LOGIN,
        size=6_744_924_160,
        digest="sha256:c7e06a6c0baccf06d8dbeb6577d71efff84673a5dbdd50633ab44f8ea0456ae0",
    ),
    devkit=Archive(
        name="ILSVRC2012_devkit_t12.tar.gz",
        obtain=_LOGIN,
        digest="md5:fa75699e90414af021442c21a62c3abf",
    ),
    test=Archive(
        name="imagenetv2-matched-frequency.tar.gz",
        obtain=(
            "download https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/"
            f"imagenetv2-matched-frequency.tar.gz into the folder of the others, and run `{COMMAND}`"
        ),
        size=1_264_079_360,
        digest="sha256:f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
    ),
    num_classes=1_000,
    split_sizes={"train": 1_281_167, "validation": 50_000, "test": 10_000},
)
