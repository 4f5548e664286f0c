"""Images on disk."""

import multiprocessing
import pickle
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf.data import DataError
from algoperf_imagenet import store
from algoperf_imagenet.store import SUFFIX, StoredImages, finish_split, num_skipped, split_files, write_shard

PER_SHARD = 7


def write_split(folder, shards):
    """Shards of (record, label), written in an order that is not that of their names."""
    for number in reversed(range(len(shards))):
        write_shard(folder / f"n{number:03}{SUFFIX}", shards[number])
    finish_split(folder)


@pytest.fixture
def split(tmp_path):
    """Five shards of random bytes, and what is in them."""
    rng = np.random.default_rng(0)
    images = [(rng.bytes(int(rng.integers(1, 70_000))), int(rng.integers(1000))) for _ in range(5 * PER_SHARD)]
    write_split(tmp_path / "train", [images[start : start + PER_SHARD] for start in range(0, 35, PER_SHARD)])
    return tmp_path / "train", images


@st.composite
def splits(draw):
    record = st.tuples(st.binary(max_size=300), st.integers(0, 2**16 - 1))
    shards = draw(st.lists(st.lists(record, max_size=6), min_size=1, max_size=4))
    number = sum(map(len, shards))
    indices = draw(st.lists(st.integers(0, number - 1), max_size=20)) if number else []
    return shards, indices, draw(st.integers(1, 5))


@settings(max_examples=60, deadline=None)
@given(splits())
def test_what_is_written_is_read(case):
    shards, indices, max_open = case
    images = [image for shard in shards for image in shard]
    with tempfile.TemporaryDirectory() as folder:
        write_split(Path(folder), shards)
        stored = StoredImages(Path(folder), max_open)
        assert len(stored) == len(images)
        assert stored.labels.dtype == np.uint16
        assert stored.labels.tolist() == [label for _, label in images]
        assert stored.read(np.array(indices, np.int64)) == [images[index][0] for index in indices]
        assert {path for path in Path(folder).iterdir()} == set(split_files(Path(folder)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_what_this_one_opened(split, method):
    folder, images = split
    stored = StoredImages(folder)
    indices = np.arange(len(images))[::-1]
    expected = stored.read(indices)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        assert pool.submit(stored.read, indices).result() == expected
    assert stored.read(indices) == expected


def test_a_copy_opens_its_own_files(split):
    folder, _ = split
    stored = StoredImages(folder)
    stored.read(np.array([1, 20]))
    copy = pickle.loads(pickle.dumps(stored))
    assert copy.read(np.array([20])) == stored.read(np.array([20]))


def test_a_missing_shard_is_noticed(split):
    folder, _ = split
    (folder / f"n002{SUFFIX}").unlink()
    with pytest.raises(DataError, match="not those it was written with"):
        StoredImages(folder)


def test_an_unfinished_split_is_not_opened(tmp_path):
    write_shard(tmp_path / f"a{SUFFIX}", [(b"x", 1)])
    with pytest.raises(DataError, match="no finished split"):
        StoredImages(tmp_path)


def test_images_that_cannot_be_had_leave_no_shard(tmp_path):
    def images():
        yield b"x", 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / f"a{SUFFIX}", images())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stop", range(14))
def test_finishing_may_be_interrupted(tmp_path, monkeypatch, stop):
    folder = tmp_path / "train"
    for name in "ab":
        write_shard(folder / f"{name}{SUFFIX}", [(name.encode(), ord(name))], skipped=[f"{name}.JPEG (why)"])
    calls, methods = 0, {name: getattr(Path, name) for name in ("replace", "unlink")}

    def counted(name):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls > stop:
                raise KeyboardInterrupt
            return methods[name](*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in methods:
            patch.setattr(Path, name, counted(name))
        if stop < 13:
            with pytest.raises(KeyboardInterrupt):
                finish_split(folder)
        else:
            finish_split(folder)
    finish_split(folder)
    assert StoredImages(folder).read(np.array([1, 0])) == [b"b", b"a"]
    assert StoredImages(folder).labels.tolist() == [ord("a"), ord("b")]
    assert (folder / store.SKIPPED).read_text() == "a.JPEG (why)\nb.JPEG (why)\n"
    assert num_skipped(tmp_path) == 2
    assert set(folder.iterdir()) == set(split_files(folder))
