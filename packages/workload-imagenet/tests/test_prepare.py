"""Preparation of files that are as they should be, undisturbed and interrupted."""

import pickle
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from published_files import CLASSES, contents_of, files_in, job, silent

from algoperf.data import preparation
from algoperf_imagenet import shards, store
from algoperf_imagenet.prepare import prepare_files
from algoperf_imagenet.store import StoredImages


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
# As many on any machine, so that it is under way when it is killed.
shards.num_processors = lambda: 1
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
    # In the first split, the second and the third, and wherever else chance has it; all of it takes longer than this.
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


def test_no_label_is_that_of_an_order_of_texts(imagenet, tmp_path):
    folder = tmp_path / "full"
    prepare_files(job(folder, imagenet.folder), imagenet.published)
    texts = sorted(map(str, range(12)))
    mistaken = [texts.index(name.partition("/")[0]) for name in imagenet.test]
    assert StoredImages(folder / "test").labels.tolist() != mistaken
