"""What is in a batch, what it depends on, and prepared data that is not what the workload says."""

import gc
import json
import shutil
import tracemalloc
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from scans import NUM_SLICES, SIZE, Knees, job

from algoperf.data import DataError, Shards, ShuffledOrder, fixed_subset
from algoperf.spec import Split
from algoperf.testing.compare import assert_same
from algoperf_fastmri.data import FastmriDataset, open_dataset
from algoperf_fastmri.masks import evaluation_mask, training_mask
from algoperf_fastmri.prepare import prepare_files
from algoperf_fastmri.reconstruction import normalise, zero_filled
from algoperf_fastmri.volumes import INDEX, StoredSlices

NUM_TRAIN = sum(NUM_SLICES["train"])
BATCH = 6


@pytest.fixture(scope="module")
def knees(tmp_path_factory):
    return Knees(tmp_path_factory.mktemp("knees") / "downloads")


@pytest.fixture(scope="module")
def folder(knees, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "full"
    prepare_files(job(folder, knees.folder), knees.published)
    return folder


@pytest.fixture(scope="module")
def spec(knees):
    return knees.spec()


@pytest.fixture(scope="module")
def dataset(spec, folder):
    return open_dataset(spec, folder)


def check(batch, stored, numbers, masks):
    """That the first rows of a batch are these slices, of which these columns were kept."""
    for row, (number, mask) in enumerate(zip(numbers, masks, strict=True)):
        kspace, target, volume_max = stored.read(int(number))
        image = zero_filled(kspace, mask(kspace.shape[1]), SIZE)
        inputs, targets = np.empty_like(image), np.empty_like(image)
        scale = normalise(image, target, inputs, targets)
        np.testing.assert_array_equal(batch["inputs"][row], inputs)
        np.testing.assert_array_equal(batch["targets"][row], targets)
        assert (batch["mean"][row], batch["std"][row], batch["volume_max"][row]) == (*scale, np.float32(volume_max))


def kept_in_training(scans, *keys):
    return [lambda width, key=key: training_mask(width, scans, key) for key in keys]


def kept_in_evaluations(scans, count):
    return [lambda width: evaluation_mask(width, scans)] * count


def test_training_goes_through_all_slices_in_shuffled_order(spec, dataset, folder):
    stored, seed, scans = StoredSlices(folder / "train"), 3, spec.dataset.options
    batches = iter(dataset.train(BATCH, Shards(), seed))
    # Into the third epoch.
    for start in range(0, 36, BATCH):
        batch = next(batches)
        assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
            "inputs": ((BATCH, SIZE, SIZE), "float32"),
            "targets": ((BATCH, SIZE, SIZE), "float32"),
            "mean": ((BATCH,), "float32"),
            "std": ((BATCH,), "float32"),
            "volume_max": ((BATCH,), "float32"),
        }
        numbers = ShuffledOrder(NUM_TRAIN, seed).take(start, BATCH)
        epochs = np.arange(start, start + BATCH) // NUM_TRAIN
        keys = [(seed, int(epoch), int(number)) for epoch, number in zip(epochs, numbers, strict=True)]
        check(batch, stored, numbers, kept_in_training(scans, *keys))


def inputs_by_slice(dataset, seed, epochs=4):
    """Of each training slice the inputs that it becomes, epoch after epoch."""
    found = [[] for _ in range(NUM_TRAIN)]
    numbers = iter(ShuffledOrder(NUM_TRAIN, seed).take(0, epochs * NUM_TRAIN))
    for batch in islice(dataset.train(5, Shards(), seed), epochs * NUM_TRAIN // 5):
        for inputs, number in zip(batch["inputs"], numbers):
            found[number].append(inputs.tobytes())
    return found


def test_a_slice_looks_different_in_every_epoch_and_with_every_seed(dataset):
    first, other = (inputs_by_slice(dataset, seed) for seed in (0, 1))
    assert {len(inputs) for inputs in first} == {4}
    # Of so few columns, the same ones are kept now and then.
    assert sum(len(set(inputs)) for inputs in first) > 3.5 * NUM_TRAIN
    assert sum(len(set(one) & set(another)) for one, another in zip(first, other, strict=True)) < NUM_TRAIN


def test_batches_do_not_depend_on_their_size_nor_on_threads_nor_on_devices(spec, folder, dataset):
    whole = list(islice(dataset.train(12, Shards(), seed=5), 5))
    for num_threads in (1, 5):
        splits = {Split.TRAIN: StoredSlices(folder / "train")}
        other = FastmriDataset(spec, splits, num_threads)
        for batch, again in zip(islice(other.train(12, Shards(), seed=5), 5), whole, strict=True):
            assert_same(batch, again)
    for name in whole[0]:
        expected = np.concatenate([batch[name] for batch in whole])
        small = np.concatenate([batch[name] for batch in islice(dataset.train(4, Shards(), seed=5), 15)])
        np.testing.assert_array_equal(small, expected)
        for total in (2, 4):
            parts = [
                np.concatenate([next(iter(dataset.train(12, Shards(total, range(i, i + 1)), seed=5)))[name]])
                for i in range(total)
            ]
            np.testing.assert_array_equal(np.concatenate(parts), whole[0][name])


@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
def test_evaluations_go_through_a_split_in_stored_order(spec, dataset, folder, split):
    stored, scans = StoredSlices(folder / split.value), spec.dataset.options
    first, last = dataset.evaluation(split, 4, Shards())
    check(first, stored, range(4), kept_in_evaluations(scans, 4))
    assert first["weights"].tolist() == [1] * 4
    check(last, stored, range(4, 6), kept_in_evaluations(scans, 2))
    assert last["weights"].dtype == np.float32
    assert last["weights"].tolist() == [1, 1, 0, 0]
    assert set(last) == {"inputs", "targets", "mean", "std", "volume_max", "weights"}
    for array in last.values():
        assert len(array) == 4
        assert not array[2:].any()


def test_training_is_evaluated_on_a_fixed_part_with_the_masks_of_evaluations(spec, dataset, folder):
    stored, chosen = StoredSlices(folder / "train"), fixed_subset(NUM_TRAIN, 7)
    batches = list(dataset.evaluation(Split.EVAL_TRAIN, 4, Shards()))
    assert len(batches) == 2
    check(batches[0], stored, chosen[:4], kept_in_evaluations(spec.dataset.options, 4))
    check(batches[1], stored, chosen[4:], kept_in_evaluations(spec.dataset.options, 3))
    for batch, again in zip(batches, dataset.evaluation(Split.EVAL_TRAIN, 4, Shards()), strict=True):
        assert_same(batch, again)


def test_processes_read_what_one_process_reads(dataset):
    whole = list(dataset.evaluation(Split.TEST, 4, Shards()))
    parts = [list(dataset.evaluation(Split.TEST, 4, Shards(4, range(i, i + 1)))) for i in range(4)]
    for batch, *pieces in zip(whole, *parts, strict=True):
        for name, array in batch.items():
            np.testing.assert_array_equal(np.concatenate([piece[name] for piece in pieces]), array)


def test_all_slices_are_counted(dataset):
    found = {split: dataset.num_stored(split) for split in Split}
    assert found == {Split.EVAL_TRAIN: NUM_TRAIN} | {Split(name): sum(sizes) for name, sizes in NUM_SLICES.items()}


def test_epochs_leave_nothing_in_memory(dataset):
    batches = iter(dataset.train(BATCH, Shards(), seed=0))
    for _ in islice(batches, 20):
        pass
    tracemalloc.start()
    try:
        held = []
        for count in (20, 100):
            for _ in islice(batches, count):
                pass
            # Python itself keeps small objects until then.
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # A batch takes 7 kB.
    assert held[1] - held[0] < 5_000


def test_an_error_in_a_thread_is_raised(spec, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    broken = open_dataset(spec, copy)
    for path in (copy / "validation").glob("*.h5"):
        path.write_bytes(b"no HDF5")
    with pytest.raises(DataError, match=r"Slice \d of .*copy/validation/.*\.h5 cannot be read"):
        list(broken.evaluation(Split.VALIDATION, 4, Shards()))


@pytest.mark.parametrize("split", [Split.TRAIN, Split.VALIDATION, Split.TEST])
@pytest.mark.parametrize("change", [-1, 1])
def test_splits_of_another_size_are_refused(spec, folder, split, change):
    number = spec.num_examples(split)
    other = replace(spec, **{f"num_{split.value}_examples": number + change})
    expected = f"{split.value} has {number} slices instead of {number + change}; delete {folder} and prepare"
    with pytest.raises(DataError, match=expected):
        open_dataset(other, folder)


def test_damaged_training_volumes_may_be_missing(spec, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    index = json.loads((copy / "train" / INDEX).read_text())
    index["volumes"].pop()
    (copy / "train" / INDEX).write_text(json.dumps(index))
    left = NUM_TRAIN - NUM_SLICES["train"][-1]
    with pytest.raises(DataError, match=f"train has {left} slices instead of {NUM_TRAIN}"):
        open_dataset(spec, copy)
    (copy / "train" / INDEX).write_text(json.dumps(index | {"skipped": ["one is torn"]}))
    assert open_dataset(spec, copy).num_stored(Split.TRAIN) == left
    # But there are never too many.
    with pytest.raises(DataError, match=f"train has {left} slices instead of {left - 1}"):
        open_dataset(replace(spec, num_train_examples=left - 1), copy)


def test_images_of_another_size_are_refused(spec, folder):
    options = replace(spec.dataset.options, image_size=SIZE - 1)
    with pytest.raises(DataError, match=rf"train/file\d+\.h5 has no images of {SIZE - 1} pixels a side; delete"):
        open_dataset(replace(spec, dataset=replace(spec.dataset, options=options)), folder)


def test_an_evaluation_of_more_training_slices_than_there_are_is_refused(spec, folder):
    with pytest.raises(ValueError, match="cannot look at 16 of them"):
        open_dataset(replace(spec, num_eval_train_examples=16), folder)
