"""Folders of published files."""

import hashlib
import shutil

import pytest

from algoperf.data import DataError
from algoperf.data.archives import Archive
from algoperf.data.preparation import Preparation
from algoperf.data.sources import check_contents, check_folder, check_space, forget_checks

CONTENTS = {"one.tar": b"the first", "two.tar": b"the second"}
ARCHIVES = [
    Archive(
        name=name,
        obtain=f"fetch {name}",
        digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
        size=len(content) if name == "one.tar" else None,
    )
    for name, content in CONTENTS.items()
]


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def said():
    return []


@pytest.fixture
def job(tmp_path, said):
    folder = tmp_path / "data"
    folder.mkdir()
    return Preparation(folder=folder, report=said.append)


def test_a_folder_with_all_files_will_do(source):
    assert check_folder(source, ARCHIVES, "run this") == source


def test_without_a_folder_its_files_are_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"needs a folder with one\.tar, two\.tar; name it: `run this`\.$"):
        check_folder(None, ARCHIVES, "run this")
    for name in ("file", "nothing"):
        expected = rf"{name} is not a folder; name the one with one\.tar, two\.tar: `run this`\.$"
        with pytest.raises(DataError, match=expected):
            check_folder(tmp_path / name, ARCHIVES, "run this")


@pytest.mark.parametrize(
    ("others", "instead"),
    [
        ([], "which is empty"),
        (["x", "a"], "which holds a, x"),
        (list("hgfedcba"), "which holds a, b, c, d, e, ..."),
        (["x", "two.tar.gz"], r"but there is two\.tar\.gz"),
    ],
)
def test_a_missing_file_is_named_with_what_is_there(source, others, instead):
    (source / "two.tar").unlink()
    for name in others:
        (source / name).touch()
    archives = ARCHIVES if others else ARCHIVES[1:]
    if others:
        instead = instead.replace("which holds a, x", r"which holds a, one\.tar, x")
    else:
        (source / "one.tar").unlink()
    with pytest.raises(DataError, match=rf"There is no two\.tar in {source}, {instead}; fetch two\.tar\.$"):
        check_folder(source, archives, "run this")


def test_a_file_of_another_size_is_named(source):
    (source / "one.tar").write_bytes(b"short")
    with pytest.raises(DataError, match=r"one\.tar has 5 bytes and the published one\.tar has 9; fetch one\.tar\.$"):
        check_folder(source, ARCHIVES, "run this")


def test_room_is_needed(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3 * 2**29))
    check_space(tmp_path, 3 * 2**29)
    with pytest.raises(DataError, match=rf"takes 2\.0 GiB more in {tmp_path}, where 1\.5 GiB are free; make room or"):
        check_space(tmp_path, 2**31)


def test_contents_are_checked_once(source, job, said):
    check_contents(job, source, ARCHIVES)
    assert [line.split(" (")[0] for line in said] == [f"Checking the contents of {name}" for name in CONTENTS]
    check_contents(job, source, ARCHIVES)
    assert len(said) == 2
    # Written anew, even if with the same bytes.
    (source / "one.tar").unlink()
    (source / "one.tar").write_bytes(CONTENTS["one.tar"])
    check_contents(job, source, ARCHIVES)
    assert len(said) == 3
    forget_checks(job.folder)
    assert not list(job.folder.iterdir())


def test_an_altered_file_is_named_whenever_it_was_altered(source, job):
    check_contents(job, source, ARCHIVES)
    (source / "two.tar").write_bytes(b"the s3cond")
    for _ in range(2):
        with pytest.raises(DataError, match=r"two\.tar is not the published two\.tar .*; fetch two\.tar\.$"):
            check_contents(job, source, ARCHIVES)


def test_a_lost_memory_is_no_reason_to_fail(source, job, said):
    check_contents(job, source, ARCHIVES)
    (memory,) = job.folder.iterdir()
    memory.write_bytes(b"")
    check_contents(job, source, ARCHIVES)
    assert len(said) == 4
