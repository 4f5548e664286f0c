"""Orders of training examples; `ShuffledOrder` is also tested by what reads it in test_data.py."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoperf.data import BlockShuffledOrder

SIZES = st.integers(1, 200), st.integers(1, 20), st.integers(1, 12)


@given(*SIZES, st.integers(0, 3))
def test_each_epoch_has_every_example_once(num_examples, block, window, epoch):
    order = BlockShuffledOrder(num_examples, 0, block, window)
    indices = order.take(epoch * num_examples, num_examples)
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(np.sort(indices), np.arange(num_examples))


@given(*SIZES, st.integers(0, 500), st.integers(0, 300))
def test_a_position_is_all_there_is_to_a_state(num_examples, block, window, start, count):
    whole = BlockShuffledOrder(num_examples, 5, block, window).take(0, start + count)
    np.testing.assert_array_equal(BlockShuffledOrder(num_examples, 5, block, window).take(start, count), whole[start:])


@given(st.integers(2, 200), st.integers(1, 20), st.integers(1, 12))
def test_a_window_reads_few_blocks(num_examples, block, window):
    # As many as a window has at least, where its last block is the shorter one.
    order = BlockShuffledOrder(num_examples, 1, block, window).take(0, min(num_examples, block * (window - 1) + 1))
    assert len(np.unique(order // block)) <= window


def test_examples_are_mixed_within_windows_and_blocks_come_from_anywhere():
    block, window, num_examples = 100, 10, 100_000
    indices = BlockShuffledOrder(num_examples, 2, block, window).take(0, block * window)
    blocks = np.unique(indices // block)
    # Ten of a thousand blocks, drawn evenly, span nearly all: shorter than half by chance once in a hundred.
    assert blocks[-1] - blocks[0] > 500
    # Neighbours of the file are a third of the window apart in the mean, if they come in any order.
    places = np.argsort(indices)
    assert np.abs(np.diff(places)).mean() == pytest.approx(block * window / 3, rel=0.1)


def test_epochs_windows_and_seeds_differ():
    def epoch(seed, number):
        return BlockShuffledOrder(1_000, seed, 10, 5).take(number * 1_000, 1_000)

    # Within the first windows, the places inside a block must not be the same ones again.
    inside = [tuple(epoch(0, 0)[start : start + 50] % 10) for start in range(0, 1_000, 50)]
    assert len(set(inside)) == len(inside)
    orders = {tuple(epoch(seed, number)) for seed in (0, 1) for number in (0, 1)}
    assert len(orders) == 4


def test_more_examples_than_fit_into_memory():
    order = BlockShuffledOrder(4_195_197_692, 0, 2**16, 2**6)
    tracemalloc.start()
    try:
        indices = order.take(4_195_197_692 - 1_000, 2_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(np.unique(indices)) > 1_990
    assert peak < 200 * 2**20


def test_nothing_cannot_be_shuffled():
    with pytest.raises(ValueError, match="There are no examples to shuffle"):
        BlockShuffledOrder(0, 0, 1, 1)
