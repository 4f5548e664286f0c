"""Preparation that is killed, interrupted, or for which there is no room: it goes on with what is finished."""

import errno

import pytest
from corpora import SPLITS, contents_of, files_in, job

from algoperf.testing.killed_preparation import failed_runs, interrupt_at, killed_runs, places
from algoperf_lm import gpt2
from algoperf_lm.prepare import prepare_files


def finished(folder):
    """What no later run makes again, by its place on disk."""
    return places(path for path in files_in(folder) if ".tmp" not in str(path) and path.parent != folder)


def keeps(folder, before):
    now = finished(folder)
    return all(now[path] == inode for path, inode in before.items() if path in now)


def contents(folder):
    return {str(path): content for path, content in contents_of(folder).items()}


@pytest.mark.parametrize("seed", range(2))
def test_a_preparation_that_is_killed_again_and_again_comes_to_the_same(corpus, straight, tmp_path, seed):
    folder, kills = tmp_path / "killed", 0
    runs = killed_runs(
        prepare_files,
        job(folder, corpus.folder),
        SPLITS,
        settings={"algoperf_lm.prepare:_PART": 12, "algoperf_lm.gpt2:MERGES": gpt2.MERGES},
        seed=seed,
        operations=(40, 120),
    )
    before = finished(folder)
    for _ in runs:
        assert keeps(folder, before)
        before = finished(folder)
        kills += 1
    assert keeps(folder, before)
    assert kills >= 3
    assert contents(folder) == straight


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_preparation_that_fails_anywhere_leaves_what_is_finished(corpus, straight, tmp_path, monkeypatch, error):
    folder, said = tmp_path / "failed", []
    before = finished(folder)
    for line in failed_runs(lambda: prepare_files(job(folder, corpus.folder), SPLITS), monkeypatch, 17, error):
        said.append(line)
        assert not list(folder.rglob(".*"))
        assert keeps(folder, before)
        before = finished(folder)
    assert keeps(folder, before)
    assert len(said) >= 3
    if isinstance(error, OSError):
        assert all("cannot be written ([Errno 28] No space left on device); mend that" in line for line in said)
    assert contents(folder) == straight


@pytest.mark.parametrize("moment", ["70 of 135", "Writing the 60"])
def test_an_interrupted_preparation_reads_no_text_twice(corpus, straight, tmp_path, moment):
    folder, said = tmp_path / "interrupted", []
    interrupt_at(lambda report: prepare_files(job(folder, corpus.folder, report), SPLITS), moment)
    done = len(list((folder / "work").glob("*/*")))
    before = finished(folder)
    prepare_files(job(folder, corpus.folder, said.append), SPLITS)
    assert done >= 5
    assert len([line for line in said if "are tokens" in line]) == 10 - done
    assert before
    assert contents(folder) == straight


def test_another_shard_of_the_same_name_is_read_anew(corpus, straight, tmp_path):
    folder = tmp_path / "changed"
    texts = corpus.texts["001_00000.parquet"]
    corpus.texts["001_00000.parquet"] = ["another text", *texts]
    corpus.write()
    interrupt_at(lambda report: prepare_files(job(folder, corpus.folder, report), SPLITS), "Writing the 60")
    corpus.texts["001_00000.parquet"] = texts
    corpus.write()
    prepare_files(job(folder, corpus.folder), SPLITS)
    assert contents(folder) == straight
