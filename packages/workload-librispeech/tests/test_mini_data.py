"""The mini data: what is said in which split, and that it is always the same."""

import hashlib
import itertools

import numpy as np
import pytest

from algoperf.data import DataError
from algoperf.data.preparation import Preparation
from algoperf.data.tokenizer import TOKENIZER, Tokenizer
from algoperf_librispeech import mini, synthesis
from algoperf_librispeech.espeak import Line
from algoperf_librispeech.mini import HELD_OUT_VOICES, LEXICON, OPTIONS, VOICES, draw_sentences, fits
from algoperf_librispeech.store import SPLITS, StoredUtterances
from algoperf_librispeech.synthesis import speak


def lines_of(split):
    return [sentence.line for sentence in draw_sentences() if sentence.split == split]


def test_no_sentence_is_said_twice():
    texts = [sentence.line.text for sentence in draw_sentences()]
    assert len(texts) == len(set(texts)) > sum(mini.SPLIT_SIZES.values())


def test_sentences_are_two_to_four_words_of_the_lexicon():
    words = [line.text.split() for split in SPLITS for line in lines_of(split)]
    assert {len(sentence) for sentence in words} == {2, 3, 4}
    assert set(itertools.chain.from_iterable(words)) == set(LEXICON)
    assert OPTIONS.vocab_size == 3 + len(set("".join(LEXICON)) | {" "})


def test_half_of_what_is_evaluated_is_said_in_voices_that_training_has_not_heard():
    assert {line.voice for line in lines_of("train")} == set(VOICES)
    for split in ("validation", "test"):
        voices = [line.voice for line in lines_of(split)]
        held_out = [voice for voice in voices if voice in HELD_OUT_VOICES]
        assert set(held_out) == set(HELD_OUT_VOICES)
        assert len(held_out) == len(voices) // 2
        assert set(voices) - set(held_out) == set(VOICES)


def test_the_sentences_are_these_for_ever():
    """Who prepares the data with another numpy gets the same."""
    text = "\n".join(" ".join(map(str, sentence.line)) for sentence in draw_sentences())
    digest = "13ebbacbfb9ae0ed3878c7040f5bd728c2b575ad248adbd850db4d989596ed3a"
    assert hashlib.sha256(text.encode()).hexdigest() == digest


@pytest.mark.parametrize(
    ("text", "num_samples", "expected"),
    [("GO ON", 16_000, True), ("GO ON", 32_000, True), ("GO ON", 32_001, False), ("GO ON", 4_000, False)],
)
def test_sentences_fit_into_a_row_and_into_their_frames(text, num_samples, expected):
    assert fits(text, num_samples) == expected


def test_equal_neighbours_need_a_frame_between():
    # 14 tokens and 24 frames, and then three more.
    assert fits("ABCABCABCABC", 10_401 - 160)
    assert not fits("AABBCCAABBCC", 10_401 - 160)


LINES = [Line(text, voice, 130, 50) for voice in (*VOICES, *HELD_OUT_VOICES) for text in ("OPEN THE DOOR", "SEVEN")]


@pytest.fixture(scope="module")
def spoken():
    return list(speak(LINES))


def test_speech_is_heard(spoken):
    for line, samples in zip(LINES, spoken, strict=True):
        assert samples.dtype == np.int16
        assert 0.3 < len(samples) / 16_000 < 2, line
        assert 3_000 < np.abs(samples.astype(int)).max() < 32_767, line
    # Each voice is another one.
    assert len({samples.tobytes() for samples in spoken}) == len(LINES)


def test_speech_is_always_the_same(spoken, monkeypatch):
    for samples, again in zip(spoken, speak(LINES), strict=True):
        np.testing.assert_array_equal(samples, again)
    monkeypatch.setattr(synthesis, "num_processors", lambda: 1)
    for samples, again in zip(spoken, speak(LINES), strict=True):
        np.testing.assert_array_equal(samples, again)


def test_voices_that_do_not_exist_are_named():
    with pytest.raises(DataError, match=r"eSpeak ended with 1 \(ValueError: eSpeak has no voice 'nobody'"):
        list(speak([Line("GO", "nobody", 130, 50)]))


def test_what_the_voice_does_wrong_is_no_fault_of_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(mini, "VOICES", ("nobody",))
    with pytest.raises(DataError, match=r"^eSpeak ended with 1"):
        mini.prepare_mini(Preparation(folder=tmp_path, report=lambda _: None))


def test_too_few_sentences_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(mini, "SPLIT_SIZES", {"train": 60, "validation": 60, "test": 60})
    monkeypatch.setattr(mini, "fits", lambda text, _: "A" not in text)
    monkeypatch.setattr(mini, "_SPARE", 1.1)
    with pytest.raises(DataError, match=r"Of the sentences of the \w+ split only \d+ fit into a row, in place of 60"):
        mini.prepare_mini(Preparation(folder=tmp_path, report=lambda _: None))


def test_preparing_goes_on_where_it_was(tmp_path, monkeypatch):
    """A split that is finished is not spoken again."""
    monkeypatch.setattr(mini, "SPLIT_SIZES", {"train": 12, "validation": 6, "test": 6})
    monkeypatch.setattr(mini, "_SPARE", 1.5)
    job = Preparation(folder=tmp_path, report=lambda _: None)
    with monkeypatch.context() as context:
        context.setattr(mini, "SPLITS", ("test",))
        context.setattr(mini, "prepared_files", lambda _: [])
        mini.prepare_mini(job)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "test").rglob("*")}
    mini.prepare_mini(job)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "test").rglob("*")} == written
    texts = {sentence.line.text for sentence in draw_sentences()}
    tokenizer = Tokenizer.load(tmp_path / TOKENIZER, OPTIONS.vocab_size)
    for split, size in mini.SPLIT_SIZES.items():
        stored = StoredUtterances.load(tmp_path / split)
        assert len(stored) == size
        for number, (_, text) in enumerate(stored.transcripts()):
            assert text in texts
            assert tokenizer.decode([stored.tokens(np.array([number])).tolist()]) == [text]
            assert len(stored.audio(np.array([number]))[0]) == stored.num_samples[number]
