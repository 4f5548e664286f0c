"""Batches of sentence pairs, from a few pairs in memory."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf.data import DataError, Shards, fixed_subset
from algoperf.data.tokenizer import TOKENIZER, train_tokenizer
from algoperf.spec import Split
from algoperf_wmt import data
from algoperf_wmt.data import WmtDataset, open_dataset
from algoperf_wmt.spec import WMT, Sentences
from algoperf_wmt.store import StoredPairs, save_pairs

LENGTH = 16
SPEC = replace(
    WMT,
    num_train_examples=60,
    num_eval_train_examples=10,
    num_validation_examples=7,
    num_test_examples=7,
    dataset=replace(WMT.dataset, options=Sentences(vocab_size=100, max_length=LENGTH)),
)


def some_pairs(number, longest=LENGTH):
    """Pairs whose tokens tell them apart; the last of a sentence is END."""
    rng = np.random.default_rng(number)

    def side(first):
        lengths = rng.integers(0, longest, number)
        return [[first + pair % 90, *rng.integers(3, 100, length), 2][-longest:] for pair, length in enumerate(lengths)]

    return StoredPairs.of(side(3), side(5))


def dataset(train=None, **others):
    pairs = {Split.TRAIN: train or some_pairs(60), Split.VALIDATION: some_pairs(7), Split.TEST: some_pairs(7)}
    return WmtDataset(SPEC, pairs | others, tokenizer=None)


def sentences_of(batch):
    """The pairs of packed rows, and of each token its position, as they are marked."""
    for row in range(len(batch["inputs"])):
        marks = {side: batch[f"{side}_segmentation"][row] for side in ("inputs", "targets")}
        for number in range(1, marks["inputs"].max() + 1):
            pair = []
            for side in ("inputs", "targets"):
                at = np.flatnonzero(marks[side] == number)
                assert batch[f"{side}_position"][row, at].tolist() == list(range(len(at)))
                assert (np.diff(at) == 1).all()
                pair.append(tuple(batch[side][row, at].tolist()))
            yield tuple(pair)


def stored(pairs):
    return [(tuple(pairs.source(i).tolist()), tuple(pairs.target(i).tolist())) for i in range(len(pairs))]


def test_every_pair_is_trained_on_once_in_an_epoch(monkeypatch):
    # Groups of 20 of the 60 pairs, so that an epoch is three of them.
    monkeypatch.setattr(data, "_GROUP", 20)
    pairs = some_pairs(60)
    one_epoch, batches, found = sorted(stored(pairs)), iter(dataset(pairs).train(1, Shards(), seed=3)), []
    while len(found) < 120:
        found += list(sentences_of(next(batches)))
    assert sorted(found[:60]) == one_epoch
    assert sorted(found[60:]) == one_epoch
    assert found[:60] != found[60:]


def test_rows_of_each_group_and_seed_are_shuffled_differently(monkeypatch):
    # Pairs as long as a row: rows are in the order of the pairs, but for their shuffle.
    pairs = StoredPairs.of([[3 + i] * LENGTH for i in range(20)], [[3 + i] * LENGTH for i in range(20)])
    monkeypatch.setattr(data, "_GROUP", 20)

    def shuffle(seed, group):
        numbers = data.ShuffledOrder(20, seed).take(20 * group, 20) + 3
        batches = iter(dataset(pairs).train(20, Shards(), seed))
        rows = next(islice(batches, group, None))["inputs"][:, 0]
        return [numbers.tolist().index(row) for row in rows.tolist()]

    shuffles = [shuffle(*case) for case in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(one) == list(range(20)) for one in shuffles)
    assert len(set(map(tuple, shuffles))) == 3
    # And not as the order itself is.
    assert shuffles[0] != data.ShuffledOrder(20, 0).take(0, 20).tolist()


def test_evaluations_on_training_pairs_look_at_a_fixed_subset():
    found = np.concatenate([b["inputs"] for b in dataset().evaluation(Split.EVAL_TRAIN, 5, Shards())])
    pairs = some_pairs(60)
    expected = {tuple(pairs.source(i).tolist()) for i in fixed_subset(60, 10)}
    assert {tuple(row[row > 0].tolist()) for row in found} == expected


def test_the_end_of_a_row_is_padding():
    for batch in islice(dataset().train(4, Shards(), seed=0), 5):
        for side in ("inputs", "targets"):
            padding = batch[f"{side}_segmentation"] == 0
            assert (np.diff(padding.astype(int), axis=1) >= 0).all()
            assert (batch[side][padding] == 0).all()
            assert (batch[f"{side}_position"][padding] == 0).all()
        np.testing.assert_array_equal(batch["weights"], (batch["targets"] > 0).astype(np.float32))
        assert {name: array.dtype.name for name, array in batch.items()} == {
            name: "float32" if name == "weights" else "int32" for name in batch
        }


def test_unknown_tokens_count_nowhere_and_move_nothing():
    # A group of copies of one pair, four to a row.
    batch = next(iter(dataset(StoredPairs.of([[7, 0, 8, 2]], [[5, 0, 2]])).train(1, Shards(), seed=0)))
    assert batch["inputs"][0].tolist() == [7, 0, 8, 2] * 4
    assert batch["inputs_position"][0].tolist() == [0, 1, 2, 3] * 4
    assert batch["inputs_segmentation"][0].tolist() == [1, 0, 1, 1, 2, 0, 2, 2, 3, 0, 3, 3, 4, 0, 4, 4]
    assert batch["targets"][0].tolist() == [5, 0, 2] * 4 + [0] * 4
    assert batch["weights"][0].tolist() == [1, 0, 1] * 4 + [0] * 4


@pytest.mark.parametrize("too_long", [0, 1])
def test_pairs_longer_than_a_row_are_not_trained_on(too_long):
    sides = [[[3, 4, 2], [5, 2], [6, 2]], [[7, 2], [8, 9, 2], [10, 2]]]
    sides[too_long][1] = [11] * LENGTH + [2]
    found = set()
    for batch in islice(dataset(StoredPairs.of(*sides)).train(2, Shards(), seed=0), 4):
        found |= set(sentences_of(batch))
    assert found == {((3, 4, 2), (7, 2)), ((6, 2), (10, 2))}


@settings(deadline=None, max_examples=30)
@given(batch_size=st.integers(1, 12), done=st.integers(0, 12))
def test_a_position_says_where_to_go_on_whatever_the_batch_size(batch_size, done):
    rows = [batch["inputs"] for batch in islice(dataset().train(1, Shards(), seed=1), 40)]
    expected = np.concatenate(rows)
    batches = iter(dataset().train(batch_size, Shards(), seed=1))
    list(islice(batches, min(done, 40 // batch_size - 1)))
    resumed = iter(dataset().train(batch_size, Shards(), seed=1))
    resumed.set_state(batches.get_state())
    start = min(done, 40 // batch_size - 1) * batch_size
    np.testing.assert_array_equal(next(resumed)["inputs"], expected[start : start + batch_size])


def test_evaluations_begin_with_the_shortest_sentences():
    pairs = some_pairs(7)
    batches = list(dataset().evaluation(Split.VALIDATION, 4, Shards()))
    rows = np.concatenate([batch["inputs"] for batch in batches])[:7]
    lengths = (rows > 0).sum(axis=1)
    assert lengths.tolist() == sorted(pairs.lengths[:, 0].tolist())
    expected = {(*source, *[0] * (LENGTH - len(source))) for source, _ in stored(pairs)}
    assert set(map(tuple, rows.tolist())) == expected
    assert not batches[1]["weights"][3].any()


def test_evaluations_on_training_pairs_skip_those_that_are_too_long():
    sides = [[[3, 2]] * 12, [[4, 2]] * 12]
    sides[0][5] = [9] * LENGTH + [2]
    batches = list(dataset(StoredPairs.of(*sides)).evaluation(Split.EVAL_TRAIN, 10, Shards()))
    assert [batch["inputs"][:, 0].tolist() for batch in batches] == [[3] * 10]


@pytest.fixture
def prepared(tmp_path):
    for split, number in ((Split.TRAIN, 60), (Split.VALIDATION, 7), (Split.TEST, 7)):
        save_pairs(tmp_path / split.value, [some_pairs(number)])
    words = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
    train_tokenizer([" ".join(words[i:] + words[:i]) for i in range(100)], tmp_path / TOKENIZER, 100)
    return tmp_path


def test_prepared_data_is_opened(prepared):
    opened = open_dataset(SPEC, prepared)
    assert [opened.num_stored(split) for split in Split] == [60, 60, 7, 7]
    ids = opened._tokenizer.encode(["ak bl"])
    assert opened.decode(ids) == ["ak bl"]


def test_another_number_of_pairs_is_refused(prepared):
    with pytest.raises(DataError, match=r"validation has 7 sentence pairs instead of 8; delete .* and prepare"):
        open_dataset(replace(SPEC, num_validation_examples=8), prepared)


def test_a_tokenizer_of_another_size_is_refused(prepared):
    options = replace(SPEC.dataset.options, vocab_size=99)
    with pytest.raises(DataError, match="a tokenizer that does not match the data"):
        open_dataset(replace(SPEC, dataset=replace(SPEC.dataset, options=options)), prepared)


def test_an_evaluated_sentence_longer_than_a_row_is_refused(prepared):
    options = replace(SPEC.dataset.options, max_length=4)
    with pytest.raises(DataError, match=r"has a sentence of \d+ tokens, and a row has room for 4; delete .* tokenizer"):
        open_dataset(replace(SPEC, dataset=replace(SPEC.dataset, options=options)), prepared)
