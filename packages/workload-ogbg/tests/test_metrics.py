"""The metrics against numbers of the reference implementation and against hand-made cases."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoperf_ogbg.metrics import finalize, mean_average_precision, sigmoid

GOLDEN = json.loads((Path(__file__).parent / "golden" / "metrics.json").read_text())["result"]


def hash_uniform(n, index):
    """The formula that the goldens' inputs are made with."""
    h = (np.arange(n, dtype=np.uint64) * 2654435761 + index * 40503 + 12345) & 0xFFFFFFFF
    for _ in range(2):
        h ^= h >> np.uint64(16)
        h = (h * 0x045D9F3B) & 0xFFFFFFFF
    h ^= h >> np.uint64(16)
    return (2 * (h / 2**32) - 1).astype(np.float32)


@pytest.fixture
def golden_output():
    labels = (hash_uniform(400, 1).reshape(100, 4) > 0.3).astype(np.float32)
    labels[:, -1] = 0
    return {
        "logits": hash_uniform(400, 2).reshape(100, 4) + np.float32(0.3) * labels,
        "labels": labels,
        "weights": (hash_uniform(400, 3).reshape(100, 4) > -0.8).astype(np.float32),
        "losses": np.abs(hash_uniform(400, 4)).reshape(100, 4),
        "num_graphs": 100,
    }


def one_task(logits, labels, weights=None):
    weights = np.ones(len(logits)) if weights is None else weights
    labels, logits, weights = (np.array(values, np.float32)[:, None] for values in (labels, logits, weights))
    return mean_average_precision(labels, logits, weights > 0)


def test_the_reference_s_numbers(golden_output):
    metrics = finalize([golden_output], 100)
    assert metrics.keys() == GOLDEN.keys()
    assert metrics["mean_average_precision"] == GOLDEN["mean_average_precision"]
    # The reference adds these up in float32.
    assert metrics["accuracy"] == pytest.approx(GOLDEN["accuracy"], rel=2**-24)
    assert metrics["loss"] == pytest.approx(GOLDEN["loss"], rel=2**-22)


@given(st.lists(st.integers(1, 99), unique=True, max_size=5))
def test_how_graphs_are_batched_changes_nothing(cuts):
    rng = np.random.default_rng(0)
    whole = {name: rng.normal(size=(100, 4)).astype(np.float32) for name in ("logits", "losses")}
    whole |= {name: rng.integers(0, 2, (100, 4)).astype(np.float32) for name in ("labels", "weights")}
    parts = [dict(zip(whole, arrays)) for arrays in zip(*(np.split(a, sorted(cuts)) for a in whole.values()))]
    parts = [part | {"num_graphs": len(part["logits"])} for part in parts]
    assert finalize(parts, 100) == finalize([whole | {"num_graphs": 100}], 100)


def test_padding_and_unlabelled_elements_count_nowhere(golden_output):
    metrics = finalize([golden_output], 100)
    mask = golden_output["weights"]
    for name, value in {"logits": 30.0, "losses": 7.0}.items():
        golden_output[name] = np.where(mask > 0, golden_output[name], np.float32(value))
    padding = {name: np.zeros((5, 4), np.float32) for name in golden_output} | {"num_graphs": 0}
    assert finalize([golden_output, padding], 100) == metrics


def test_ties_of_the_float32_sigmoid_count_as_ties():
    assert one_task([30, 31, 32, 1], [0, 1, 0, 1]) == pytest.approx(0.416667, abs=1e-6)
    assert (sigmoid(np.array([17, 30, 500])) == 1).all()
    assert sigmoid(np.array([-500.0])) == 0
    assert sigmoid(np.array([0.0])).dtype == np.float32


def test_which_tasks_qualify():
    # Labelled graphs are all positive, but an unlabelled one (label 0) lets the task count, with precision 1.
    assert one_task([1, 2, 3], [1, 1, 0], weights=[1, 1, 0]) == 1
    assert np.isnan(one_task([1, 2, 3], [1, 1, 1]))
    assert np.isnan(one_task([1, 2, 3], [0, 0, 0]))


def test_a_logit_that_is_not_a_number_makes_the_metrics_so(golden_output):
    expected = finalize([golden_output], 100)
    row, task = np.argwhere(golden_output["weights"] == 0)[0]
    golden_output["logits"][row, task] = np.nan
    assert finalize([golden_output], 100) == expected
    row, task = np.argwhere(golden_output["weights"] > 0)[0]
    golden_output["logits"][row, task] = np.nan
    metrics = finalize([golden_output], 100)
    assert metrics.keys() == expected.keys()
    assert all(np.isnan(value) for value in metrics.values())


@pytest.mark.parametrize("num_examples", [99, 101])
def test_an_evaluation_that_missed_or_repeated_graphs_is_refused(golden_output, num_examples):
    with pytest.raises(ValueError, match=f"100 graphs in a split of {num_examples}"):
        finalize([golden_output], num_examples)
