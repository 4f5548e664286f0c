"""Volumes on disk, as fastMRI publishes them (https://fastmri.med.nyu.edu): an HDF5 file for each; numpy and h5py.

A file has `kspace`, complex64 [slices, H, W], what was measured; `reconstruction_esc`, float32 [slices, S, S], the
images that all of it gives; and an attribute `max`, the largest value of these, which a file may lack. Whatever else is
in it is left there. A split is a folder of such files and an index, which is written last.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from algoperf.data.files import writing
from algoperf.data.preparation import DataError
from algoperf.data.ragged import offsets

SUFFIX = ".h5"
INDEX = "index.json"
_KSPACE, _IMAGES, _MAXIMUM = "kspace", "reconstruction_esc", "max"
# Half a MiB each in HDF5; and three splits of so many leave the process some of the files that it may open.
_MAX_OPEN = 128
_REMEDY = "delete the folder of the prepared data and prepare it again"


class DamagedVolume(Exception):
    """A file that is no volume, or one that nothing can be learned from; the message says why."""


@dataclass(frozen=True)
class Volume:
    """What the index knows of a volume.

    Attributes:
        name: of the file.
        num_slices: how many it has.
        height: of k-space.
        width: of k-space, in columns.
        image_size: height and width of the images.
        maximum: the largest value of the images, by which SSIM is scaled; 0 where the file does not say.
    """

    name: str
    num_slices: int
    height: int
    width: int
    image_size: int
    maximum: float


class Slice(NamedTuple):
    """A slice of a volume.

    Attributes:
        kspace: complex64 [H, W].
        target: float32 [S, S].
        volume_max: the largest value of the volume's images, or 0.
    """

    kspace: np.ndarray
    target: np.ndarray
    volume_max: float


def write_volume(path: Path, kspace: np.ndarray, images: np.ndarray) -> None:
    """Writes a volume, which appears when it is complete; of what is published, that which is read.

    Args:
        path: ends in `SUFFIX`.
        kspace: complex64 [slices, H, W].
        images: what all of it gives; float32 [slices, S, S].

    Raises:
        DataError: there is no room, or something else is wrong with the disk.
    """
    with writing(path) as temporary, h5py.File(temporary, "w") as file:
        file[_KSPACE] = kspace.astype(np.complex64, copy=False)
        file[_IMAGES] = images.astype(np.float32, copy=False)
        file.attrs[_MAXIMUM] = images.max()


def describe(path: Path) -> Volume:
    """What the index should know of a volume, without reading its values. Raises DamagedVolume."""
    with _opened(path) as file:
        kspace, images = (_dataset(file, name) for name in (_KSPACE, _IMAGES))
        found = f"{_KSPACE} is {kspace.dtype} {kspace.shape} and {_IMAGES} {images.dtype} {images.shape}"
        typed = [(array.dtype, array.ndim) for array in (kspace, images)] == [(np.complex64, 3), (np.float32, 3)]
        if not typed or len(kspace) != len(images) or images.shape[1] != images.shape[2] or not images.size:
            raise DamagedVolume(f"{found}; complex64 (slices, height, width) and float32 (slices, size, size) belong")
        num_slices, height, width = kspace.shape
        if min(height, width) < images.shape[1]:
            raise DamagedVolume(f"{found}, which is larger")
        maximum = file.attrs.get(_MAXIMUM, 0.0)
        if np.shape(maximum) or np.asarray(maximum).dtype.kind not in "fiu" or not maximum >= 0:
            raise DamagedVolume(f"its attribute {_MAXIMUM} is {maximum} and should be a number that is not negative")
    return Volume(path.name, num_slices, height, width, images.shape[1], float(maximum))


def check_volume(path: Path, image_size: int) -> None:
    """Reads all of a volume. Raises DamagedVolume unless its images have that size and all numbers are finite."""
    volume = describe(path)
    if volume.image_size != image_size:
        raise DamagedVolume(f"its images have {volume.image_size} pixels a side and should have {image_size}")
    with _opened(path) as file:
        for name in (_KSPACE, _IMAGES):
            for number in range(volume.num_slices):
                if not np.isfinite(file[name][number]).all():
                    raise DamagedVolume(f"slice {number} of {name} has values that are not finite")
    if not np.isfinite(volume.maximum):
        raise DamagedVolume(f"its attribute {_MAXIMUM} is {volume.maximum}")


def volumes_in(folder: Path) -> list[Path]:
    """The volumes in a folder, by name."""
    return sorted(folder.glob(f"[!.]*{SUFFIX}"))


def write_index(folder: Path, volumes: Sequence[Volume] | None = None, skipped: Sequence[str] = ()) -> None:
    """Writes the index of a split; from then on it is complete, and says so.

    Args:
        folder: the split's.
        volumes: all that are in it, in the order of their names; None looks.
        skipped: damaged volumes that were left out, and why.

    Raises:
        DataError: there is no room, or something else is wrong with the disk.
    """
    if volumes is None:
        volumes = [describe(path) for path in volumes_in(folder)]
    with writing(folder / INDEX) as temporary:
        temporary.write_text(json.dumps({"skipped": list(skipped), "volumes": list(map(asdict, volumes))}, indent=1))


def split_files(folder: Path) -> list[Path]:
    """The files of a complete split."""
    return [*volumes_in(folder), folder / INDEX]


class StoredSlices:
    """The slices of a split, volume after volume in the order of their names, in any order. Threads may share one.

    Attributes:
        volumes: those of the index.
        skipped: damaged volumes that were left out, and why.
    """

    def __init__(self, folder: Path):
        """Opens a split. Raises DataError if it is not complete."""
        self._folder = folder
        try:
            index = json.loads((folder / INDEX).read_bytes())
            self.volumes = [Volume(**volume) for volume in index["volumes"]]
            self.skipped: list[str] = index["skipped"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DataError(f"{folder} holds no complete split ({error}); {_REMEDY}.") from error
        self._starts = offsets(np.array([volume.num_slices for volume in self.volumes], np.int64))
        self._files: OrderedDict[str, h5py.File] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(volume.num_slices for volume in self.volumes)

    def read(self, number: int) -> Slice:
        """A slice. Raises DataError if its volume is missing or damaged."""
        volume, row = self._find(number)
        try:
            # Held while it is read, so that it is not closed.
            file = self._file(volume.name)
            return Slice(file[_KSPACE][row], file[_IMAGES][row], volume.maximum)
        except (OSError, LookupError, ValueError, RuntimeError) as error:
            raise DataError(f"{self.place(number)} cannot be read ({error}); {_REMEDY}.") from error

    def place(self, number: int) -> str:
        """Where a slice lies, for messages."""
        volume, row = self._find(number)
        return f"Slice {row} of {self._folder / volume.name}"

    def _find(self, number: int) -> tuple[Volume, int]:
        """The volume of a slice, and the number of the slice in it."""
        place = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self.volumes[place], int(number - self._starts[place])

    def _file(self, name: str) -> h5py.File:
        with self._lock:
            file = self._files.get(name)
            if file is None:
                # Not locked: nobody writes to it, and not all network file systems have locks.
                file = self._files[name] = h5py.File(self._folder / name, "r", locking=False)
                if len(self._files) > _MAX_OPEN:
                    # Another thread may be reading from it; it closes when nobody holds it.
                    self._files.popitem(last=False)
            self._files.move_to_end(name)
            return file


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """A volume, closed afterwards. What h5py says of it is a DamagedVolume."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    # What h5py raises at damage depends on where it is.
    except (OSError, RuntimeError, ValueError, TypeError, LookupError) as error:
        raise DamagedVolume(str(error)) from error


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        hint = ", as fastMRI's own test volumes" if name == _IMAGES else ""
        raise DamagedVolume(f"it has no {name}{hint}")
    return found
