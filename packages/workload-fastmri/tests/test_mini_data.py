"""The mini data: slabs, simulated scans of them, and their division."""

import gzip
import io
import itertools
import os
import shutil
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from algoperf.data import DataError, Shards
from algoperf.data.archives import Archive
from algoperf.data.preparation import Preparation, file_sha256, open_prepared
from algoperf.spec import Scale, Split
from algoperf_fastmri import brain, debian, mini
from algoperf_fastmri.masks import evaluation_mask
from algoperf_fastmri.reconstruction import zero_filled
from algoperf_fastmri.scanner import HEIGHT, WIDTH, measure
from algoperf_fastmri.spec import FASTMRI, FASTMRI_LAYERNORM, FASTMRI_MODEL_SIZE, FASTMRI_TANH, Scans
from algoperf_fastmri.volumes import StoredSlices


def head():
    """Each slice with its number as value, in an ellipsoid; nothing in the first ten slices."""
    volume = np.zeros((60, 80, 130), np.uint8)
    volume[10:50, 10:70, 10:] = np.arange(10, 130, dtype=np.uint8)
    return volume


def test_slabs_are_apart():
    found = [np.unique(slab).astype(int).tolist() for slab in brain.slabs(head())]
    numbers = [[number for number in values if number] for values in found]
    assert all(values == list(range(values[0], values[0] + brain.SLAB)) for values in numbers)
    gaps = [later[0] - earlier[-1] - 1 for earlier, later in itertools.pairwise(numbers)]
    assert set(gaps) == {brain.GAP}
    assert numbers[0][0] == 10
    assert {brain.split_of(number) for number in range(len(found))} == {"train", "validation", "test"}


def test_a_slab_looks_different_each_time_and_is_the_same_for_a_seed():
    slab = np.zeros((3, 100, 90), np.float32)
    slab[:, 30:70, 20:50] = 200

    def take(seed):
        return brain.pictures(slab, 64, np.random.default_rng(seed))

    first = take(0)
    assert (first.shape, first.dtype) == ((3, 64, 64), np.float32)
    assert first.min() >= 0
    assert first.max() == pytest.approx(1, abs=0.05)
    np.testing.assert_array_equal(first, take(0))
    assert np.abs(first - take(1)).mean() > 0.01
    # All slices lie alike.
    np.testing.assert_array_equal(first[0], first[2])


def test_what_is_measured_gives_the_picture():
    pictures = np.random.default_rng(0).random((2, 64, 64))
    kspace, images = measure(pictures, 0.0, np.random.default_rng(1))
    assert (kspace.shape, kspace.dtype) == ((2, HEIGHT, WIDTH), np.complex64)
    np.testing.assert_allclose(images, pictures, atol=1e-6)
    whole = np.stack([zero_filled(one, np.ones(WIDTH, bool), 64) for one in kspace])
    np.testing.assert_allclose(whole, images, atol=1e-5)
    # A quarter of it does not.
    part = zero_filled(kspace[0], evaluation_mask(WIDTH, Scans(image_size=64)), 64)
    assert np.abs(part - images[0]).mean() > 0.1


def test_an_image_has_a_phase_and_noise():
    pictures = np.ones((1, 64, 64))
    quiet, _ = measure(pictures, 0.0, np.random.default_rng(1))
    kspace, images = measure(pictures, 0.05, np.random.default_rng(1))
    # Without a phase, k-space of a real picture is its own mirror image.
    mirrored = np.conj(np.roll(quiet[0, ::-1, ::-1], (1, 1), (0, 1)))
    assert np.abs(quiet[0] - mirrored).max() > 0.1 * np.abs(quiet).max()
    assert (images[0] - 1).std() == pytest.approx(0.05 / np.sqrt(2), rel=0.05)
    assert (kspace - quiet).std() == pytest.approx(0.05, rel=0.05)


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A small nilearn."""
    path = tmp_path / mini.NILEARN.name
    image = nibabel.Nifti1Image(head(), np.eye(4))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(mini._TEMPLATE, gzip.compress(image.to_bytes()))
    small = Archive(
        name=path.name,
        obtain=mini.NILEARN.obtain,
        digest=f"sha256:{file_sha256(path)}",
        size=path.stat().st_size,
    )
    monkeypatch.setattr(mini, "NILEARN", small)
    monkeypatch.setattr(mini, "SCANS", {"train": 2, "validation": 1, "test": 1})
    return path


def prepare(folder, source):
    folder.mkdir()
    return mini.prepare_mini(Preparation(folder=folder, source=source, report=lambda line: None))


def test_scans_of_a_slab_are_in_one_split(wheel, tmp_path):
    files = prepare(tmp_path / "first", wheel)
    assert all(path.is_file() for path in files)
    slabs = {}
    for split in mini.SCANS:
        slices = StoredSlices(tmp_path / "first" / split)
        slabs[split] = {volume.name.split("_scan")[0] for volume in slices.volumes}
        assert len(slices) == len(slices.volumes) * brain.SLAB
        assert slices.read(0).kspace.shape == (HEIGHT, WIDTH)
    assert not slabs["train"] & slabs["validation"]
    assert not slabs["test"] & (slabs["train"] | slabs["validation"])
    again = prepare(tmp_path / "second", wheel)
    first = StoredSlices(tmp_path / "first" / "train").read(3)
    second = StoredSlices(tmp_path / "second" / "train").read(3)
    assert len(again) == len(files)
    np.testing.assert_array_equal(first.kspace, second.kspace)


def test_another_wheel_is_refused(wheel, tmp_path):
    content = io.BytesIO(wheel.read_bytes()).getvalue()
    wheel.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=r"is not the published nilearn-0\.14\.1.*run `pip download"):
        prepare(tmp_path / "prepared", wheel)


# Debian.


def prepare_debian(folder, source=None):
    folder.mkdir()
    return debian.prepare_debian(Preparation(folder=folder, source=source, report=lambda line: None))


@pytest.mark.timeout(300)
def test_a_brain_of_debians_is_tested_on(wheel, tmp_path, monkeypatch):
    if shutil.which("apt-get") is None or not any(Path("/etc/apt").glob("sources.list*")):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no apt here")
    monkeypatch.setattr(debian, "pip_download", lambda *arguments: wheel)
    files = prepare_debian(tmp_path / "prepared")
    assert all(path.is_file() for path in files)
    assert not (tmp_path / "prepared" / "download").exists()
    sizes = {split: len(StoredSlices(tmp_path / "prepared" / split)) for split in mini.SCANS}
    assert sizes["test"] == len(brain.TEST_SLABS) * brain.SLAB
    # The head of the small wheel is another one.
    prepare(tmp_path / "mini", wheel)
    first, other = (StoredSlices(tmp_path / name / "test").read(5).kspace for name in ("prepared", "mini"))
    assert np.abs(first - other).max() > 0.1 * np.abs(first).max()
    first, other = (StoredSlices(tmp_path / name / "validation").read(5).kspace for name in ("prepared", "mini"))
    np.testing.assert_array_equal(first, other)


def test_without_apt_another_way_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"There is no apt-get here .* with --source"):
        prepare_debian(tmp_path / "prepared")


def test_what_apt_says_is_passed_on(tmp_path, monkeypatch):
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\necho 'E: Unable to locate package mricron-data' >&2\nexit 100\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(DataError, match=r"could not fetch mricron-data \(E: Unable to locate .*\); run `apt-get"):
        prepare_debian(tmp_path / "prepared")


def test_a_package_that_is_none_is_named(tmp_path):
    with pytest.raises(DataError, match=r"There is no mricron-data_\*\.deb in .*; run `apt-get"):
        prepare_debian(tmp_path / "first", tmp_path)
    if shutil.which("dpkg-deb") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no dpkg-deb here")
    package = tmp_path / "mricron-data_1_all.deb"
    package.write_bytes(b"no package")
    with pytest.raises(DataError, match=r"mricron-data_1_all\.deb cannot be read \(.*\); run `apt-get"):
        prepare_debian(tmp_path / "second", tmp_path)


def test_where_the_wheel_is_missing_the_remedy_is_that_of_this_data(tmp_path, monkeypatch):
    monkeypatch.setattr(debian, "_read_brain", lambda package, folder: None)
    (tmp_path / "mricron-data_1_all.deb").touch()
    with pytest.raises(DataError, match=r"There is no file .*\.whl; run `apt-get download mricron-data`"):
        prepare_debian(tmp_path / "prepared", tmp_path)


@pytest.mark.parametrize(("split", "expected"), [(Split.VALIDATION, 0.511), (Split.TEST, 0.503)])
def test_targets_are_clearly_above_what_a_model_is_given(data_dir, split, expected):
    """The mean SSIM of zero-filled images, as the README has it."""
    found = []
    dataset = open_prepared(FASTMRI.at(Scale.MINI), data_dir)
    for batch in dataset.evaluation(split, 32, Shards()):
        for given, target, mean, std, largest in zip(
            *(batch[name] for name in ("inputs", "targets", "mean", "std", "volume_max")), strict=True
        ):
            pair = (image.astype(np.float64) * std + mean for image in (given, target))
            found.append(structural_similarity(*pair, data_range=float(largest)))
    assert len(found) == 320
    assert np.mean(found) == pytest.approx(expected, abs=5e-4)
    for spec in (FASTMRI, FASTMRI_LAYERNORM, FASTMRI_MODEL_SIZE, FASTMRI_TANH):
        assert getattr(spec.at(Scale.MINI).target, split.value) > expected + 0.08
