"""What is wrong with the published files, or with the disk, is named before anything is lost."""

import os
import shutil
from collections import namedtuple
from dataclasses import replace

import pytest
from published_files import CLASSES, files_in, job, tar_of

from algoperf.data import DataError, sources
from algoperf_imagenet import store
from algoperf_imagenet.prepare import SPLITS, prepare_files, prepare_full
from algoperf_imagenet.published import PUBLISHED


@pytest.mark.parametrize("name", [archive.name for archive in PUBLISHED.needed_for(SPLITS)])
@pytest.mark.parametrize("instead", [None, ".part"])
def test_a_missing_file_is_named_with_the_way_to_it(imagenet, tmp_path, name, instead):
    path = imagenet.folder / name
    path.rename(f"{path}{instead}") if instead else path.unlink()
    way = "huggingface.co/datasets/vaishaal/ImageNetV2" if "v2" in name else r"image-net\.org.*after a login"
    there = f"but there is {name}.part" if instead else "which holds "
    with pytest.raises(DataError, match=f"There is no {name} in .*downloads, {there}.*{way}") as error:
        prepare_files(job(tmp_path / "full", imagenet.folder), imagenet.published)
    assert "--scale full --source FOLDER" in str(error.value)
    assert not files_in(tmp_path / "full")


def test_the_wrong_file_of_imagenet_is_named(imagenet, tmp_path):
    path = imagenet.folder / "ILSVRC2012_img_train.tar"
    path.rename(imagenet.folder / "ILSVRC2012_img_train_t3.tar")
    with pytest.raises(DataError, match=r"no ILSVRC2012_img_train\.tar in .*, but there is ILSVRC2012_img_train_t3"):
        prepare_files(job(tmp_path / "full", imagenet.folder), imagenet.published)


@pytest.mark.parametrize(("source", "message"), [(None, "needs a folder with"), ("file", "file is not a folder")])
def test_without_a_folder_the_files_are_named(tmp_path, source, message):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=f"{message}.*ILSVRC2012_img_train.tar.*imagenetv2-matched"):
        prepare_full(job(tmp_path / "full", source and tmp_path / source))


def test_an_empty_folder_is_called_empty(tmp_path):
    (tmp_path / "downloads").mkdir()
    with pytest.raises(DataError, match="downloads, which is empty; download"):
        prepare_full(job(tmp_path / "full", tmp_path / "downloads"))


@pytest.mark.parametrize("name", [PUBLISHED.train.name, PUBLISHED.validation.name, PUBLISHED.test.name])
def test_a_truncated_file_is_refused_by_its_size(imagenet, tmp_path, name):
    path = imagenet.folder / name
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=f"{name} has .* bytes and the published {name} has"):
        prepare_files(job(tmp_path / "full", imagenet.folder), imagenet.published)


@pytest.mark.parametrize("name", [archive.name for archive in PUBLISHED.needed_for(SPLITS)])
def test_an_altered_file_is_refused_by_its_contents(imagenet, tmp_path, name):
    path = imagenet.folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is not the published {name}"):
        prepare_files(job(tmp_path / "full", imagenet.folder), imagenet.published)
    assert not list((tmp_path / "full").glob("*/*"))


@pytest.mark.parametrize("share", [0.001, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("name", [archive.name for archive in PUBLISHED.needed_for(SPLITS)])
def test_a_file_that_breaks_off_is_named_even_if_it_were_the_published_one(imagenet, tmp_path, name, share):
    path = imagenet.folder / name
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    imagenet.describe()
    with pytest.raises(DataError, match=f"{name} (cannot be read|misses the class|holds)"):
        prepare_files(job(tmp_path / "full", imagenet.folder), imagenet.published)
    assert not list((tmp_path / "full").rglob("*.tmp"))


def test_a_class_tar_that_breaks_off_is_named(imagenet, tmp_path):
    inner = {name: tar_of(files) for name, files in imagenet.train.items()}
    inner[CLASSES[3]] = inner[CLASSES[3]][:3000]
    path = imagenet.folder / PUBLISHED.train.name
    path.write_bytes(tar_of({f"{name}.tar": content for name, content in inner.items()}))
    imagenet.describe()
    with pytest.raises(DataError, match=f"{CLASSES[3]}.tar in .*{path.name} cannot be read"):
        prepare_files(job(tmp_path / "full", imagenet.folder), imagenet.published)


@pytest.mark.parametrize(
    ("remove", "add", "message"),
    [
        ("n00000005", None, r"misses the class n00000005 \(11 are there, 12 should be\)"),
        (None, "n99999999", r"holds, beside the classes, n99999999 \(13 are there, 12 should be\)"),
    ],
)
def test_a_missing_class_is_named(imagenet, tmp_path, remove, add, message):
    imagenet.train.pop(remove, None)
    if add:
        imagenet.train[add] = {}
    imagenet.write()
    with pytest.raises(DataError, match=message):
        prepare_files(job(tmp_path / "full", imagenet.folder), imagenet.published)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_of_another_size_is_refused(imagenet, tmp_path, split):
    if split == "train":
        imagenet.train["n00000005"].popitem()
    elif split == "validation":
        imagenet.validation.popitem()
    else:
        imagenet.test.popitem()
    sizes = imagenet.published.split_sizes
    imagenet.write()
    with pytest.raises(DataError, match=f"{sizes[split] - 1} images"):
        prepare_files(job(tmp_path / "full", imagenet.folder), replace(imagenet.published, split_sizes=sizes))
    assert not store.is_finished(tmp_path / "full" / split)


@pytest.mark.parametrize("folder", ["12", "n00000001", "-1"])
def test_an_image_in_no_numbered_class_is_named(imagenet, tmp_path, folder):
    imagenet.test[f"{folder}/x.jpeg"] = imagenet.test.popitem()[1]
    imagenet.write()
    with pytest.raises(DataError, match=f"{folder}/x.jpeg in .* is in no folder that is a class"):
        prepare_files(job(tmp_path / "full", imagenet.folder), imagenet.published)


Usage = namedtuple("Usage", "total used free")


def test_too_small_a_disk_is_noticed_before_anything_is_read(imagenet, tmp_path, monkeypatch):
    size = sum(path.stat().st_size for path in imagenet.folder.glob("*.tar*") if "devkit" not in path.name)
    monkeypatch.setattr(sources, "check_archive", None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, size - 1))
    with pytest.raises(DataError, match=r"takes 0.0 GiB more in .*full, where 0.0 GiB are free; make room"):
        prepare_files(job(tmp_path / "full", imagenet.folder), imagenet.published)


def test_a_resumed_run_needs_less_room(imagenet, tmp_path, monkeypatch):
    imagenet.train["n00000005"]["n00000005_1.JPEG"] = b"damaged"
    imagenet.write()
    with pytest.raises(DataError, match="Of the train images, 1 cannot be read"):
        prepare_files(job(tmp_path / "full", imagenet.folder), imagenet.published)
    # The few images that are missing take less than the others' shards do in padding.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 0))
    prepare_files(job(tmp_path / "full", imagenet.folder, skip_damaged=True), imagenet.published)


def test_a_split_that_lost_its_labels_is_made_again(imagenet, tmp_path):
    folder = tmp_path / "full"
    prepare_files(job(folder, imagenet.folder), imagenet.published)
    (folder / "validation" / "labels.npy").unlink()
    prepare_files(job(folder, imagenet.folder), imagenet.published)
    imagenet.check(folder)


def test_the_contents_are_checked_once(imagenet, tmp_path, monkeypatch):
    imagenet.train["n00000005"]["n00000005_1.JPEG"] = b"damaged"
    imagenet.write()
    checked = []
    monkeypatch.setattr(sources, "check_archive", lambda path, archive: checked.append(archive.name))

    def checked_now():
        checked.clear()
        with pytest.raises(DataError, match="Of the train images, 1 cannot be read"):
            prepare_files(job(tmp_path / "full", imagenet.folder), imagenet.published)
        return checked

    assert len(checked_now()) == 4
    assert checked_now() == []
    # Touched, it may be another; and only what the unfinished split is made of is of interest.
    for archive in PUBLISHED.needed_for(SPLITS):
        os.utime(imagenet.folder / archive.name, ns=(1, 1))
    assert checked_now() == [PUBLISHED.train.name, PUBLISHED.devkit.name]
    assert checked_now() == []
