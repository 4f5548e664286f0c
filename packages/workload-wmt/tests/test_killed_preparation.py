"""Preparation that is killed, interrupted, or for which there is no room: it goes on with what is finished."""

import errno

import pytest
from wmt_files import contents_of, files_in, job, write_tokenizer

from algoperf.data.tokenizer import TOKENIZER
from algoperf.testing.killed_preparation import failed_runs, interrupt_at, killed_runs, places
from algoperf_wmt import prepare
from algoperf_wmt.prepare import GIVEN_TOKENIZER, prepare_files

SETTINGS = {"algoperf_wmt.prepare:_PART": 25, "algoperf_wmt.prepare:_BATCH": 10}


def finished(folder):
    """What no later run makes again, by its place on disk."""
    return places(path for path in files_in(folder) if ".tmp" not in str(path))


def keeps(folder, before):
    now = finished(folder)
    return all(now[path] == inode for path, inode in before.items() if path in now)


@pytest.mark.parametrize("seed", range(2))
def test_a_preparation_that_is_killed_again_and_again_comes_to_the_same(wmt, straight, tmp_path, seed):
    folder, kills = tmp_path / "killed", 0
    runs = killed_runs(
        prepare_files,
        job(folder, wmt.folder),
        wmt.published,
        settings=SETTINGS,
        seed=seed,
        operations=(30, 120),
    )
    before = finished(folder)
    for _ in runs:
        assert keeps(folder, before)
        before = finished(folder)
        kills += 1
    assert keeps(folder, before)
    assert kills >= 4
    assert contents_of(folder) == straight


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_preparation_that_fails_anywhere_leaves_what_is_finished(wmt, straight, tmp_path, monkeypatch, error):
    folder, said = tmp_path / "failed", []
    before = finished(folder)
    for line in failed_runs(lambda: prepare_files(job(folder, wmt.folder), wmt.published), monkeypatch, 11, error):
        said.append(line)
        assert not list(folder.rglob(".*"))
        assert keeps(folder, before)
        before = finished(folder)
    assert keeps(folder, before)
    assert len(said) > 5
    if isinstance(error, OSError):
        assert all("cannot be written ([Errno 28] No space left on device); mend that" in line for line in said)
    assert contents_of(folder) == straight


def interrupted_at(wmt, folder, what):
    interrupt_at(lambda report: prepare_files(job(folder, wmt.folder, report), wmt.published), what)


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
