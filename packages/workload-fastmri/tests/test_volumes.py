"""Volumes on disk: what is read of them, in any order and by many threads, and what is refused."""

import gc
import json
import os
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from scans import SIZE, h5, measured

from algoperf.data import DataError
from algoperf_fastmri import volumes
from algoperf_fastmri.volumes import (
    INDEX,
    DamagedVolume,
    StoredSlices,
    Volume,
    check_volume,
    describe,
    split_files,
    write_index,
    write_volume,
)

NUM_SLICES = (3, 1, 4, 2)


@pytest.fixture
def folder(tmp_path):
    """A split of some volumes."""
    for number, size in enumerate(NUM_SLICES):
        write_volume(tmp_path / f"file{number}.h5", *measured(number, size))
    write_index(tmp_path)
    return tmp_path


def slices():
    """What is in it."""
    for number, size in enumerate(NUM_SLICES):
        kspace, images = measured(number, size)
        for row in range(size):
            yield kspace[row], images[row], images.max()


def assert_same(found, expected):
    for array, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, other)


def test_slices_are_read_in_any_order(folder):
    stored, expected = StoredSlices(folder), list(slices())
    assert len(stored) == len(expected)
    for number in np.random.default_rng(0).permutation(3 * len(expected)) % len(expected):
        assert_same(stored.read(int(number)), expected[number])
    first = stored.read(0)
    assert (first.kspace.dtype, first.target.dtype) == (np.complex64, np.float32)


def test_a_volume_is_written_as_fastmri_has_it(folder):
    kspace, images = measured(2, 4)
    with h5py.File(folder / "file2.h5") as file:
        assert set(file) == {"kspace", "reconstruction_esc"}
        assert (file["kspace"].dtype, file["reconstruction_esc"].dtype) == (np.complex64, np.float32)
        np.testing.assert_array_equal(file["kspace"], kspace)
        np.testing.assert_array_equal(file["reconstruction_esc"], images)
        assert file.attrs["max"] == images.max()


def test_the_index_says_what_there_is(folder):
    (folder / ".file9.h5.tmp").write_bytes(b"unfinished")
    assert StoredSlices(folder).volumes == [
        Volume(f"file{number}.h5", size, SIZE + 8, SIZE + number, SIZE, float(measured(number, size)[1].max()))
        for number, size in enumerate(NUM_SLICES)
    ]
    assert split_files(folder) == [*(folder / f"file{number}.h5" for number in range(4)), folder / INDEX]
    assert StoredSlices(folder).skipped == []
    write_index(folder, [], ["file5.h5 (is torn)"])
    assert StoredSlices(folder).skipped == ["file5.h5 (is torn)"]


@pytest.mark.parametrize("chunked", [False, True], ids=["plain", "compressed"])
def test_files_with_more_in_them_are_read_too(tmp_path, chunked):
    kspace, images = measured(1, 3)
    (tmp_path / "file.h5").write_bytes(h5(kspace, images, chunked=chunked, max=0.25))
    check_volume(tmp_path / "file.h5", SIZE)
    write_index(tmp_path)
    assert_same(StoredSlices(tmp_path).read(2), (kspace[2], images[2], 0.25))


def test_where_no_maximum_is_written_it_is_zero(tmp_path):
    write_volume(tmp_path / "file.h5", *measured(0, 2))
    with h5py.File(tmp_path / "file.h5", "r+") as file:
        del file.attrs["max"]
    check_volume(tmp_path / "file.h5", SIZE)
    write_index(tmp_path)
    assert StoredSlices(tmp_path).read(0).volume_max == 0


def test_threads_share_one_and_few_files_are_open(folder, monkeypatch):
    monkeypatch.setattr(volumes, "_MAX_OPEN", 2)
    stored, expected = StoredSlices(folder), list(slices())
    # Of other tests.
    gc.collect()
    others = num_open()
    numbers = (np.random.default_rng(1).permutation(400) % len(expected)).tolist()
    open_files = []

    def read(number):
        found = stored.read(number)
        open_files.append(num_open() - others)
        return found

    with ThreadPoolExecutor(8) as pool:
        for number, found in zip(numbers, pool.map(read, numbers), strict=True):
            assert_same(found, expected[number])
    # Those that are kept, and the one that each thread holds.
    assert 2 <= max(open_files) <= 2 + 8
    stored.read(0)
    assert num_open() - others == 2


def num_open():
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


def test_a_split_without_an_index_is_not_complete(folder):
    (folder / INDEX).unlink()
    with pytest.raises(DataError, match=f"{folder} holds no complete split .*; delete the folder of the prepared data"):
        StoredSlices(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"skipped": [], "volumes": [{"name": "file0.h5"}]}'])
def test_a_damaged_index_is_named(folder, content):
    (folder / INDEX).write_text(content)
    with pytest.raises(DataError, match=f"{folder} holds no complete split"):
        StoredSlices(folder)


def test_a_volume_that_was_damaged_afterwards_is_named(folder):
    content = (folder / "file2.h5").read_bytes()
    (folder / "file2.h5").write_bytes(content[:-1_000])
    with pytest.raises(DataError, match=r"Slice 1 of .*file2\.h5 cannot be read \(.*truncated.*\); delete the folder"):
        StoredSlices(folder).read(5)
    (folder / "file2.h5").unlink()
    with pytest.raises(DataError, match=r"Slice 1 of .*file2\.h5 cannot be read \(.*No such file"):
        StoredSlices(folder).read(5)


def test_a_volume_that_lost_slices_is_named(folder):
    write_volume(folder / "file2.h5", *measured(2, 2))
    with pytest.raises(DataError, match=r"Slice 3 of .*file2\.h5 cannot be read"):
        StoredSlices(folder).read(7)


def changed(change):
    """K-space and images of a volume that `change` has changed."""
    arrays = dict(zip(("kspace", "images"), measured(1, 3), strict=True))
    return {**arrays, **change(**arrays)}


def with_value(array, place, value):
    array = array.copy()
    array[place] = value
    return array


DAMAGES = {
    "no images": (lambda **_: {"images": None}, "it has no reconstruction_esc, as fastMRI's own test volumes"),
    "fewer images": (
        lambda images, **_: {"images": images[1:]},
        r"kspace is complex64 \(3, 20, 13\) and .*\(2, 12, 12",
    ),
    "no slices": (lambda kspace, images: {"kspace": kspace[:0], "images": images[:0]}, r"\(0, 20, 13\)"),
    "wide images": (lambda images, **_: {"images": images[:, 1:]}, r"\(3, 11, 12\); complex64 \(slices, height"),
    "double precision": (lambda kspace, **_: {"kspace": kspace.astype(np.complex128)}, "kspace is complex128"),
    "integer images": (lambda images, **_: {"images": images.astype(np.int16)}, "reconstruction_esc int16"),
    "several coils": (lambda kspace, **_: {"kspace": kspace[:, None]}, r"kspace is complex64 \(3, 1, 20, 13\)"),
    "low k-space": (lambda kspace, **_: {"kspace": kspace[:, :11]}, r"\(3, 11, 13\) and .*, which is larger"),
    "narrow k-space": (lambda kspace, **_: {"kspace": kspace[:, :, :11]}, r"\(3, 20, 11\) and .*, which is larger"),
    "a NaN": (lambda kspace, **_: {"kspace": with_value(kspace, (2, 5, 6), np.nan)}, "slice 2 of kspace has values th"),
    "an infinity": (
        lambda images, **_: {"images": with_value(images, (1, 0, 0), -np.inf)},
        "slice 1 of reconstruction_",
    ),
    "an imaginary NaN": (
        lambda kspace, **_: {"kspace": with_value(kspace, (0, 0, 0), complex(0, np.nan))},
        "slice 0 of kspace has values that are not finite",
    ),
    "an odd maximum": (lambda **_: {"max": np.nan}, "its attribute max is nan"),
    "an infinite maximum": (lambda **_: {"max": np.inf}, "its attribute max is inf"),
    "a negative maximum": (lambda **_: {"max": -1.0}, r"its attribute max is -1\.0 and should be a number"),
    "several maxima": (lambda **_: {"max": [1.0, 2.0]}, r"its attribute max is \[1\. 2\.\] and should be a number"),
    "a complex maximum": (lambda **_: {"max": 1j}, "its attribute max is .* and should be a number"),
    "text as the maximum": (lambda **_: {"max": "much"}, "its attribute max is much and should be a number"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_volume_is_refused(tmp_path, name):
    change, message = DAMAGES[name]
    path = tmp_path / "file.h5"
    path.write_bytes(h5(**changed(lambda **_: {})))
    check_volume(path, SIZE)
    path.write_bytes(h5(**changed(change)))
    with pytest.raises(DamagedVolume, match=message):
        check_volume(path, SIZE)


def test_images_of_another_size_are_refused(tmp_path):
    (tmp_path / "file.h5").write_bytes(h5(*measured(1, 3, size=13)))
    describe(tmp_path / "file.h5")
    with pytest.raises(DamagedVolume, match="its images have 13 pixels a side and should have 12"):
        check_volume(tmp_path / "file.h5", SIZE)


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content[:100], lambda _: b"no HDF5"])
def test_a_torn_file_is_refused(tmp_path, change):
    (tmp_path / "file.h5").write_bytes(change(h5(*measured(1, 3))))
    with pytest.raises(DamagedVolume, match=r"truncated|unable to|signature"):
        check_volume(tmp_path / "file.h5", SIZE)


def test_a_damaged_chunk_is_refused(tmp_path):
    path = tmp_path / "file.h5"
    path.write_bytes(h5(*measured(1, 3), chunked=True))
    with h5py.File(path) as file:
        chunk = file["kspace"].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    describe(path)
    with pytest.raises(DamagedVolume, match="filter"):
        check_volume(path, SIZE)


def test_an_unfinished_volume_is_not_there(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DataError, match=r"file\.h5 cannot be written \(No space left on device\)"):
        write_volume(tmp_path / "file.h5", *measured(0, 2))
    assert not list(tmp_path.iterdir())


def test_the_index_is_text(folder):
    index = json.loads((folder / INDEX).read_text())
    assert index["volumes"][1] == {
        "name": "file1.h5",
        "num_slices": 1,
        "height": 20,
        "width": 13,
        "image_size": 12,
        "maximum": float(measured(1, 1)[1].max()),
    }
