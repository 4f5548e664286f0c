"""Reads ILSVRC2012's development kit: its classes, and the labels of the validation images."""

import io
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

import scipy.io

from algoperf.data.preparation import DataError

_FOLDER = "ILSVRC2012_devkit_t12/data"


class Devkit(NamedTuple):
    """What the development kit says.

    Attributes:
        classes: names of the classes (WordNet ids), sorted: a label is an index into them.
        validation_labels: of the validation images, in the order of their names.
    """

    classes: list[str]
    validation_labels: list[int]


def read_devkit(path: Path) -> Devkit:
    """Reads ILSVRC2012_devkit_t12.tar.gz. Raises DataError if that is damaged or something else."""
    try:
        with tarfile.open(path, "r:gz") as tar:
            numbers = _read(tar, "ILSVRC2012_validation_ground_truth.txt").split()
            synsets = scipy.io.loadmat(io.BytesIO(_read(tar, "meta.mat")), squeeze_me=True)["synsets"]
        # The kit numbers its classes in an order of its own; those with children are not classes.
        names = {int(one["ILSVRC2012_ID"]): str(one["WNID"]) for one in synsets if int(one["num_children"]) == 0}
        classes = sorted(names.values())
        return Devkit(classes, [classes.index(names[int(number)]) for number in numbers])
    except (tarfile.TarError, OSError, EOFError, zlib.error, LookupError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}); if it is damaged, download it again.") from error


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(f"{_FOLDER}/{name}")
    if file is None:
        raise LookupError(f"{name} is not a file")
    return file.read()
