"""Sentence pairs on disk: sentences two by two."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf.data import DataError
from algoperf.data.token_files import StoredSentences, save_sentences
from algoperf_wmt.store import StoredPairs, save_pairs

SENTENCES = st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=6)
PAIRS = st.lists(st.tuples(SENTENCES, SENTENCES), max_size=8)


def pairs_of(pairs):
    return StoredPairs.of([source for source, _ in pairs], [target for _, target in pairs])


@settings(max_examples=50, deadline=None)
@given(st.lists(PAIRS, max_size=4))
def test_what_is_saved_is_loaded(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("pairs") / "train"
    save_pairs(folder, [pairs_of(part) for part in parts])
    pairs = [pair for part in parts for pair in part]
    stored = StoredPairs.load(folder)
    assert len(stored) == len(pairs)
    assert stored.lengths.shape == (len(pairs), 2)
    assert stored.lengths.tolist() == [[len(source), len(target)] for source, target in pairs]
    for number, (source, target) in enumerate(pairs):
        assert stored.source(number).tolist() == source
        assert stored.target(number).tolist() == target
    numbers = np.arange(len(pairs))[::-2]
    for side in (0, 1):
        expected = [token for number in numbers for token in pairs[number][side]]
        assert stored.tokens(numbers, side).tolist() == expected


def test_a_source_without_a_target_is_refused(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        StoredPairs.of([[2], [2]], [[2]])
    save_sentences(tmp_path / "train", [StoredSentences.of([[2], [2], [2]])])
    with pytest.raises(DataError, match=f"train holds half a pair; delete {tmp_path} and prepare"):
        StoredPairs.load(tmp_path / "train")
