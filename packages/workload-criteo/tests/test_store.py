"""Rows on disk."""

import errno
import os

import numpy as np
import pytest
from click_logs import files_in

from algoperf.data import DataError
from algoperf_criteo.store import (
    BYTES_PER_ROW,
    StoredRows,
    files_of,
    is_written,
    training_folder,
    training_folders,
    write_divided,
    write_rows,
)


def blocks(*sizes):
    """Blocks of so many rows, each of which is told by its number."""
    start = 0
    for size in sizes:
        numbers = np.arange(start, start + size)
        yield (numbers[:, None] + np.arange(39) / 64).astype(np.float32), (numbers % 3 == 0).astype(np.uint8)
        start += size


def whole(number):
    return next(blocks(number))


def assert_rows(folder, inputs, labels):
    stored = StoredRows.load(folder)
    assert len(stored) == len(labels)
    for found, expected in ((stored.inputs, inputs), (stored.labels, labels)):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("sizes", [(7,), (3, 4), (1,) * 7, (0, 7, 0), ()])
def test_what_was_written_is_loaded(tmp_path, sizes):
    folder = tmp_path / "deep" / "rows"
    assert write_rows(folder, sum(sizes), blocks(*sizes)) == files_of(folder)
    assert_rows(folder, *whole(sum(sizes)))
    assert files_in(tmp_path) == set(files_of(folder))


def test_rows_that_do_not_lie_one_after_the_other_are_written_as_such(tmp_path):
    inputs, labels = whole(12)
    write_rows(tmp_path / "rows", 6, [(inputs[::2], labels[::2])])
    assert_rows(tmp_path / "rows", inputs[::2], labels[::2])


def test_rows_are_mapped_and_take_what_they_are_said_to_take(tmp_path):
    write_rows(tmp_path / "rows", 1_000, blocks(1_000))
    stored = StoredRows.load(tmp_path / "rows")
    assert isinstance(stored.inputs, np.memmap)
    assert isinstance(stored.labels, np.memmap)
    assert sum(path.stat().st_size for path in files_in(tmp_path)) == 1_000 * BYTES_PER_ROW + 2 * 128


def test_what_was_there_before_is_replaced(tmp_path):
    write_rows(tmp_path / "rows", 3, blocks(3))
    write_rows(tmp_path / "rows", 5, blocks(5))
    assert_rows(tmp_path / "rows", *whole(5))


@pytest.mark.parametrize("sizes", [(100,), (10,) * 10, (49, 2, 49), (50, 50), (1,) * 100])
@pytest.mark.parametrize("cut", [1, 50, 99])
def test_rows_are_divided_in_their_order(tmp_path, sizes, cut):
    write_divided({tmp_path / "b": cut, tmp_path / "a": 100 - cut}, blocks(*sizes))
    inputs, labels = whole(100)
    assert_rows(tmp_path / "b", inputs[:cut], labels[:cut])
    assert_rows(tmp_path / "a", inputs[cut:], labels[cut:])


@pytest.mark.parametrize("found", [0, 5, 6, 9, 11, 50])
def test_another_number_of_rows_is_refused(tmp_path, found):
    message = f"b and .*a came out with {found} rows instead of 10; check what they are made of"
    with pytest.raises(DataError, match=message):
        write_divided({tmp_path / "b": 6, tmp_path / "a": 4}, blocks(*[1] * found))
    with pytest.raises(DataError, match=f"rows came out with {found} rows instead of 10;"):
        write_rows(tmp_path / "rows", 10, blocks(found))
    assert not list(tmp_path.iterdir())


def test_an_error_on_the_way_leaves_nothing(tmp_path):
    def failing():
        yield from blocks(8)
        raise DataError("this one")

    with pytest.raises(DataError, match=r"^this one$"):
        write_divided({tmp_path / "b": 6, tmp_path / "a": 4}, failing())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", range(1, 10))
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, number):
    calls, fsync = 0, os.fsync

    def call(descriptor):
        nonlocal calls
        calls += 1
        if calls == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", call)
    folders = {tmp_path / "b": 6, tmp_path / "a": 4}
    if number <= 8:
        with pytest.raises(DataError, match=r"cannot be written \(\[Errno 28\] No space left on device\); mend that"):
            write_divided(folders, blocks(10))
        assert not list(tmp_path.glob(".*"))
        # What appears before the others do is whole.
        assert all(is_written(folder) for folder in tmp_path.iterdir())
    else:
        write_divided(folders, blocks(10))
        assert all(map(is_written, folders))


def test_a_disk_that_fills_while_blocks_are_written_leaves_nothing(tmp_path):
    """Linux has a device that is always full."""

    def swapped():
        yield from blocks(100_000)
        # Behind the first block, the file's descriptor leads there.
        target = os.open("/dev/full", os.O_WRONLY)
        for name in os.listdir("/proc/self/fd"):
            if os.path.realpath(f"/proc/self/fd/{name}").endswith("inputs.npy"):
                os.dup2(target, int(name))
        os.close(target)
        yield whole(100_000)

    with pytest.raises(DataError, match=r"rows cannot be written .*No space left on device"):
        write_rows(tmp_path / "rows", 200_000, swapped())
    assert not list(tmp_path.iterdir())


def damage_truncate(folder):
    path = folder / "inputs.npy"
    os.truncate(path, path.stat().st_size - 1)


def damage_labels(folder):
    np.save(folder / "labels.npy", np.zeros(6, np.uint8))


def damage_shape(folder):
    np.save(folder / "inputs.npy", np.zeros((7, 38), np.float32))


def damage_types(folder):
    np.save(folder / "inputs.npy", np.zeros((7, 39), np.float64))


def damage_scalar(folder):
    np.save(folder / "labels.npy", np.uint8(7))


def damage_empty(folder):
    (folder / "labels.npy").write_bytes(b"")


def damage_missing(folder):
    (folder / "labels.npy").unlink()


@pytest.mark.parametrize(
    "damage",
    [damage_truncate, damage_labels, damage_shape, damage_types, damage_scalar, damage_empty, damage_missing],
)
def test_files_that_are_no_rows_are_refused(tmp_path, damage):
    folder = tmp_path / "rows"
    write_rows(folder, 7, blocks(7))
    damage(folder)
    with pytest.raises(DataError, match=r"rows (holds no rows of click logs \(|do not belong).* prepare it again"):
        StoredRows.load(folder)
    assert is_written(folder) == (damage is not damage_missing)


def test_days_of_training_come_in_their_order(tmp_path):
    folders = [training_folder(tmp_path, number) for number in range(12)]
    for folder in reversed([*folders, tmp_path / "test", tmp_path / "validation", tmp_path / ".day_12.tmp"]):
        folder.mkdir()
    assert training_folders(tmp_path) == folders
