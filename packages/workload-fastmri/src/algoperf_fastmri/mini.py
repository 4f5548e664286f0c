"""Prepares the mini data: simulated scans of a brain, that of the MNI template (ICBM 152, T1-weighted).

It is read from the wheel of the package `nilearn`, of which no code runs. Slabs of it are scanned several times, each
time turned, moved and in another contrast; what is evaluated are slabs that training never sees, with gaps between.
"""

import gzip
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np

from algoperf.data.archives import Archive, check_archive, pip_download
from algoperf.data.preparation import Preparation
from algoperf_fastmri.brain import pictures, slabs, split_of
from algoperf_fastmri.scanner import measure
from algoperf_fastmri.volumes import split_files, write_index, write_volume

PACKAGE = "nilearn==0.14.1"
NILEARN = Archive(
    name="nilearn-0.14.1-py3-none-any.whl",
    obtain=(
        f"run `pip download --no-deps {PACKAGE}` and "
        "`algoperf-orchestrate data prepare fastmri --scale mini --source nilearn-0.14.1-py3-none-any.whl`"
    ),
    size=11_509_444,
    digest="sha256:725206484e9fb3f6691f9c2d20204a068759d5072f12055324702ee0cb2bbe8a",
)
IMAGE_SIZE = 64
# How often a slab is scanned.
SCANS = {"train": 24, "validation": 20, "test": 20}
NOISE = 0.01
_TEMPLATE = "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


def prepare_mini(job: Preparation) -> list[Path]:
    """Turns the template into three splits of volumes; see `algoperf_fastmri.volumes`.

    Without a source, pip downloads the wheel.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: the wheel cannot be had, or is not the published one.
    """
    download = job.folder / "download"
    template = read_template(job.source or pip_download(PACKAGE, NILEARN, download, job.report), NILEARN)
    job.report("Scanning the slabs of a brain.")
    scan(template, tuple(SCANS), job.folder)
    shutil.rmtree(download, ignore_errors=True)
    return prepared_files(job.folder)


def read_template(wheel: Path, published: Archive) -> np.ndarray:
    """The brain in nilearn's wheel, [sagittal, coronal, axial]. Raises DataError if that is not the published one."""
    with zipfile.ZipFile(check_archive(wheel, published)) as file:
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(file.read(_TEMPLATE)))
    return np.asarray(image.dataobj)


def scan(brain: np.ndarray, splits: Sequence[str], folder: Path) -> None:
    """Scans those slabs of a brain, [sagittal, coronal, axial], that are in some splits, into their folders."""
    for number, slab in enumerate(slabs(brain)):
        split = split_of(number)
        for time in range(SCANS[split] if split in splits else 0):
            rng = np.random.default_rng((number, time))
            kspace, images = measure(pictures(slab, IMAGE_SIZE, rng), NOISE, rng)
            write_volume(folder / split / f"slab_{number:02}_scan_{time:02}.h5", kspace, images)
    for split in splits:
        write_index(folder / split)


def prepared_files(folder: Path) -> list[Path]:
    """The files of the three splits in the folder of the prepared data."""
    return [path for split in SCANS for path in split_files(folder / split)]
