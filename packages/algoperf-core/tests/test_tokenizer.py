"""Text as tokens and back."""

import random
import subprocess
import sys

import pytest
import sentencepiece

from algoperf.data import DataError
from algoperf.data import tokenizer as module
from algoperf.data.tokenizer import Tokenizer, train_tokenizer

VOCAB_SIZE = 300
UNKNOWN, END = 0, 2


def sentences(number, seed):
    rng = random.Random(seed)
    syllables = ["".join(rng.choices("abdeiklmnorstuäöüß", k=3)) for _ in range(60)]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(400)]
    return [" ".join(rng.choices(words, k=rng.randint(2, 8))) for _ in range(number)]


def write_tokenizer(path):
    train_tokenizer(sentences(400, "other"), path, VOCAB_SIZE)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    write_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(path):
    return Tokenizer.load(path, VOCAB_SIZE)


def test_texts_survive_a_round_trip(tokenizer):
    texts = sentences(200, "other")
    ids = tokenizer.encode(texts)
    assert tokenizer.decode(ids) == texts
    assert all(sentence[-1] == END and END not in sentence[:-1] for sentence in ids)
    assert all(0 < token < VOCAB_SIZE for sentence in ids for token in sentence)


def test_nothing_is_but_an_end_and_the_unknown_is_zero(tokenizer):
    assert tokenizer.encode([]) == []
    assert tokenizer.encode(["", " \u2028\r", "\u4e2d"])[:2] == [[END], [END]]
    assert UNKNOWN in tokenizer.encode(["\u4e2d"])[0]
    assert tokenizer.decode([[], [END]]) == ["", ""]


def test_the_ids_are_those_of_the_published_way(path, tokenizer):
    reference = sentencepiece.SentencePieceProcessor(model_file=str(path))
    for text in ["über ß", "e\u0301", *sentences(20, "new")]:
        assert tokenizer.encode([text]) == [[*reference.encode(text), END]]


def test_the_model_is_a_unigram_model_of_all_characters(tmp_path):
    rare = "\u4e2d"
    train_tokenizer([*sentences(400, "other"), f"once {rare}"], tmp_path / "model", VOCAB_SIZE)
    assert UNKNOWN not in Tokenizer.load(tmp_path / "model", VOCAB_SIZE).encode([rare])[0]
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "model"))
    # Pieces of a unigram model have log probabilities, those of others ranks.
    scores = [processor.get_score(token) for token in range(3, VOCAB_SIZE)]
    assert not all(score.is_integer() for score in scores)


def test_with_char_each_character_is_a_token(tmp_path):
    texts = ["ON THE WAY", "NO WAY"]
    train_tokenizer(texts, tmp_path / "model", 3 + len({*"ONTHEWAY "}), kind="char")
    tokenizer = Tokenizer.load(tmp_path / "model", 3 + len({*"ONTHEWAY "}))
    # SentencePiece puts a space before a text, and takes it away again.
    assert [len(ids) for ids in tokenizer.encode(texts)] == [1 + len(text) + 1 for text in texts]
    assert tokenizer.decode(tokenizer.encode(texts)) == texts
    assert all(UNKNOWN not in ids for ids in tokenizer.encode(texts))


_TRAIN = """
import os, sys
from pathlib import Path
from algoperf.data.tokenizer import train_tokenizer
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[2])])
train_tokenizer(sys.stdin.read().splitlines(), Path(sys.argv[1]), int(sys.argv[3]))
"""


@pytest.mark.parametrize("processors", [1, 2])
def test_training_depends_on_the_sentences_alone(path, tmp_path, processors):
    command = [sys.executable, "-c", _TRAIN, str(tmp_path / "again"), str(processors), str(VOCAB_SIZE)]
    text = "\n".join(sentences(400, "other"))
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert result.stdout == result.stderr == ""


def test_the_number_of_threads_is_part_of_the_model(path, tmp_path, monkeypatch):
    """Why it is fixed."""
    monkeypatch.setattr(module, "_TRAINING_THREADS", 1)
    write_tokenizer(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() != path.read_bytes()


@pytest.mark.parametrize("content", [None, b"", b"no model", bytes(100)])
def test_what_is_no_tokenizer_is_named(tmp_path, content, capfd):
    if content is not None:
        (tmp_path / "a.model").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.model is no SentencePiece model; put one there, or remove it"):
        Tokenizer.load(tmp_path / "a.model", VOCAB_SIZE)
    assert capfd.readouterr() == ("", "")


def test_half_a_tokenizer_is_refused(path, tmp_path):
    content = path.read_bytes()
    for share in (0.01, 0.3, 0.6, 0.99):
        (tmp_path / "half").write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match="half is"):
            Tokenizer.load(tmp_path / "half", VOCAB_SIZE)


def test_a_tokenizer_of_another_size_is_refused(path):
    expected = rf"tokenizer\.model is a tokenizer that does not match.* \({VOCAB_SIZE}, 0, 1, 2\) instead of \(299, 0"
    with pytest.raises(DataError, match=expected):
        Tokenizer.load(path, 299)


@pytest.mark.parametrize("ids", [{"unk_id": 1, "bos_id": 0}, {"bos_id": 2, "eos_id": 1}, {"bos_id": -1}])
def test_a_tokenizer_with_other_ids_is_refused(tmp_path, ids):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences(400, "other")),
        model_prefix=str(tmp_path / "other"),
        vocab_size=VOCAB_SIZE,
        minloglevel=2,
        **ids,
    )
    with pytest.raises(DataError, match=r"does not match the data: .* instead of \(300, 0, 1, 2\); put the right one"):
        Tokenizer.load(tmp_path / "other.model", VOCAB_SIZE)
