"""Preparation of archives that are as they should be, and of archives that are not."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from speech_files import (
    NUM_UTTERANCES,
    VOCAB_SIZE,
    LibriSpeech,
    contents_of,
    empty_flac,
    encoded,
    files_in,
    job,
    noise,
    write_tokenizer,
)

from algoperf.data import DataError
from algoperf.data.tokenizer import TOKENIZER
from algoperf_librispeech import subsets
from algoperf_librispeech.prepare import GIVEN_TOKENIZER, prepare_files, prepare_full
from algoperf_librispeech.published import PUBLISHED
from algoperf_librispeech.spec import CONFORMER
from algoperf_librispeech.store import StoredUtterances, num_skipped, read_transcripts

ARCHIVES = [subset for some in PUBLISHED.subsets.values() for subset in some]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(subsets, "_PART", 5)


@pytest.fixture
def speech(tmp_path):
    return LibriSpeech(tmp_path / "downloads")


@pytest.fixture
def straight(speech, tmp_path):
    """What comes of the archives."""
    prepared(speech, tmp_path / "straight")
    return contents_of(tmp_path / "straight")


def prepared(speech, folder, report=print, **options):
    return prepare_files(job(folder, speech.folder, report, **options), speech.published)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_published_is_prepared(speech, tmp_path):
    files = prepared(speech, tmp_path / "full")
    speech.check(tmp_path / "full")
    assert set(files) == files_in(tmp_path / "full")
    # What is all there needs no source.
    assert prepare_files(job(tmp_path / "full", None), speech.published) == files


def test_the_facts_of_the_published_files_are_those_of_the_workload():
    assert PUBLISHED.split_sizes == {
        split: getattr(CONFORMER, f"num_{split}_examples") for split in ("train", "validation", "test")
    }
    options = CONFORMER.dataset.options
    assert (PUBLISHED.vocab_size, PUBLISHED.max_samples, PUBLISHED.max_tokens) == (
        options.vocab_size,
        options.max_samples,
        options.max_tokens,
    )
    numbers = {split: sum(s.num_utterances for s in some) for split, some in PUBLISHED.subsets.items()}
    assert numbers == {"train": 281_241, "validation": 5_567, "test": 2_620}
    assert sum(archive.size for archive in ARCHIVES) == 61_029_185_188
    assert len({archive.digest for archive in ARCHIVES}) == 6


def test_parts_and_threads_change_nothing_but_the_shards(speech, tmp_path, monkeypatch):
    found = []
    for part, processors in ((1, 1), (4, 8), (1_000, 2)):
        monkeypatch.setattr(subsets, "_PART", part)
        monkeypatch.setattr(subsets, "num_processors", lambda processors=processors: processors)
        folder = tmp_path / f"parts of {part}"
        prepared(speech, folder)
        stored = StoredUtterances.load(folder / "train")
        audio = [samples.tobytes() for samples in stored.audio(np.arange(len(stored)))]
        found.append((audio, read_transcripts(folder / "train"), (folder / TOKENIZER).read_bytes()))
    assert found[0] == found[1] == found[2]
    assert len(list((tmp_path / "parts of 1000" / "train").glob("*.arrayrecord"))) == 3


def test_each_line_that_is_said_is_short_and_new(speech, tmp_path):
    said = []
    prepared(speech, tmp_path / "full", said.append)
    assert len(said) == len(set(said))
    assert all("\n" not in line and len(line) < 300 for line in said)
    hundred = [line for line in said if line.startswith("train-clean-100: ")]
    assert [line.split(" utt")[0] for line in hundred] == [
        f"train-clean-100: {done} of 23" for done in (5, 10, 15, 20, 23)
    ]
    assert hundred[0].endswith(" utterances are done, 0.0 hours of audio are stored.")
    left_out = "4 are left out for more than 60 characters or 2,000 samples."
    assert f"train: 41 utterances, 0.0 hours of audio; {left_out}" in said
    digest = sha256(tmp_path / "full" / TOKENIZER)
    assert any(line.endswith(f"is trained on 23 transcripts of train-clean-100; SHA-256 {digest}.") for line in said)


def test_the_tokenizer_learns_from_one_subset_in_the_order_of_ids(speech, straight, tmp_path):
    for key in speech.texts:
        if not key.startswith("train-clean-100/"):
            speech.texts[key] = "A"
    speech.members = lambda subset, members=speech.members: reversed(list(members(subset)))
    speech.write()
    prepared(speech, tmp_path / "full")
    assert (tmp_path / "full" / TOKENIZER).read_bytes() == straight[Path(TOKENIZER)]
    # And from no more than so many characters.
    texts = [text for key, text in sorted(speech.texts.items()) if key.startswith("train-clean-100/")]
    speech.published = replace(speech.published, tokenizer_characters=sum(map(len, texts[:20])))
    prepared(speech, tmp_path / "less")
    write_tokenizer(tmp_path / "expected", texts=texts[:20])
    assert (tmp_path / "less" / TOKENIZER).read_bytes() == (tmp_path / "expected").read_bytes()


def test_a_tokenizer_that_lies_there_is_used(speech, straight, tmp_path):
    given = speech.folder / GIVEN_TOKENIZER
    write_tokenizer(given)
    said = []
    prepared(speech, tmp_path / "full", said.append)
    assert (tmp_path / "full" / TOKENIZER).read_bytes() == given.read_bytes()
    speech.check(tmp_path / "full")
    assert contents_of(tmp_path / "full") != straight
    assert f"The tokenizer, {tmp_path / 'full' / TOKENIZER}, is a copy of {given}; SHA-256 {sha256(given)}." in said


@pytest.mark.parametrize("vocab_size", [None, VOCAB_SIZE - 1])
def test_a_wrong_tokenizer_is_refused_before_anything_is_read(speech, tmp_path, vocab_size):
    given = speech.folder / GIVEN_TOKENIZER
    write_tokenizer(given, vocab_size) if vocab_size else given.write_bytes(b"no model")
    with pytest.raises(DataError, match=f"{GIVEN_TOKENIZER} is (no|a tokenizer that does not match).* or remove it"):
        prepared(speech, tmp_path / "full", pytest.fail)
    assert not files_in(tmp_path / "full")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tokens": 9}, r"test-clean/.* has \d+ tokens, its end included, and may have 9"),
        ({}, r"dev-other/.*-0002 has characters that the tokenizer does not know: 'X' 'Y'"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_named_and_forgotten(speech, tmp_path, changes, message):
    write_tokenizer(speech.folder / GIVEN_TOKENIZER)
    speech.texts[speech.key("dev-other", 2)] = "AXLE YARD"
    # Which the given one does not know.
    speech.texts[speech.key("train-clean-100", 0)] = "X Y"
    speech.write()
    with pytest.raises(DataError, match=f"The transcript of {message}; if it was given, use another one or none"):
        prepare_files(job(tmp_path / "full", speech.folder), replace(speech.published, **changes))
    assert not (tmp_path / "full" / TOKENIZER).exists()
    # None, and what is right already is kept.
    (speech.folder / GIVEN_TOKENIZER).unlink()
    said = []
    prepared(speech, tmp_path / "full", said.append)
    speech.check(tmp_path / "full")
    assert said[0].startswith("Training")


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.name)
def test_a_missing_archive_is_named_with_the_way_to_it(speech, tmp_path, archive):
    (speech.folder / archive.name).unlink()
    url = f"http://www.openslr.org/resources/12/{archive.name}"
    with pytest.raises(
        DataError, match=f"There is no {archive.name} in .*downloads, which holds .*; download {url} into"
    ):
        prepared(speech, tmp_path / "full", pytest.fail)


@pytest.mark.parametrize(("source", "message"), [(None, "needs a folder with"), ("file", "file is not a folder")])
def test_without_a_folder_all_archives_are_named(tmp_path, source, message):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=f"{message}.*--scale full --source FOLDER") as error:
        prepare_full(job(tmp_path / "full", source and tmp_path / source))
    assert all(archive.name in str(error.value) for archive in ARCHIVES)


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.name)
def test_truncated_and_altered_archives_are_refused_before_anything_is_read(speech, tmp_path, archive):
    path = speech.folder / archive.name
    content = path.read_bytes()
    altered = bytearray(content)
    altered[len(content) // 2] ^= 1
    for damaged, message in ((content[:-1], "bytes and the published"), (altered, "is not the published")):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=f"{archive.name}.* {message} {archive.name} .*download http"):
            prepared(speech, tmp_path / "full")
        assert {path.name for path in files_in(tmp_path / "full")} <= {".checked.json"}


@pytest.mark.parametrize("subset", ["train-clean-360", "train-other-500"])
def test_what_does_not_fit_together_is_named(speech, tmp_path, subset):
    # The last one of a full part, too: of an archive, nothing remains unread.
    key = f"{speech.key(subset, 0).rpartition('-')[0]}-9999"
    speech.flacs[key] = encoded(noise(100))
    speech.write()
    with pytest.raises(DataError, match=rf"-9999\.flac has no transcript in .*{subset}\.tar\.gz; download"):
        prepared(speech, tmp_path / "full")
    assert not (tmp_path / "full" / "train" / "utterances").exists()


@pytest.mark.parametrize("split", PUBLISHED.subsets)
def test_a_split_of_another_size_is_refused(speech, tmp_path, split):
    sizes = speech.published.split_sizes
    speech.published = replace(speech.published, split_sizes=sizes | {split: sizes[split] + 1})
    expected = f"{split} split came out with {sizes[split]} utterances instead of {sizes[split] + 1}, beside . that are"
    with pytest.raises(DataError, match=expected):
        prepared(speech, tmp_path / "full")


@pytest.mark.parametrize("change", [-1, 1])
def test_an_archive_of_another_size_is_refused(speech, tmp_path, change):
    number = NUM_UTTERANCES["dev-other"]
    some = [
        replace(subset, num_utterances=number + change) if subset.label == "dev-other" else subset
        for subset in speech.published.subsets["validation"]
    ]
    speech.published = replace(speech.published, subsets=speech.published.subsets | {"validation": some})
    with pytest.raises(DataError, match=f"holds {number} utterances and should hold {number + change}; download"):
        prepared(speech, tmp_path / "full")


DAMAGED = {
    "truncated": (encoded(noise(900))[:-100], "cannot be decoded: .*"),
    "rate": (encoded(noise(900), 8_000), "is FLAC PCM_16 of 1 channel at 8000 Hz and not .* 16000 Hz"),
    "stereo": (encoded(noise(900).reshape(-1, 2)), "is FLAC PCM_16 of 2 channels .*"),
    "empty": (empty_flac(), "announces no samples"),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize(
    ("subset", "remedy"),
    [
        ("train-other-500", "pass --skip-damaged to leave out such utterances"),
        ("dev-clean", "evaluated utterances are never left out; check .* download http.*"),
    ],
)
def test_damaged_audio_is_named(speech, tmp_path, name, subset, remedy):
    key = speech.key(subset, 3)
    speech.flacs[key], reason = DAMAGED[name]
    speech.write()
    with pytest.raises(DataError, match=rf"{key}\.flac is damaged: it {reason}; {remedy}"):
        prepared(speech, tmp_path / "full", skip_damaged=subset == "dev-clean")


def test_damaged_training_audio_may_be_left_out(speech, tmp_path):
    damaged = [speech.key("train-other-500", 3), speech.key("train-clean-100", 0)]
    for key, (flac, _) in zip(damaged, DAMAGED.values()):
        speech.flacs[key] = flac
    # Too long and damaged: nothing is left out that would have been kept.
    longer = speech.key("train-clean-100", 4)
    speech.flacs[longer] = speech.flacs[longer][:-100]
    speech.write()
    said = []
    prepared(speech, tmp_path / "full", said.append, skip_damaged=True)
    speech.check(tmp_path / "full", without=damaged)
    assert num_skipped(tmp_path / "full") == 2
    names = tmp_path / "full" / "train" / "utterances" / "skipped.txt"
    assert sorted(line.split(" (it ")[0] for line in names.read_text().splitlines()) == sorted(damaged)
    assert f"Damaged utterances that were left out: 2, named in {names}." in said


def test_a_disk_that_is_too_small_is_noticed_first(speech, straight, tmp_path, monkeypatch):
    needed = sum(archive.size for some in speech.published.subsets.values() for archive in some)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(DataError, match=r"takes 0\.0 GiB more in .*full, where .* make room or choose another"):
        prepared(speech, tmp_path / "full", pytest.fail)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    prepared(speech, tmp_path / "full")
    assert contents_of(tmp_path / "full") == straight
