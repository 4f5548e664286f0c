"""Preparation that is killed, interrupted, or for which there is no room: it goes on with what is finished."""

import errno
import os
import pickle
import random
import signal
import subprocess
import sys

import pytest
from wmt_files import contents_of, files_in, job, write_tokenizer

from algoperf.data import DataError
from algoperf.data.tokenizer import TOKENIZER
from algoperf_wmt import prepare
from algoperf_wmt.prepare import GIVEN_TOKENIZER, prepare_files

# Dies before it opens, renames or removes something in the folder for the n-th time.
_KILLED = """
import os, pickle, signal, sys
from pathlib import Path
from algoperf.data.preparation import Preparation
from algoperf_wmt import prepare

folder, source, published, left = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]).read_bytes(), int(sys.argv[4])
job = Preparation(folder=folder, source=source, report=print)
prepare._PART, prepare._BATCH = 25, 10

events = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}

def count(event, arguments):
    global left
    if event in events and str(arguments[0]).startswith(str(folder)):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
prepare.prepare_files(job, pickle.loads(published))
"""


def finished(folder):
    """What no later run makes again, by its place on disk."""
    return {path: path.stat().st_ino for path in files_in(folder) if ".tmp" not in str(path)}


def keeps(folder, before):
    now = finished(folder)
    return all(now[path] == inode for path, inode in before.items() if path in now)


@pytest.mark.parametrize("seed", range(2))
def test_a_preparation_that_is_killed_again_and_again_comes_to_the_same(wmt, straight, tmp_path, seed):
    description = tmp_path / "published.pickle"
    description.write_bytes(pickle.dumps(wmt.published))
    folder, rng, kills = tmp_path / "killed", random.Random(seed), 0
    folder.mkdir()
    command = [sys.executable, "-c", _KILLED, str(folder), str(wmt.folder), str(description)]
    while True:
        before = finished(folder)
        result = subprocess.run([*command, str(rng.randint(30, 120))], capture_output=True, text=True, check=False)
        assert keeps(folder, before)
        if result.returncode != -signal.SIGKILL:
            break
        kills += 1
    assert result.returncode == 0, result.stderr
    assert kills >= 4
    assert contents_of(folder) == straight


def failing_at(monkeypatch, number, error):
    """Makes the `number`-th time that something is put on disk fail."""
    calls, fsync = 0, os.fsync

    def call(descriptor):
        nonlocal calls
        calls += 1
        if calls == number:
            raise error
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", call)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_preparation_that_fails_anywhere_leaves_what_is_finished(wmt, straight, tmp_path, monkeypatch, error):
    folder, said = tmp_path / "failed", []
    while True:
        before = finished(folder)
        with monkeypatch.context() as patch:
            # The more is done, the later the next one.
            failing_at(patch, 11, error)
            try:
                prepare_files(job(folder, wmt.folder), wmt.published)
                break
            except (KeyboardInterrupt, DataError) as failure:
                said.append(str(failure))
        assert not list(folder.rglob(".*"))
        assert keeps(folder, before)
    assert len(said) > 5
    if isinstance(error, OSError):
        assert all("cannot be written ([Errno 28] No space left on device); mend that" in line for line in said)
    assert contents_of(folder) == straight


def interrupted_at(wmt, folder, what):
    """Prepares until a line is reported that begins like this."""

    def report(line):
        if line.startswith(what):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_files(job(folder, wmt.folder, report), wmt.published)


@pytest.mark.parametrize("moment", ["test: 14 of 14", "train: 65 of 114", "Writing the train"])
def test_what_is_extracted_needs_no_archive(wmt, straight, tmp_path, moment):
    interrupted_at(wmt, tmp_path / "full", moment)
    said = []
    prepare_files(job(tmp_path / "full", None, said.append), wmt.published)
    assert contents_of(tmp_path / "full") == straight
    assert not [line for line in said if line.startswith(("Checking", "Extracting", "Reading", "Training"))]


@pytest.mark.parametrize("moment", ["The tokenizer", "test: 14 of 14", "train: 65 of 114", "Writing the train"])
def test_tokens_of_two_tokenizers_are_never_mixed(wmt, tmp_path, moment):
    interrupted_at(wmt, tmp_path / "full", moment)
    write_tokenizer(wmt.folder / GIVEN_TOKENIZER)
    prepare_files(job(tmp_path / "full", wmt.folder), wmt.published)
    prepare_files(job(tmp_path / "anew", wmt.folder), wmt.published)
    assert contents_of(tmp_path / "full") == contents_of(tmp_path / "anew")


def test_all_that_was_made_with_another_tokenizer_is_made_again(wmt, straight, tmp_path):
    prepare_files(job(tmp_path / "full", wmt.folder), wmt.published)
    write_tokenizer(wmt.folder / GIVEN_TOKENIZER)
    prepare_files(job(tmp_path / "full", wmt.folder), wmt.published)
    wmt.check(tmp_path / "full")
    assert contents_of(tmp_path / "full") != straight
    # And without a tokenizer nobody knows of which one the tokens are.
    (wmt.folder / GIVEN_TOKENIZER).unlink()
    (tmp_path / "full" / TOKENIZER).unlink()
    prepare_files(job(tmp_path / "full", wmt.folder), wmt.published)
    assert contents_of(tmp_path / "full") == straight


@pytest.mark.parametrize("moment", ["Discarding", "Reading", "The tokenizer", "test: 14 of 14", "train: 65 of 114"])
def test_nor_are_they_if_that_is_interrupted(wmt, tmp_path, moment):
    prepare_files(job(tmp_path / "full", wmt.folder), wmt.published)
    write_tokenizer(wmt.folder / GIVEN_TOKENIZER)
    interrupted_at(wmt, tmp_path / "full", moment)
    prepare_files(job(tmp_path / "full", wmt.folder), wmt.published)
    prepare_files(job(tmp_path / "anew", wmt.folder), wmt.published)
    assert contents_of(tmp_path / "full") == contents_of(tmp_path / "anew")


def test_a_run_goes_on_with_the_tokenizer_that_it_began_with(wmt, tmp_path):
    write_tokenizer(wmt.folder / GIVEN_TOKENIZER)
    interrupted_at(wmt, tmp_path / "full", "train: 65 of 114")
    content = (wmt.folder / GIVEN_TOKENIZER).read_bytes()
    (wmt.folder / GIVEN_TOKENIZER).unlink()
    said = []
    prepare_files(job(tmp_path / "full", wmt.folder, said.append), wmt.published)
    assert (tmp_path / "full" / TOKENIZER).read_bytes() == content
    assert any("is that of an earlier run; SHA-256" in line for line in said)


def test_a_split_that_lost_a_file_is_made_again(wmt, straight, tmp_path):
    prepare_files(job(tmp_path / "full", wmt.folder), wmt.published)
    (tmp_path / "full" / "train" / "ends.npy").unlink()
    kept = finished(tmp_path / "full" / "validation")
    prepare_files(job(tmp_path / "full", wmt.folder), wmt.published)
    assert contents_of(tmp_path / "full") == straight
    assert finished(tmp_path / "full" / "validation") == kept


def test_a_part_is_little(wmt, monkeypatch):
    """Of as many sentences as take a few seconds."""
    assert prepare._PART == 25
    monkeypatch.undo()
    assert 2 * prepare._PART <= 500_000
    assert prepare._PART % prepare._BATCH == 0
