"""The published files: fastMRI's single-coil measurements of knees, of which the published test volumes have no images.

So the published validation volumes serve for both evaluations, divided by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from algoperf.data.archives import Archive

COMMAND = "algoperf-orchestrate data prepare fastmri --scale full --source FOLDER"


class Part(NamedTuple):
    """What a split takes of an archive."""

    num_volumes: int
    num_slices: int


@dataclass(frozen=True, kw_only=True)
class VolumeArchive(Archive):
    """A tar.xz of a folder of volumes.

    Attributes:
        parts: the splits that its volumes go to, in the order of their names.
        digest: nobody published one; what is checked is the file's own checksum, each volume, and their number.
    """

    parts: Mapping[str, Part]
    digest: str = ""

    @property
    def label(self) -> str:
        """What it is called, such as "knee_singlecoil_val"."""
        return self.name.removesuffix(".tar.xz")

    @property
    def num_volumes(self) -> int:
        """All volumes that are in it."""
        return sum(part.num_volumes for part in self.parts.values())

    @property
    def num_slices(self) -> int:
        """All slices that are in it."""
        return sum(part.num_slices for part in self.parts.values())


@dataclass(frozen=True, kw_only=True)
class VolumeFiles:
    """What the data is made of.

    Attributes:
        archives: each once.
        image_size: of the images, in pixels a side.
        bytes_per_slice: that a slice takes up, about: most have 368 or 372 columns.
    """

    archives: Sequence[VolumeArchive]
    image_size: int
    bytes_per_slice: int


def _archive(label: str, parts: Mapping[str, Part]) -> VolumeArchive:
    return VolumeArchive(
        name=f"{label}.tar.xz",
        obtain=(
            "ask for it at https://fastmri.med.nyu.edu (single-coil knees; for research, under an agreement), download "
            f"it into the folder of the other one, and run `{COMMAND}`"
        ),
        parts=parts,
    )


PUBLISHED = VolumeFiles(
    archives=(
        _archive("knee_singlecoil_train", {"train": Part(973, 34_742)}),
        _archive("knee_singlecoil_val", {"validation": Part(100, 3_554), "test": Part(99, 3_581)}),
    ),
    image_size=320,
    # Of complex64, 640 rows of 372 columns, and two images of float32.
    bytes_per_slice=640 * 372 * 8 + 2 * 320 * 320 * 4,
)
