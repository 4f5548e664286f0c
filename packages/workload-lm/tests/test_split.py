"""How documents are divided."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf_lm.split import as_published, by_document

# Few different hashes, so that some are there several times.
DOCUMENTS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), min_size=5, max_size=60)


def arrays(documents):
    hashes, lengths = zip(*documents, strict=True)
    return np.array(hashes, np.uint64), np.array(lengths, np.int32)


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS, st.integers(1, 60))
def test_each_document_is_in_one_split_and_texts_that_are_equal_in_the_same(documents, needed):
    hashes, lengths = arrays(documents)
    members = by_document(hashes, lengths, {"train": 0, "validation": needed})
    assert sorted([*members["train"], *members["validation"]]) == list(range(len(documents)))
    assert not set(hashes[members["train"]]) & set(hashes[members["validation"]])
    assert lengths[members["validation"]].sum() >= min(needed, lengths.sum())


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS, st.integers(1, 60))
def test_validation_is_no_larger_than_it_has_to_be(documents, needed):
    hashes, lengths = arrays(documents)
    found = by_document(hashes, lengths, {"train": 0, "validation": needed})["validation"]
    last = hashes[found] == hashes[found[-1]]
    assert lengths[found[~last]].sum() < needed


def test_the_order_of_the_documents_decides_nothing():
    rng = np.random.default_rng(0)
    hashes, lengths = rng.permutation(50).astype(np.uint64), rng.integers(1, 9, 50)
    order = rng.permutation(50)
    num_tokens = {"train": 100, "validation": 30}
    first, second = by_document(hashes, lengths, num_tokens), by_document(hashes[order], lengths[order], num_tokens)
    for split, members in first.items():
        assert hashes[members].tolist() == hashes[order][second[split]].tolist()


def test_the_published_split_has_nine_tenths_of_the_documents_in_both():
    hashes = np.arange(10_000, dtype=np.uint64)
    lengths = np.ones(10_000, np.int32)
    members = as_published(hashes, lengths, {"train": 9_000, "validation": 1_000})
    train, validation = members["train"][:9_000], members["validation"]
    assert len(set(members["train"])) == 10_000
    assert len(set(validation)) == 1_000
    assert np.isin(validation, train).mean() == pytest.approx(0.9, abs=0.03)
    again = as_published(hashes, lengths, {"train": 9_000, "validation": 1_000})
    assert (again["train"] == members["train"]).all()
    assert not (members["train"] == np.arange(10_000)).all()
