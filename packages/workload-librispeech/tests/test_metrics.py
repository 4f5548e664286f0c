"""The metrics against numbers of the reference implementation, of another library, and against hand-made cases."""

import json
from pathlib import Path

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf_librispeech.metrics import METRICS, collapsed, finalize, reference_wer, word_error_rate
from algoperf_librispeech.spec import BLANK

GOLDEN = json.loads((Path(__file__).parent / "golden" / "wer.json").read_text())
# By id; the first three are no text.
WORDS = ["", "", "", "WE", "DON'T", "KNOW", "WHY", "CAT"]
TEXT = st.lists(st.sampled_from(["WE", "DON'T", "KNOW", "WHY"]), max_size=6).map(" ".join)


class Dataset:
    """Of words, ids of which stand for themselves."""

    def __init__(self):
        self.decoded = []

    def decode(self, ids):
        assert all(isinstance(i, int) for sentence in ids for i in sentence)
        texts = [" ".join(WORDS[i] for i in sentence if WORDS[i]) for sentence in ids]
        self.decoded.append(texts)
        return texts


def rows(*sentences, length=9):
    return np.array([sentence + [BLANK] * (length - len(sentence)) for sentence in sentences], np.int32)


def output(**changes):
    """Of a batch of three utterances, the last of which is infeasible, and one of padding."""
    return {
        "losses": np.array([1.0, 2.0, 0.0, 0.0], np.float32),
        "tokens": np.array([5.0, 4.0, 0.0, 0.0], np.float32),
        "predictions": rows([3, 3, 0, 5, 6, 6, 0, 0, 2], [3, 0, 5, 5, 0, 5, 2], [], []),
        "targets": rows([3, 4, 5, 6, 2], [3, 5, 5, 2], [7, 2], []),
        "weights": np.array([1, 1, 1, 0], np.float32),
    } | changes


def test_loss_per_token_and_the_error_rates_of_the_text():
    dataset = Dataset()
    metrics = finalize([output()], 3, dataset)
    assert metrics.keys() == set(METRICS)
    assert metrics["ctc_loss"] == metrics["loss"] == 3 / 9
    hypotheses, references = ["WE KNOW WHY", "WE KNOW KNOW", ""], ["WE DON'T KNOW WHY", "WE KNOW KNOW", "CAT"]
    assert dataset.decoded == [hypotheses, references]
    assert metrics["word_error_rate"] == (1 + 0 + 1) / (4 + 3 + 1)
    # An apostrophe in one text alone makes two errors more.
    assert metrics["wer"] == reference_wer(hypotheses, references) == (3 + 0 + 1) / (6 + 5 + 3)
    assert all(isinstance(value, float) for value in metrics.values())


@given(st.lists(st.integers(0, 3), max_size=12))
def test_repetitions_are_one_token_and_blanks_are_none(frames):
    expected, last = [], None
    for frame in frames:
        if frame not in (last, BLANK):
            expected.append(frame)
        last = frame
    assert collapsed(np.array([frames, frames], np.int32)) == [expected] * 2


@given(st.sets(st.integers(1, 3)))
def test_how_utterances_are_batched_changes_nothing(cuts):
    whole = output()
    parts = [dict(zip(whole, arrays)) for arrays in zip(*(np.split(a, sorted(cuts)) for a in whole.values()))]
    assert finalize(parts, 3, Dataset()) == finalize([whole], 3, Dataset())


def test_batches_may_differ_in_length():
    longer = output(predictions=rows([3], [5], [], [], length=20), targets=rows([3, 2], [5, 2], [2], [], length=12))
    dataset = Dataset()
    finalize([output(), longer], 6, dataset)
    assert dataset.decoded[0] == ["WE KNOW WHY", "WE KNOW KNOW", "", "WE", "KNOW", ""]


def test_padding_counts_nowhere_whatever_it_holds():
    padding = output(weights=np.zeros(4), losses=np.full(4, np.nan), tokens=np.full(4, 9.0))
    dataset = Dataset()
    assert finalize([output(), padding], 3, dataset) == finalize([output()], 3, Dataset())
    assert [len(texts) for texts in dataset.decoded] == [3, 3]


def test_sums_are_exact_to_float64():
    many = 2**24
    metrics = finalize([output(losses=np.array([many, 1, 1, 0], np.float32))], 3, Dataset())
    assert metrics["ctc_loss"] == (many + 2) / 9


def test_references_without_a_word_are_no_reason_to_fail():
    empty = output(targets=rows([2], [], [2], []), tokens=np.zeros(4), losses=np.zeros(4))
    metrics = finalize([empty], 3, Dataset())
    assert (metrics["ctc_loss"], metrics["word_error_rate"]) == (0, 6)
    nothing = finalize([empty | {"predictions": rows([], [], [], [])}], 3, Dataset())
    assert nothing == dict.fromkeys(METRICS, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_makes_all_metrics_nan(value):
    metrics = finalize([output(losses=np.array([1, value, 1, 0], np.float32))], 3, Dataset())
    assert metrics.keys() == set(METRICS)
    assert all(np.isnan(value) for value in metrics.values())


@pytest.mark.parametrize("num_examples", [2, 4])
def test_an_evaluation_that_missed_or_repeated_utterances_is_refused(num_examples):
    with pytest.raises(ValueError, match=f"3 utterances in a split of {num_examples}"):
        finalize([output()], num_examples, Dataset())


@pytest.mark.parametrize("case", GOLDEN["edit_distance"], ids=lambda case: f"{case['a']}|{case['b']}")
def test_the_reference_s_edit_distance(case):
    # One word more in both texts, so that there is one.
    words = 1 + len(case["b"].split())
    assert word_error_rate([f"x {case['a']}"], [f"x {case['b']}"]) * words == pytest.approx(case["d"])


@pytest.mark.parametrize("reference", GOLDEN["printed"], ids=lambda case: case["text"])
@pytest.mark.parametrize("hypothesis", GOLDEN["printed"], ids=lambda case: case["text"])
def test_texts_are_counted_as_tensorflow_prints_them(hypothesis, reference):
    errors = plain_distance(hypothesis["printed"].split(), reference["printed"].split())
    words = len(reference["printed"].split(" "))
    # With another utterance, so that words show where there are no errors.
    assert reference_wer([hypothesis["text"], "A"], [reference["text"], "B"]) == (errors + 1) / (words + 3)


def plain_distance(a, b):
    costs = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, costs[0] = costs[0], i
        for j, y in enumerate(b, start=1):
            before, costs[j] = costs[j], min(costs[j] + 1, costs[j - 1] + 1, before + (x != y))
    return costs[-1]


@pytest.mark.parametrize("case", GOLDEN["counted"], ids=lambda case: case["reference"])
def test_the_reference_s_counts(case):
    rate = reference_wer([case["hypothesis"], "A"], [case["reference"], "B"])
    assert rate == (case["errors"] + 1) / (case["words"] + 3)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6).filter(
        lambda pairs: any(reference for _, reference in pairs)
    )
)
def test_the_plain_rate_is_jiwer_s(pairs):
    hypotheses, references = zip(*pairs)
    expected = [(h, r) for h, r in pairs if r]
    # jiwer refuses empty references; all words of their hypotheses are errors.
    added = sum(len(h.split()) for h, r in pairs if not r)
    words = sum(len(r.split()) for _, r in expected)
    other = jiwer.wer([r for _, r in expected], [h for h, _ in expected]) + added / words
    assert word_error_rate(hypotheses, references) == pytest.approx(other, abs=1e-12)
