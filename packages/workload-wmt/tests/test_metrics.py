"""The metrics against numbers of the reference implementation and against hand-made cases."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoperf_wmt.metrics import METRICS, bleu, finalize

GOLDEN = json.loads((Path(__file__).parent / "golden" / "bleu.json").read_text())
UNKNOWN = " \u2047 "
WORDS = [UNKNOWN, "<s>", "", "the", "cat", "sat", "on", "a", "mat", "dog", "."]


class Dataset:
    """Of words, ids of which stand for themselves; END (2) is no text."""

    def __init__(self):
        self.decoded = []

    def decode(self, ids):
        assert all(isinstance(i, int) for sentence in ids for i in sentence)
        texts = [" ".join(WORDS[i] for i in sentence) for sentence in ids]
        self.decoded.append(texts)
        return texts


def rows(*sentences, length=8):
    return np.array([sentence + [0] * (length - len(sentence)) for sentence in sentences], np.int32)


def output(**changes):
    """Of a batch of three sentences."""
    return {
        "losses": np.array([1.0, 2.0, 4.0], np.float32),
        "correct": np.array([5.0, 3.0, 0.0], np.float32),
        "tokens": np.array([7.0, 4.0, 3.0], np.float32),
        "predictions": rows([3, 4, 5, 6, 3, 8, 2], [7, 9, 5, 2], [7, 4, 2], length=7),
        "targets": rows([3, 4, 5, 6, 7, 8, 2], [7, 9, 5, 2], [3, 4, 2]),
    } | changes


def texts_of(**changes):
    """What predictions and targets were decoded to."""
    dataset = Dataset()
    finalize([output(**changes)], 3, dataset)
    return dataset.decoded


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["pred"][0][:20])
def test_the_reference_s_bleu(case):
    assert bleu(case["pred"], case["ref"]) == pytest.approx(case["score"], abs=1e-9)


def test_text_that_looks_tokenised_is_no_reason_to_warn(caplog):
    texts = ["It looks so ."] * 200
    with caplog.at_level(logging.WARNING):
        assert bleu(texts, texts) == pytest.approx(100)
    assert not caplog.records


def test_means_over_tokens_and_bleu_of_the_text():
    metrics = finalize([output()], 3, Dataset())
    assert metrics.keys() == set(METRICS)
    assert metrics["loss"] == 0.5
    assert metrics["accuracy"] == 8 / 14
    predictions = ["the cat sat on the mat", "a dog sat", "a cat"]
    assert metrics["bleu"] == bleu(predictions, ["the cat sat on a mat", "a dog sat", "the cat"])
    assert 50 < metrics["bleu"] < 90
    assert all(isinstance(value, float) for value in metrics.values())


def test_sums_are_exact_to_float64():
    many = 2**24
    outputs = [output(losses=np.array([many, 1, 1], np.float32), correct=np.array([many, 1, 1], np.float32))]
    metrics = finalize(outputs, 3, Dataset())
    assert metrics["loss"] == metrics["accuracy"] == (many + 2) / 14


@given(st.sets(st.integers(1, 2)))
def test_how_sentences_are_batched_changes_nothing(cuts):
    whole = output()
    parts = [dict(zip(whole, arrays)) for arrays in zip(*(np.split(a, sorted(cuts)) for a in whole.values()))]
    assert finalize(parts, 3, Dataset()) == finalize([whole], 3, Dataset())


def test_padding_counts_nowhere():
    padding = output(tokens=np.zeros(3), losses=np.full(3, np.nan))
    dataset = Dataset()
    assert finalize([output(), padding], 3, dataset) == finalize([output()], 3, Dataset())
    assert [len(texts) for texts in dataset.decoded] == [3, 3]


def test_predictions_are_cut_at_their_end():
    predictions = rows([3, 2, 4, 2, 5], [2], [3, 4, 5, 6, 7, 8, 9], length=7)
    assert texts_of(predictions=predictions)[0] == ["the", "", "the cat sat on a mat dog"]


def test_targets_are_cut_at_their_end_or_padding():
    targets = rows([3, 2, 4, 2, 5], [3, 4], [3, 4, 5, 6, 7, 8, 9, 10])
    assert texts_of(targets=targets)[1] == ["the", "the cat", "the cat sat on a mat dog ."]


def test_unknown_text_counts():
    unknown = rows([3, 0, 5, 2], [0, 2], [0, 0, 3, 2])
    expected = [f"the {UNKNOWN} sat", UNKNOWN, f"{UNKNOWN} {UNKNOWN} the"]
    assert texts_of(predictions=unknown[:, :-1], targets=unknown) == [expected, expected]
    # Without an end there is no telling where a prediction of unknown text ends; a target then ends with its padding.
    endless = rows([3, 0, 5], [0, 3], [4])
    predictions, targets = texts_of(predictions=endless[:, :3], targets=endless)
    assert predictions == [f"the {UNKNOWN} sat", f"{UNKNOWN} the {UNKNOWN}", f"cat {UNKNOWN} {UNKNOWN}"]
    assert targets == [f"the {UNKNOWN} sat", f"{UNKNOWN} the", "cat"]


def test_empty_predictions_have_no_score():
    assert finalize([output(predictions=rows([2], [2], [2], length=7))], 3, Dataset())["bleu"] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_makes_all_metrics_nan(value):
    metrics = finalize([output(losses=np.array([1, value, 1], np.float32))], 3, Dataset())
    assert metrics.keys() == set(METRICS)
    assert all(np.isnan(value) for value in metrics.values())


@pytest.mark.parametrize("num_examples", [2, 4])
def test_an_evaluation_that_missed_or_repeated_sentences_is_refused(num_examples):
    with pytest.raises(ValueError, match=f"3 sentences in a split of {num_examples}"):
        finalize([output()], num_examples, Dataset())


def test_sacrebleu_is_imported_only_to_compute_bleu():
    code = "import sys, algoperf_wmt.metrics; assert 'sacrebleu' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
