"""Files laid end to end in shards."""

import multiprocessing
import pickle
import resource
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf.data import DataError
from algoperf.data.record_shards import SUFFIX, RecordShards, shards_in, write_shard

PER_SHARD = 7


def written(folder, shards, max_open=None):
    """Shards in an order that is not that of their names."""
    for number in reversed(range(len(shards))):
        write_shard(folder / f"n{number:03}{SUFFIX}", shards[number])
    return RecordShards(shards_in(folder), np.array([len(shard) for shard in shards]), max_open)


@pytest.fixture
def records():
    """Random bytes for five shards."""
    rng = np.random.default_rng(0)
    return [rng.bytes(int(rng.integers(1, 70_000))) for _ in range(5 * PER_SHARD)]


@pytest.fixture
def stored(records, tmp_path):
    shards = [records[start : start + PER_SHARD] for start in range(0, len(records), PER_SHARD)]
    return written(tmp_path / "train", shards, max_open=2)


@st.composite
def shards_and_indices(draw):
    shards = draw(st.lists(st.lists(st.binary(max_size=300), max_size=6), min_size=1, max_size=4))
    number = sum(map(len, shards))
    return shards, draw(st.lists(st.integers(0, number - 1), max_size=20)) if number else []


@settings(max_examples=60, deadline=None)
@given(shards_and_indices(), st.integers(1, 5))
def test_what_is_written_is_read(case, max_open):
    shards, indices = case
    records = [record for shard in shards for record in shard]
    with tempfile.TemporaryDirectory() as folder:
        stored = written(Path(folder), shards, max_open)
        assert len(stored) == len(records)
        assert stored.read(np.array(indices, np.int64)) == [records[index] for index in indices]
        assert shards_in(Path(folder)) == sorted(Path(folder).iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are listed on Linux only")
def test_few_files_are_open_at_a_time(stored, tmp_path):
    stored.read(np.arange(len(stored)))
    links = [path.resolve() for path in Path("/proc/self/fd").glob("*") if path.exists()]
    assert sum(path.parent == (tmp_path / "train").resolve() and path.suffix == SUFFIX for path in links) == 2


def test_threads_share_one(stored, records):
    wrong = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(50):
            indices = rng.integers(0, len(records), 8)
            if stored.read(indices) != [records[index] for index in indices]:
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_what_this_one_opened(stored, records, method):
    indices = np.arange(len(records))[::-1]
    assert stored.read(indices) == records[::-1]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        assert pool.submit(stored.read, indices).result() == records[::-1]
    assert stored.read(indices) == records[::-1]


def test_a_copy_opens_its_own_files(stored, records):
    stored.read(np.array([1, 20]))
    assert pickle.loads(pickle.dumps(stored)).read(np.array([20])) == [records[20]]


@pytest.mark.parametrize("index", [-1, 35])
def test_an_index_outside_is_refused(stored, index):
    with pytest.raises(IndexError, match="35 records"):
        stored.read(np.array([3, index]))


def test_a_record_s_place(stored, tmp_path):
    assert stored.place(0) == f"0 of {tmp_path / 'train' / 'n000.arrayrecord'}"
    assert stored.place(20) == f"6 of {tmp_path / 'train' / 'n002.arrayrecord'}"
    assert stored.place(21) == f"0 of {tmp_path / 'train' / 'n003.arrayrecord'}"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-100],
        lambda content: b"",
        lambda content: content.replace(content[70_000:70_009], b"wrong!!!!"),
    ],
)
def test_a_damaged_shard_is_named(stored, tmp_path, damage):
    path = tmp_path / "train" / f"n002{SUFFIX}"
    path.write_bytes(damage(path.read_bytes()))
    stored.read(np.arange(14))
    with pytest.raises(DataError, match=r"n002\.arrayrecord cannot be read \(.*\); if it is damaged, delete"):
        stored.read(np.arange(35))


def test_a_full_disk_leaves_no_shard(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A real failure of the file system, at which the writer is as silent as at a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(DataError, match=r"a\.arrayrecord cannot be written \(.*File too large.*\); mend that"):
            write_shard(tmp_path / f"a{SUFFIX}", [bytes(50_000)] * 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_what_belongs_to_a_shard_is_there_before_it(tmp_path):
    path, found = tmp_path / f"a{SUFFIX}", []

    def records():
        yield b"x"
        found.append("records")

    write_shard(path, records(), lambda: found.append(path.exists()))
    assert found == ["records", False]
    assert path.exists()

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / f"b{SUFFIX}", [b"x"], fail)
    assert list(tmp_path.iterdir()) == [path]


def test_records_that_cannot_be_had_leave_no_shard(tmp_path):
    def records():
        yield b"x"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / f"a{SUFFIX}", records())
    assert not list(tmp_path.iterdir())
