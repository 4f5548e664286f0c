"""Damaged images end a preparation, or are left out where the user allowed it."""

import json
from dataclasses import replace

import pytest
from published_files import CLASSES, damaged, files_in, job, silent

from algoperf.data import DataError, Shards, preparation
from algoperf.spec import Split
from algoperf_imagenet import prepare, store
from algoperf_imagenet.prepare import prepare_files
from algoperf_imagenet.store import StoredImages, num_skipped


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
