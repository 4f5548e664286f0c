"""Preparation of archives that are as they should be, and of archives that are not."""

import lzma
import random
import shutil
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest
from scans import NUM_SLICES, Knees, contents_of, files_in, h5, job, measured

from algoperf.data import DataError, preparation
from algoperf.data.archives import Archive
from algoperf.spec import Split
from algoperf_fastmri import prepare, unpacking
from algoperf_fastmri.prepare import prepare_files, prepare_full
from algoperf_fastmri.published import PUBLISHED, Part
from algoperf_fastmri.spec import FASTMRI
from algoperf_fastmri.volumes import StoredSlices

TRAIN, VALIDATION = PUBLISHED.archives
ARCHIVES = pytest.mark.parametrize("archive", PUBLISHED.archives, ids=lambda archive: archive.label)


@pytest.fixture
def knees(tmp_path):
    return Knees(tmp_path / "downloads")


def prepared(knees, folder, report=print, **options):
    return prepare_files(job(folder, knees.folder, report, **options), knees.published)


def test_what_is_published_is_prepared(knees, tmp_path):
    files = prepared(knees, tmp_path / "full")
    knees.check(tmp_path / "full")
    assert set(files) == files_in(tmp_path / "full")
    assert len(files) == sum(map(len, NUM_SLICES.values())) + 3
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["test", "train", "validation"]
    # What is all there needs no source.
    assert prepare_files(job(tmp_path / "full", None, pytest.fail), knees.published) == files


def test_it_is_prepared_verified_and_opened_as_the_workload_s(knees, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "PUBLISHED", knees.published)
    spec = knees.spec()
    preparation.prepare(spec, tmp_path / "data", knees.folder, print)
    preparation.verify(spec, tmp_path / "data")
    dataset = preparation.open_prepared(spec, tmp_path / "data")
    assert {split: dataset.num_stored(split) for split in NUM_SLICES} == {s: sum(n) for s, n in NUM_SLICES.items()}


def test_the_facts_of_the_published_files_are_those_of_the_workload():
    assert [archive.name for archive in PUBLISHED.archives] == [
        "knee_singlecoil_train.tar.xz",
        "knee_singlecoil_val.tar.xz",
    ]
    assert TRAIN.parts == {"train": Part(973, FASTMRI.num_train_examples)}
    # In the order of the names, the first ones are for validation.
    assert list(VALIDATION.parts.items()) == [
        ("validation", Part(100, FASTMRI.num_validation_examples)),
        ("test", Part(99, FASTMRI.num_test_examples)),
    ]
    assert (VALIDATION.num_volumes, VALIDATION.num_slices) == (199, 7_135)
    assert PUBLISHED.image_size == FASTMRI.dataset.options.image_size
    assert all(isinstance(archive, Archive) and archive.size is None for archive in PUBLISHED.archives)
    assert set(NUM_SLICES) == {split.value for split in Split} - {Split.EVAL_TRAIN.value}


@ARCHIVES
@pytest.mark.parametrize("knee", [True, False])
def test_an_archive_may_be_unpacked_already(knees, tmp_path, archive, knee):
    described = next(some for some in knees.published.archives if some.name == archive.name)
    knees.unpack(described, archive.label if knee else archive.label.removeprefix("knee_"))
    prepared(knees, tmp_path / "full")
    knees.check(tmp_path / "full")


def test_each_line_that_is_said_is_short_and_new(knees, tmp_path):
    said = []
    prepared(knees, tmp_path / "full", said.append)
    assert len(said) == len(set(said))
    assert all("\n" not in line and len(line) < 300 for line in said)
    assert [line for line in said if line.startswith("knee_singlecoil_val: ")] == [
        f"knee_singlecoil_val: {number} of 5 volumes are done." for number in range(1, 6)
    ]
    assert said[-3:] == [
        "train: 15 slices of 5 volumes.",
        "validation: 6 slices of 3 volumes.",
        "test: 6 slices of 2 volumes.",
    ]


def test_of_many_volumes_only_some_are_reported(knees, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "_REPORTS", 2)
    said = []
    prepared(knees, tmp_path / "full", said.append)
    numbers = [int(line.split()[1]) for line in said if line.startswith("knee_singlecoil_train: ")]
    assert numbers == [3, 5]


@ARCHIVES
def test_a_missing_archive_is_named_with_the_way_to_it(knees, tmp_path, archive):
    path = knees.folder / archive.name
    path.rename(path.with_suffix(".zip"))
    expected = (
        f"There is no {archive.name} in .*downloads, but there is {archive.label}.tar.zip; ask for {archive.label}."
    )
    with pytest.raises(DataError, match=expected):
        prepared(knees, tmp_path / "full", pytest.fail)


@pytest.mark.parametrize(("source", "message"), [(None, "needs a folder with"), ("file", "file is not a folder")])
def test_without_a_folder_both_archives_are_named(tmp_path, source, message):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=f"{message}.*--scale full --source FOLDER") as error:
        prepare_full(job(tmp_path / "full", source and tmp_path / source))
    assert all(archive.name in str(error.value) for archive in PUBLISHED.archives)


def test_each_published_file_can_be_had(tmp_path):
    (tmp_path / "source").mkdir()
    with pytest.raises(
        DataError, match=r"no knee_singlecoil_train.tar.xz .* ask for it at https://fastmri.med.nyu.edu"
    ):
        prepare_full(job(tmp_path / "full", tmp_path / "source"))


def damaged(path, change):
    """Changes an archive; returns what it was."""
    content = path.read_bytes()
    path.write_bytes(change(content))
    return content


CHANGES = {
    "truncated": (lambda content: content[:-200], "Compressed file ended before"),
    "without its end": (lambda content: content[:-4], "Compressed file ended before"),
    "altered": (lambda content: content[:-400] + bytes([content[-400] ^ 1]) + content[-399:], "Corrupt input data"),
    "no xz": (lambda _: b"<html>Please log in.</html>", "not supported"),
    "no tar": (lambda _: lzma.compress(b"Please log in." * 1_000), "header"),
    "half a tar": (lambda content: lzma.compress(lzma.decompress(content)[:20_000]), "unexpected end of data"),
}


@ARCHIVES
@pytest.mark.parametrize("name", CHANGES)
def test_a_damaged_archive_is_named(knees, tmp_path, archive, name):
    change, message = CHANGES[name]
    path = knees.folder / archive.name
    content = damaged(path, change)
    with pytest.raises(DataError, match=f"{archive.name} cannot be read .*{message}.*download it again"):
        prepared(knees, tmp_path / "full")
    assert not list((tmp_path / "full").rglob("*.json"))
    assert not list((tmp_path / "full").rglob(".*"))
    # And with the right one it goes on.
    path.write_bytes(content)
    prepared(knees, tmp_path / "full")
    knees.check(tmp_path / "full")


def test_what_lies_behind_the_tar_is_read_too(knees, tmp_path):
    """Where a download breaks off within the checksum, all volumes are there before."""
    path = knees.folder / TRAIN.name
    path.write_bytes(lzma.compress(lzma.decompress(path.read_bytes()) + bytes(2**22))[:-4])
    with pytest.raises(DataError, match=f"{TRAIN.name} cannot be read .Compressed file ended"):
        prepared(knees, tmp_path / "full")


@ARCHIVES
@pytest.mark.parametrize("more", [True, False])
def test_an_archive_of_another_number_of_volumes_is_refused(knees, tmp_path, archive, more):
    split, others = ("train", []) if archive is TRAIN else ("test", ["validation"])
    if more:
        knees.contents[split]["file9999999.h5"] = h5(*measured(9, 2))
    else:
        knees.contents[split].popitem()
    knees.write()
    number = sum(len(knees.contents[name]) for name in [split, *others])
    with pytest.raises(
        DataError, match=f"{archive.name} holds {number} volumes and should hold 5; ask for {archive.label}"
    ):
        prepared(knees, tmp_path / "full")


@pytest.mark.parametrize("split", NUM_SLICES)
def test_a_split_of_another_number_of_slices_is_refused(knees, tmp_path, split):
    name = min(knees.contents[split])
    knees.contents[split][name] = h5(*measured(9, 9))
    knees.write()
    expected, first = sum(NUM_SLICES[split]), NUM_SLICES[split][0]
    with pytest.raises(
        DataError, match=rf"The {split} split came out with {expected - first + 9} slices instead of {expected}; delete"
    ):
        prepared(knees, tmp_path / "full")
    assert not (tmp_path / "full" / split / "index.json").exists()


def with_nan(contents):
    """A volume with a NaN in its last slice."""
    kspace, images = (array.copy() for array in contents)
    kspace[-1, 3, 4] = np.nan
    return h5(kspace, images)


VOLUMES = {
    "torn": (lambda arrays: h5(*arrays)[:-100], "truncated file"),
    "a NaN": (with_nan, "slice 3 of kspace has values that are not finite"),
    "no images": (lambda arrays: h5(arrays[0], None), "it has no reconstruction_esc, as fastMRI's own test volumes"),
    "of another size": (lambda _: h5(*measured(2, 4, size=13)), "its images have 13 pixels a side and should have 12"),
}


def damage(knees, split, name, change):
    knees.contents[split][name] = change(knees.measured[split][name])
    knees.write()


def test_damaged_training_volumes_are_all_named(knees, tmp_path):
    names = sorted(knees.contents["train"])
    for name in names[:2]:
        damage(knees, "train", name, lambda _: b"torn")
    with pytest.raises(DataError) as error:
        prepared(knees, tmp_path / "full")
    message = str(error.value)
    assert message.startswith(f"Of the volumes in {knees.folder / TRAIN.name}, 2 cannot be used: ")
    assert all(name in message for name in names[:2])
    assert message.endswith("; pass --skip-damaged to leave them out; the others are kept.")
    assert {path.name for path in (tmp_path / "full").rglob("*.h5")} >= set(names[2:])


@pytest.mark.parametrize("kind", VOLUMES)
def test_damaged_training_volumes_may_be_left_out(knees, tmp_path, kind):
    change, message = VOLUMES[kind]
    name = sorted(knees.contents["train"])[2]
    damage(knees, "train", name, change)
    with pytest.raises(DataError, match=rf"1 cannot be used: {name} \(.*{message}.*; pass --skip-damaged"):
        prepared(knees, tmp_path / "full")
    said = []
    prepared(knees, tmp_path / "full", said.append, skip_damaged=True)
    knees.check(tmp_path / "full", without=[name])
    (skipped,) = StoredSlices(tmp_path / "full" / "train").skipped
    assert skipped.startswith(f"{name} (")
    assert message in skipped
    assert said[-1] == "test: 6 slices of 2 volumes."
    assert f"Damaged volumes that were left out: 1, named in {tmp_path / 'full' / 'train' / 'index.json'}." in said
    # And nothing is missing afterwards.
    prepare_files(job(tmp_path / "full", None, pytest.fail), knees.published)


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("skip_damaged", [False, True])
def test_damaged_evaluation_volumes_are_never_left_out(knees, tmp_path, split, skip_damaged):
    name = min(knees.contents[split])
    damage(knees, split, name, lambda _: b"torn")
    with pytest.raises(
        DataError, match=rf"1 cannot be used: {name} .*; evaluated volumes are never left out; .*ask for"
    ):
        prepared(knees, tmp_path / "full", skip_damaged=skip_damaged)


def test_where_nothing_is_damaged_nothing_is_left_out(knees, tmp_path):
    prepared(knees, tmp_path / "full", skip_damaged=True)
    knees.check(tmp_path / "full")
    assert not StoredSlices(tmp_path / "full" / "train").skipped


def test_archives_that_do_not_fit_are_not_begun(knees, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    needed = knees.published.bytes_per_slice * sum(map(sum, NUM_SLICES.values()))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(DataError, match=r"takes 0\.0 GiB more in .*full, where .* make room or choose another"):
        prepared(knees, tmp_path / "full", pytest.fail)
    assert not files_in(tmp_path / "full")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    prepared(knees, tmp_path / "full")
    knees.check(tmp_path / "full")


def test_full_size_volumes_need_about_what_is_announced():
    bytes_needed = PUBLISHED.bytes_per_slice * sum(archive.num_slices for archive in PUBLISHED.archives)
    assert 110e9 < bytes_needed < 120e9


def test_what_is_there_needs_no_room(knees, tmp_path, monkeypatch):
    prepared(knees, tmp_path / "full")
    (tmp_path / "full" / "train" / "index.json").unlink()
    min((tmp_path / "full" / "train").glob("*.h5")).unlink()
    for archive in knees.published.archives[1:]:
        (knees.folder / archive.name).unlink()
    left = tmp_path / "full" / "knee_singlecoil_train" / ".file1.h5.tmp"
    left.parent.mkdir()
    left.write_bytes(bytes(1_000))
    usage = shutil.disk_usage(tmp_path)
    stored = sum(path.stat().st_size for path in (tmp_path / "full" / "train").glob("*.h5"))
    needed = 15 * knees.published.bytes_per_slice - stored
    # What a killed run has left is removed before.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0 if left.exists() else needed))
    prepared(knees, tmp_path / "full")
    knees.check(tmp_path / "full")


def test_a_volume_that_was_damaged_on_the_way_is_named(knees, tmp_path):
    prepared(knees, tmp_path / "full")
    straight = contents_of(tmp_path / "full")
    path = min((tmp_path / "full" / "train").glob("*.h5"))
    with h5py.File(path, "r+") as file:
        del file["kspace"]
    (tmp_path / "full" / "train" / "index.json").unlink()
    with pytest.raises(DataError, match=f"{path} is damaged .it has no kspace.; delete it and run the same command"):
        prepared(knees, tmp_path / "full")
    path.unlink()
    prepared(knees, tmp_path / "full")
    assert contents_of(tmp_path / "full") == straight


def test_one_archive_that_fails_stops_the_other(knees, tmp_path, monkeypatch):
    """Rather than after an hour."""
    (knees.folder / VALIDATION.name).write_bytes(b"no xz")
    check_volume = unpacking.check_volume

    def slowly(*arguments):
        time.sleep(0.2)
        check_volume(*arguments)

    monkeypatch.setattr(unpacking, "check_volume", slowly)
    with pytest.raises(DataError, match=f"{VALIDATION.name} cannot be read"):
        prepared(knees, tmp_path / "full")
    assert len(list((tmp_path / "full").rglob("*.h5"))) <= 2


def test_names_decide_what_is_for_validation(knees, tmp_path):
    """Not the order of the archive."""
    knees.members = lambda archive, members=knees.members: random.Random(1).sample([*members(archive)], 7)
    knees.write()
    prepared(knees, tmp_path / "full")
    knees.check(tmp_path / "full")
    parts = replace(VALIDATION, parts={"test": Part(2, 5), "validation": Part(3, 7)}, obtain="")
    knees.published = replace(knees.published, archives=[parts])
    prepared(knees, tmp_path / "other")
    names = sorted([*knees.contents["validation"], *knees.contents["test"]])
    assert [volume.name for volume in StoredSlices(tmp_path / "other" / "test").volumes] == names[:2]
