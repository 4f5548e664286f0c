"""Utterances on disk."""

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from speech_files import decoded, empty_flac, encoded, files_in, noise

from algoperf.data import DataError
from algoperf.data.record_shards import SUFFIX, write_shard
from algoperf.data.tokenizer import TOKENIZER, Tokenizer, train_tokenizer
from algoperf_librispeech.flac import DamagedAudio, announced_samples, decode
from algoperf_librispeech.spec import SAMPLE_RATE
from algoperf_librispeech.store import (
    SPLITS,
    Part,
    StoredUtterances,
    Utterance,
    discard_tokens,
    finish_audio,
    has_audio,
    has_tokens,
    num_skipped,
    prepared_files,
    read_part,
    read_transcripts,
    write_part,
    write_split,
    write_tokens,
)

LENGTHS = [500, 1, 4_097, 900, 2_000, 33]
TEXTS = ["AB A", "B", "ABBA BAB A", "BB", "A A A", "AB\u2028B"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Whose tokens are characters."""
    path = tmp_path_factory.mktemp("tokenizer") / TOKENIZER
    train_tokenizer(["AB A"] * 9, path, 6, "char")
    return Tokenizer.load(path, 6)


def utterances():
    for number, (length, text) in enumerate(zip(LENGTHS, TEXTS, strict=True)):
        yield Utterance(f"some/{number}", encoded(noise(length, number)), length, text)


@pytest.fixture
def folder(tmp_path, tokenizer):
    """Of a split in two parts; the second one is written first."""
    folder, (*first, a, b) = tmp_path / "train", utterances()
    write_part(folder, "part-0001", [a, b], Part())
    write_part(
        folder, "part-0000", first, Part(dropped=["some/x A LONG ONE"], skipped=["some/y (why)", "some/z (why)"])
    )
    finish_audio(folder)
    write_tokens(folder, tokenizer, 12)
    return folder


def check(stored, tokenizer):
    assert len(stored) == len(LENGTHS)
    assert (stored.num_samples.dtype, stored.num_tokens.dtype) == (np.int32, np.int32)
    assert stored.num_samples.tolist() == LENGTHS
    numbers = [3, 0, 5, 5]
    for number, samples in zip(numbers, stored.audio(np.array(numbers)), strict=True):
        assert samples.dtype == np.int16
        assert np.array_equal(samples, noise(LENGTHS[number], number))
    expected = tokenizer.encode(TEXTS)
    assert stored.num_tokens.tolist() == [len(tokens) for tokens in expected]
    assert stored.tokens(np.array(numbers)).tolist() == [token for number in numbers for token in expected[number]]


def test_what_is_written_is_read(folder, tokenizer):
    check(StoredUtterances.load(folder), tokenizer)
    assert read_transcripts(folder) == [(f"some/{number}", text) for number, text in enumerate(TEXTS)]
    assert read_transcripts(folder, with_dropped=True)[6:] == [("some/x", "A LONG ONE")]
    assert num_skipped(folder.parent) == 2


def test_a_split_is_written_at_once_and_once(tmp_path, tokenizer):
    write_split(tmp_path / "train", utterances(), tokenizer, 12)
    before = {path: path.stat().st_mtime_ns for path in files_in(tmp_path)}
    write_split(tmp_path / "train", iter([]), tokenizer, 12)
    assert {path: path.stat().st_mtime_ns for path in files_in(tmp_path)} == before
    check(StoredUtterances.load(tmp_path / "train"), tokenizer)
    assert num_skipped(tmp_path) == 0


def test_all_files_are_named(tmp_path, tokenizer):
    for split in SPLITS:
        write_split(tmp_path / split, utterances(), tokenizer, 12)
    (tmp_path / TOKENIZER).touch()
    files = prepared_files(tmp_path)
    assert len(files) == len(set(files))
    assert set(files) == files_in(tmp_path)


def test_audio_is_stored_as_it_was_published(folder):
    content = b"".join(path.read_bytes() for path in sorted(folder.glob(f"*{SUFFIX}")))
    assert all(utterance.flac in content for utterance in utterances() if len(utterance.flac) < 60_000)


def test_threads_and_other_processes_share_one(folder):
    stored, wrong = StoredUtterances.load(folder), []

    def read(seed):
        numbers = np.random.default_rng(seed).integers(0, len(LENGTHS), 200)
        for number, samples in zip(numbers, stored.audio(numbers)):
            if not np.array_equal(samples, noise(LENGTHS[number], number)):
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    copy = pickle.loads(pickle.dumps(stored))
    assert np.array_equal(copy.audio(np.array([2]))[0], noise(LENGTHS[2], 2))


def replaced(folder, flac):
    """Puts another file in the place of the fourth utterance, the last one of its shard."""
    flacs = [utterance.flac for utterance in utterances()]
    write_shard(folder / f"part-0000{SUFFIX}", [*flacs[:3], flac])
    return StoredUtterances.load(folder)


WHOLE = encoded(noise(900, 3))
DAMAGED = {
    "truncated": (WHOLE[:-100], "cannot be decoded: .*lost sync"),
    "too short": (WHOLE[:22] + (901).to_bytes(4, "big") + WHOLE[26:], "cannot be decoded: .*"),
    "altered": (WHOLE[:900] + bytes([WHOLE[900] ^ 1]) + WHOLE[901:], "cannot be decoded: .*lost sync"),
    "nothing": (b"", "cannot be decoded: .*Format not recognised"),
    "no audio": (b"<html>not found</html>", "cannot be decoded: .*Format not recognised"),
    "no samples": (empty_flac(), "announces no samples"),
    "rate": (encoded(noise(900), 8_000), "is FLAC PCM_16 of 1 channel at 8000 Hz and not .* 1 channel at 16000 Hz"),
    "stereo": (encoded(noise(1_800).reshape(-1, 2)), "is FLAC PCM_16 of 2 channels at 16000 Hz and not"),
    "24 bits": (encoded(noise(900), subtype="PCM_24"), "is FLAC PCM_24 of 1 channel"),
    "length": (encoded(noise(899)), "has 899 samples instead of 900"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_audio_is_named(folder, name):
    stored = replaced(folder, DAMAGED[name][0])
    stored.audio(np.array([0, 1, 2, 4, 5]))
    expected = rf"audio of some/3, record 3 of .*part-0000\.arrayrecord, is damaged \(it {DAMAGED[name][1]}.*\); delete"
    with pytest.raises(DataError, match=expected):
        stored.audio(np.array([1, 3]))


@pytest.mark.parametrize("name", sorted(DAMAGED.keys() - {"length"}))
def test_what_is_damaged_is_not_decoded(name):
    with pytest.raises(DamagedAudio, match=DAMAGED[name][1]):
        decode(DAMAGED[name][0])


def test_a_file_says_how_long_it_is():
    assert announced_samples(encoded(noise(123))) == announced_samples(encoded(noise(123))[:-9]) == 123
    assert decoded(encoded(noise(123))).tolist() == decode(encoded(noise(123))).tolist() == noise(123).tolist()
    assert SAMPLE_RATE == 16_000


@pytest.mark.parametrize("lost", ["utterances/samples.npy", "utterances/counts.npy", "utterances", "tokens"])
def test_an_unfinished_split_is_not_opened(folder, lost):
    (folder / lost).rename(folder / "elsewhere")
    with pytest.raises(
        DataError,
        match=r"train.* holds no (finished split|sentences of tokens) .*delete the folder of the prepared data",
    ):
        StoredUtterances.load(folder)


@pytest.mark.parametrize("change", ["shard", "samples.npy", "counts.npy"])
def test_files_of_different_splits_are_refused(folder, change):
    if change == "shard":
        (folder / f"part-0001{SUFFIX}").unlink()
    else:
        path = folder / "utterances" / change
        np.save(path, np.append(np.load(path), 1)[1:] if change == "counts.npy" else np.load(path)[1:])
    with pytest.raises(DataError, match="not those it was written with; delete the folder of the prepared"):
        StoredUtterances.load(folder)


def test_a_part_is_there_when_both_its_files_are(tmp_path):
    assert read_part(tmp_path, "a") is None
    part = Part(skipped=["x (why)"])
    write_part(tmp_path, "a", utterances(), part)
    assert part.num_samples == LENGTHS
    assert read_part(tmp_path, "a") == part
    (tmp_path / f"a{SUFFIX}").rename(tmp_path / "b")
    assert read_part(tmp_path, "a") is None


def test_tokens_are_of_one_tokenizer(folder, tokenizer, tmp_path):
    train_tokenizer(["BA B"] * 90, tmp_path / "other", 6, "char")
    before = np.load(folder / "tokens" / "tokens.npy")
    discard_tokens(folder)
    assert has_audio(folder)
    assert not has_tokens(folder)
    write_tokens(folder, Tokenizer.load(tmp_path / "other", 6), 12)
    assert has_tokens(folder)
    assert np.load(folder / "tokens" / "tokens.npy").tolist() != before.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("AB XAYX", r"characters that the tokenizer does not know: 'X' 'Y'; if it was given, use another"),
        ("A" * 11, r"13 tokens, its end included, and may have 12; if it was given, use another"),
    ],
)
def test_transcripts_that_cannot_be_tokens_are_named(tmp_path, tokenizer, text, message):
    some = [*utterances(), Utterance("some/odd", encoded(noise(5)), 5, text)]
    with pytest.raises(DataError, match=f"transcript of some/odd has {message}"):
        write_split(tmp_path / "train", some, tokenizer, 12)
    assert not has_tokens(tmp_path / "train")
    write_split(tmp_path / "other", [*utterances(), Utterance("some/even", b"", 0, "A" * 10)], tokenizer, 12)


@pytest.mark.parametrize("stop", range(12))
def test_finishing_may_be_interrupted(folder, tmp_path, monkeypatch, stop):
    for number, utterance in enumerate(utterances()):
        write_part(tmp_path / "new", f"{number}", [utterance], Part(skipped=[f"{number} (why)"]))
    calls, methods = 0, {name: getattr(Path, name) for name in ("replace", "unlink", "mkdir")}

    def counted(name):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls > stop:
                raise KeyboardInterrupt
            return methods[name](*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in methods:
            patch.setattr(Path, name, counted(name))
        try:
            finish_audio(tmp_path / "new")
        except KeyboardInterrupt:
            pass
    assert (calls > stop) == (stop < 11)
    finish_audio(tmp_path / "new")
    assert read_transcripts(tmp_path / "new") == read_transcripts(folder)
    assert np.load(tmp_path / "new" / "utterances" / "samples.npy").tolist() == LENGTHS
    assert {path.suffix for path in (tmp_path / "new").iterdir()} == {SUFFIX, ""}
