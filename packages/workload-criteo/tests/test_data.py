"""Batches are the stored rows, in the order that is asked for; the kit's `DataTests` show what any pipeline has to."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from algoperf.data import BlockShuffledOrder, DataError, Shards
from algoperf.spec import Scale, Split
from algoperf_criteo import data
from algoperf_criteo.data import CriteoDataset, Rows, open_dataset
from algoperf_criteo.spec import CRITEO1TB, Shuffling
from algoperf_criteo.store import StoredRows, training_folder, write_rows

SIZES = (70, 1, 55, 74)
SHUFFLING = Shuffling(block=16, window=3)


def block(first, number):
    """Rows that tell their number in every column; labels that no shift of them repeats."""
    numbers = np.arange(first, first + number)
    inputs = numbers[:, None] + np.arange(39) / 64
    return inputs.astype(np.float32), labels(numbers)


def labels(numbers):
    return ((numbers * numbers) % 7 < 3).astype(np.uint8)


def stored(*sizes, first=0):
    ends = first + np.cumsum(sizes)
    return Rows([StoredRows(*block(end - size, size)) for end, size in zip(ends, sizes, strict=True)])


def numbers_of(batch):
    """The rows of a batch, after a look at all that is in it."""
    numbers = batch["inputs"][:, 0].astype(int)
    expected = block(0, 10_000)
    np.testing.assert_array_equal(batch["inputs"], expected[0][numbers])
    np.testing.assert_array_equal(batch["targets"], expected[1][numbers, None])
    assert (batch["inputs"].dtype, batch["targets"].dtype) == (np.float32, np.float32)
    return numbers


@pytest.fixture(params=[7, data.PIECE])
def dataset(request, monkeypatch):
    monkeypatch.setattr(data, "PIECE", request.param)
    spec = replace(
        CRITEO1TB.at(Scale.MINI),
        num_train_examples=200,
        num_eval_train_examples=40,
        num_validation_examples=30,
        num_test_examples=50,
        dataset=replace(CRITEO1TB.dataset, options=SHUFFLING),
    )
    splits = {Split.TRAIN: stored(*SIZES), Split.VALIDATION: stored(30, first=1_000), Split.TEST: stored(50, first=300)}
    return CriteoDataset(spec, splits)


def test_training_rows_come_in_their_order_from_all_parts(dataset):
    order = BlockShuffledOrder(200, 3, SHUFFLING.block, SHUFFLING.window)
    batches = list(islice(dataset.train(48, Shards(), seed=3), 9))
    found = np.concatenate([numbers_of(batch) for batch in batches])
    np.testing.assert_array_equal(found, order.take(0, len(found)))
    assert set(found[:200]) == set(range(200))


def test_a_process_reads_its_part_of_a_batch(dataset):
    (whole,) = islice(dataset.train(48, Shards(), seed=3), 1)
    (part,) = islice(dataset.train(48, Shards(4, range(1, 3)), seed=3), 1)
    np.testing.assert_array_equal(numbers_of(part), numbers_of(whole)[12:36])


@pytest.mark.parametrize(("split", "first", "size"), [(Split.VALIDATION, 1_000, 30), (Split.TEST, 300, 50)])
def test_an_evaluation_reads_each_row_once(dataset, split, first, size):
    batches = list(dataset.evaluation(split, 16, Shards()))
    real = [batch["weights"][:, 0] == 1 for batch in batches]
    found = [numbers_of({key: array[mask] for key, array in batch.items()}) for batch, mask in zip(batches, real)]
    np.testing.assert_array_equal(np.concatenate(found), np.arange(first, first + size))
    assert batches[0]["weights"].shape == (16, 1)


def test_evaluations_on_training_rows_read_whole_blocks_that_never_change(dataset):
    def read():
        batches = list(dataset.evaluation(Split.EVAL_TRAIN, 16, Shards()))
        return np.concatenate([batch["inputs"][batch["weights"][:, 0] == 1, 0] for batch in batches]).astype(int)

    found = read()
    np.testing.assert_array_equal(found, read())
    # Two blocks and a half, apart, in ascending order.
    assert len(np.unique(found)) == 40
    blocks = found // SHUFFLING.block
    assert np.unique(blocks, return_counts=True)[1].tolist() == [16, 16, 8]
    assert (np.diff(found) > 0).all()


def test_prepared_data_is_opened_day_after_day(tmp_path):
    for number, size in enumerate((20, 12)):
        write_rows(training_folder(tmp_path, number), size, [block(20 * number, size)])
    for name in ("validation", "test"):
        write_rows(tmp_path / name, 8, [block(0, 8)])
    # What a user may have left there.
    (tmp_path / "day_0.gz").write_bytes(b"")
    spec = replace(
        CRITEO1TB.at(Scale.MINI),
        num_train_examples=32,
        num_validation_examples=8,
        num_test_examples=8,
        dataset=replace(CRITEO1TB.dataset, options=SHUFFLING),
    )
    (batch,) = islice(open_dataset(spec, tmp_path).train(32, Shards(), seed=0), 1)
    assert sorted(numbers_of(batch)) == list(range(32))
    message = r"The train split in .* has 32 rows instead of 33; delete .* and prepare the data again\."
    with pytest.raises(DataError, match=message):
        open_dataset(replace(spec, num_train_examples=33), tmp_path)


@pytest.mark.parametrize("sizes", [{"block": 0, "window": 1}, {"block": 1, "window": 0}])
def test_nothing_cannot_be_shuffled(sizes):
    with pytest.raises(ValueError, match="Shuffling needs a row in a block and a block in a window"):
        Shuffling(**sizes)
