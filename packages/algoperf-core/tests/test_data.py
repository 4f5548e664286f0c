"""Order, padding, batches, and the queue that reads them ahead."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoperf.data import Batches, Shards, ShuffledOrder, array_batches, fixed_subset, pad_batch
from algoperf.data.queue import InputQueue
from algoperf.data.ragged import offsets, runs

SEEDS = st.integers(0, 2**63)
COUNTS = st.integers(1, 60)


def load(indices, positions):
    """Examples that say which they are, and what the generator drew for the batch."""
    return {"inputs": np.stack([indices, indices**2], axis=1), "targets": indices.astype(np.int32)}


def identity(batch):
    return batch


# Order.


@given(COUNTS, SEEDS, st.integers(0, 5))
def test_each_epoch_is_a_permutation(num_examples, seed, epoch):
    indices = ShuffledOrder(num_examples, seed).take(epoch * num_examples, num_examples)
    assert sorted(indices) == list(range(num_examples))


@given(COUNTS, SEEDS, st.integers(0, 200), st.integers(0, 150))
def test_any_part_of_an_order_is_that_of_the_whole(num_examples, seed, start, count):
    whole = ShuffledOrder(num_examples, seed).take(0, start + count)
    part = ShuffledOrder(num_examples, seed).take(start, count)
    assert part.dtype == np.int64
    np.testing.assert_array_equal(part, whole[start:])


def test_epochs_and_seeds_have_orders_of_their_own():
    order, other = ShuffledOrder(1000, 1), ShuffledOrder(1000, 2)
    assert (order.take(0, 1000) != order.take(1000, 1000)).any()
    assert (order.take(0, 1000) != other.take(0, 1000)).any()


def test_an_order_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no examples"):
        ShuffledOrder(0, 0)


@given(COUNTS, SEEDS, st.lists(st.integers(0, 300), max_size=40))
def test_an_order_can_be_asked_at_any_positions(num_examples, seed, positions):
    order = ShuffledOrder(num_examples, seed)
    found = order.at(np.array(positions, np.int64))
    assert found.tolist() == [int(order.take(position, 1)[0]) for position in positions]


@given(COUNTS, st.data())
def test_a_fixed_subset_is_part_of_the_examples(num_examples, data):
    size = data.draw(st.integers(0, num_examples))
    subset = fixed_subset(num_examples, size)
    assert len(set(subset.tolist())) == size
    assert sorted(subset) == subset.tolist()
    assert set(subset.tolist()) <= set(range(num_examples))
    np.testing.assert_array_equal(fixed_subset(num_examples, size), subset)


def test_a_fixed_subset_is_no_larger_than_the_whole():
    with pytest.raises(ValueError, match="There are 3 training examples; an evaluation cannot look at 4 of them"):
        fixed_subset(3, 4)


# Padding.


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 4))
def test_padding_fills_up_with_zeros_and_weighs_them_nothing(count, missing, rank):
    targets = np.ones((count, *[2] * (rank - 1)), np.float32)
    inputs = np.full((count, 3), 7, np.int16)
    padded = pad_batch({"inputs": inputs, "targets": targets}, count + missing)
    assert padded["inputs"].dtype == np.int16
    np.testing.assert_array_equal(padded["inputs"][:count], inputs)
    np.testing.assert_array_equal(padded["targets"][:count], targets)
    assert not padded["inputs"][count:].any()
    assert not padded["targets"][count:].any()
    weights = padded["weights"]
    assert weights.dtype == np.float32
    assert weights.shape == (padded["targets"].shape if rank < 3 else (count + missing,))
    assert (weights[:count] == 1).all()
    assert (weights[count:] == 0).all()


def test_weights_that_are_there_are_kept():
    weights = np.array([0.0, 1.0], np.float32)
    padded = pad_batch({"targets": np.ones(2), "weights": weights}, 3)
    np.testing.assert_array_equal(padded["weights"], [0.0, 1.0, 0.0])


def test_a_batch_that_is_too_large_is_refused():
    with pytest.raises(ValueError, match="3 examples does not fit into 2"):
        pad_batch({"targets": np.ones(3)}, 2)


# Batches.


@given(COUNTS, st.integers(1, 5), st.sampled_from([1, 2, 4]), SEEDS, st.booleans())
def test_shards_together_are_the_whole(num_examples, per_shard, total, seed, is_training):
    size = per_shard * total
    arguments = (load, num_examples, size)
    chosen = seed if is_training else None
    whole = iter(array_batches(*arguments, Shards(total, range(total)), chosen))
    parts = [iter(array_batches(*arguments, Shards(total, range(i, i + 1)), chosen)) for i in range(total)]
    for _ in range(4):
        batch, pieces = next(whole, None), [next(part, None) for part in parts]
        if batch is None:
            assert pieces == [None] * total
            break
        for name, array in batch.items():
            np.testing.assert_array_equal(array, np.concatenate([piece[name] for piece in pieces]))


@given(COUNTS, st.integers(1, 5), st.sampled_from([1, 2, 4]))
def test_an_evaluation_counts_each_example_once(num_examples, per_shard, total):
    size = per_shard * total
    batches = list(array_batches(load, num_examples, size, Shards(total, range(total))))
    assert {len(batch["targets"]) for batch in batches} == {size}
    seen = np.concatenate([batch["targets"][batch["weights"] > 0] for batch in batches])
    np.testing.assert_array_equal(seen, np.arange(num_examples))


@given(COUNTS, st.integers(1, 9), SEEDS)
def test_training_goes_through_the_shuffled_order(num_examples, size, seed):
    batches = iter(array_batches(load, num_examples, size, Shards(), seed))
    indices = np.concatenate([next(batches)["targets"] for _ in range(5)])
    np.testing.assert_array_equal(indices, ShuffledOrder(num_examples, seed).take(0, 5 * size))


@given(COUNTS, st.integers(1, 9), st.integers(0, 20), st.one_of(st.none(), SEEDS))
def test_batches_go_on_from_any_position(num_examples, size, done, seed):
    batches = array_batches(load, num_examples, size, Shards(), seed)
    first, second = iter(batches), iter(batches)
    for _ in range(done):
        next(first, None)
    second.set_state(first.get_state())
    for _ in range(3):
        expected, found = next(first, None), next(second, None)
        assert (expected is None) == (found is None)
        for name in expected or {}:
            np.testing.assert_array_equal(found[name], expected[name])


def test_positions_for_augmentation_do_not_depend_on_the_devices():
    def augment(indices, positions):
        return {"inputs": positions, "targets": indices}

    def inputs(shards, position):
        batches = iter(array_batches(augment, 50, 8, shards, 3))
        batches.set_state({"position": position})
        return next(batches)["inputs"]

    np.testing.assert_array_equal(inputs(Shards(), 16), np.arange(16, 24))
    parts = [inputs(Shards(4, range(i, i + 1)), 16) for i in range(4)]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(16, 24))


# The queue.


def counting(limit=10**6, read_ahead=None):
    """Batches that are their own number; those that were read are noted."""

    def read(position):
        if read_ahead is not None:
            read_ahead.append(position)
        return ({"number": np.array(position)}, position + 1) if position < limit else None

    return Batches(read)


@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("done", [0, 1, 5])
def test_a_queues_state_counts_what_was_handed_out(ahead, done):
    noted = []
    with InputQueue(counting(read_ahead=noted), identity, ahead=ahead) as queue:
        numbers = [int(next(queue)["number"]) for _ in range(done)]
        if done:
            _wait_until(lambda: len(noted) > done)
        state = queue.state()
    assert numbers == list(range(done))
    with InputQueue(counting(), identity, state) as queue:
        assert int(next(queue)["number"]) == done


def test_a_queue_places_what_it_hands_out():
    with InputQueue(counting(), lambda batch: batch["number"] * 10) as queue:
        assert [int(next(queue)) for _ in range(3)] == [0, 10, 20]


def test_a_queue_ends_with_its_batches():
    with InputQueue(counting(limit=3), identity) as queue:
        assert [int(batch["number"]) for batch in queue] == [0, 1, 2]
        with pytest.raises(StopIteration):
            next(queue)


@pytest.mark.parametrize("where", ["read", "place"])
def test_an_exception_in_the_thread_reaches_the_caller(where):
    def fail(position):
        if position == 2:
            raise OSError("the disk is gone")
        return {"number": np.array(position)}, position + 1

    def place(batch):
        if batch["number"] == 2:
            raise OSError("the disk is gone")
        return batch

    queue = InputQueue(Batches(fail), identity) if where == "read" else InputQueue(counting(), place)
    with queue:
        assert int(next(queue)["number"]) == 0
        assert int(next(queue)["number"]) == 1
        with pytest.raises(OSError, match="the disk is gone"):
            next(queue)


def test_closing_ends_the_thread():
    before = set(threading.enumerate())
    noted = []
    queue = InputQueue(counting(read_ahead=noted), identity)
    next(queue)
    assert set(threading.enumerate()) - before
    queue.close()
    queue.close()
    _wait_until(lambda: not set(threading.enumerate()) - before)


def _wait_until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@given(runs_of=st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 6)), max_size=20))
def test_runs_lie_end_to_end(runs_of):
    starts, counts = np.array(runs_of, np.int64).reshape(-1, 2).T
    expected = [list(range(start, start + count)) for start, count in runs_of]
    assert runs(starts, counts).tolist() == [value for run in expected for value in run]
    assert runs(1, counts).tolist() == [value for _, count in runs_of for value in range(1, 1 + count)]
    assert offsets(counts).tolist() == [sum(map(len, expected[:number])) for number in range(len(expected))]
