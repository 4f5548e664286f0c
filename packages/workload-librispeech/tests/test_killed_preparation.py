"""Preparation that is killed, interrupted, or for which there is no room: it goes on with what is finished."""

import errno
import time

import pytest
from speech_files import LibriSpeech, contents_of, job, write_tokenizer

from algoperf.data import DataError
from algoperf.data.tokenizer import TOKENIZER
from algoperf.testing.killed_preparation import failed_runs, interrupt_at, killed_runs, places
from algoperf_librispeech import subsets
from algoperf_librispeech.prepare import GIVEN_TOKENIZER, prepare_files
from algoperf_librispeech.published import PUBLISHED
from algoperf_librispeech.store import read_part


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(subsets, "_PART", 5)


@pytest.fixture
def speech(tmp_path):
    return LibriSpeech(tmp_path / "downloads")


@pytest.fixture
def straight(speech, tmp_path):
    """What comes of the archives."""
    return prepared(speech, tmp_path / "straight")


def prepared(speech, folder):
    prepare_files(job(folder, speech.folder), speech.published)
    return contents_of(folder)


def parts(folder):
    """The finished parts, by their place on disk."""
    return places(folder.glob("*/[!.]*.arrayrecord"))


def finished(folder):
    """What no later run makes again, by its place on disk."""
    others = (path for name in ("utterances", "tokens") for path in folder.glob(f"*/{name}/*"))
    return parts(folder) | places(others)


def keeps(folder, before):
    now = finished(folder)
    return all(now.get(path) == inode for path, inode in before.items())


@pytest.mark.parametrize("seed", range(2))
def test_a_preparation_that_is_killed_again_and_again_comes_to_the_same(speech, straight, tmp_path, seed):
    folder, kills = tmp_path / "killed", 0
    runs = killed_runs(
        prepare_files,
        job(folder, speech.folder),
        speech.published,
        settings={"algoperf_librispeech.subsets:_PART": 5},
        seed=seed,
        operations=(30, 110),
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
def test_a_preparation_that_fails_anywhere_leaves_what_is_finished(speech, straight, tmp_path, monkeypatch, error):
    folder, said = tmp_path / "failed", []
    before = finished(folder)
    for line in failed_runs(lambda: prepared(speech, folder), monkeypatch, 11, error):
        said.append(line)
        assert not list(folder.rglob(".*.tmp"))
        assert keeps(folder, before)
        before = finished(folder)
    assert keeps(folder, before)
    assert len(said) > 5
    if isinstance(error, OSError):
        assert all("cannot be written ([Errno 28] No space left on device); mend that" in line for line in said)
    assert contents_of(folder) == straight


def interrupted_at(speech, folder, what):
    interrupt_at(lambda report: prepare_files(job(folder, speech.folder, report), speech.published), what)


@pytest.mark.parametrize("moment", ["train-clean-100: 10 of", "train-other-500: 10 of", "test-clean: 5 of"])
def test_finished_parts_are_neither_decoded_nor_written_again(speech, straight, tmp_path, monkeypatch, moment):
    folder = tmp_path / "cut"
    interrupted_at(speech, folder, moment)
    before = finished(folder)
    done = sum(len(read_part(path.parent, path.stem).num_samples) for path in parts(folder))
    assert done
    lengths, decode = [], subsets.decode
    monkeypatch.setattr(subsets, "decode", lambda flac: lengths.append(1) or decode(flac))
    assert prepared(speech, folder) == straight
    assert keeps(folder, before)
    assert len(lengths) == sum(len(speech.kept(split)) for split in PUBLISHED.subsets) - done


@pytest.mark.parametrize(
    "moment", ["test: 5 utterances", "Training", "The tokenizer", "Turning the transcripts of the tr"]
)
def test_what_is_stored_needs_no_archive(speech, straight, tmp_path, moment):
    interrupted_at(speech, tmp_path / "cut", moment)
    said = []
    prepare_files(job(tmp_path / "cut", None, said.append), speech.published)
    assert contents_of(tmp_path / "cut") == straight
    assert not [line for line in said if line.startswith(("Checking", "train-", "dev-", "test-"))]


def test_archives_that_were_checked_are_not_checked_again(speech, tmp_path):
    interrupted_at(speech, tmp_path / "cut", "train-clean-100: 10 of")
    said = []
    prepare_files(job(tmp_path / "cut", speech.folder, said.append), speech.published)
    assert not [line for line in said if line.startswith("Checking")]


def test_one_archive_that_fails_stops_the_others(speech, tmp_path, monkeypatch):
    """Rather than after hours."""
    speech.flacs[speech.key("test-clean", 0)] = b"no FLAC"
    speech.write()
    monkeypatch.setattr(subsets, "_AHEAD_PER_PROCESSOR", 0)
    decode = subsets.decode

    def slowly(flac):
        time.sleep(0.05)
        return decode(flac)

    monkeypatch.setattr(subsets, "decode", slowly)
    with pytest.raises(DataError, match=r"test-clean/.*-0000\.flac is damaged"):
        prepare_files(job(tmp_path / "cut", speech.folder), speech.published)
    assert len(parts(tmp_path / "cut")) <= 3


TOKENIZER_MOMENTS = ["The tokenizer", "Turning the transcripts of the te", "Turning the transcripts of the tr"]


@pytest.mark.parametrize("moment", TOKENIZER_MOMENTS)
def test_tokens_of_two_tokenizers_are_never_mixed(speech, tmp_path, moment):
    interrupted_at(speech, tmp_path / "cut", moment)
    write_tokenizer(speech.folder / GIVEN_TOKENIZER)
    assert prepared(speech, tmp_path / "cut") == prepared(speech, tmp_path / "anew")


def test_all_that_was_made_with_another_tokenizer_is_made_again(speech, straight, tmp_path):
    prepared(speech, tmp_path / "full")
    stored = parts(tmp_path / "full")
    write_tokenizer(speech.folder / GIVEN_TOKENIZER)
    assert prepared(speech, tmp_path / "full") != straight
    speech.check(tmp_path / "full")
    # And without a tokenizer nobody knows of which one the tokens are.
    (speech.folder / GIVEN_TOKENIZER).unlink()
    (tmp_path / "full" / TOKENIZER).unlink()
    assert prepared(speech, tmp_path / "full") == straight
    # Audio has nothing to do with it.
    assert parts(tmp_path / "full") == stored


@pytest.mark.parametrize("moment", ["Discarding", *TOKENIZER_MOMENTS])
def test_nor_are_they_if_that_is_interrupted(speech, tmp_path, moment):
    prepared(speech, tmp_path / "full")
    write_tokenizer(speech.folder / GIVEN_TOKENIZER)
    interrupted_at(speech, tmp_path / "full", moment)
    assert prepared(speech, tmp_path / "full") == prepared(speech, tmp_path / "anew")


def test_a_run_goes_on_with_the_tokenizer_that_it_began_with(speech, tmp_path):
    write_tokenizer(speech.folder / GIVEN_TOKENIZER)
    interrupted_at(speech, tmp_path / "cut", TOKENIZER_MOMENTS[-1])
    content = (speech.folder / GIVEN_TOKENIZER).read_bytes()
    (speech.folder / GIVEN_TOKENIZER).unlink()
    said = []
    prepare_files(job(tmp_path / "cut", speech.folder, said.append), speech.published)
    assert (tmp_path / "cut" / TOKENIZER).read_bytes() == content
    assert any("is that of an earlier run; SHA-256" in line for line in said)


def test_tokens_that_lost_a_file_are_made_again(speech, straight, tmp_path):
    prepared(speech, tmp_path / "full")
    (tmp_path / "full" / "train" / "tokens" / "ends.npy").unlink()
    assert prepared(speech, tmp_path / "full") == straight
