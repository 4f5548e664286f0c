"""What the data of every workload has to satisfy, for both frameworks at once: numpy only."""

import itertools
import json
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from algoperf import registry
from algoperf.data import Batches, Dataset, Shards
from algoperf.data.preparation import open_prepared
from algoperf.data.queue import InputQueue
from algoperf.spec import Scale, Split, WorkloadSpec
from algoperf.testing.compare import assert_same, leaves
from algoperf.testing.standard import StandardTests

TOTALS = pytest.mark.parametrize("total", [1, 2, 4])
EVAL_SPLITS = pytest.mark.parametrize("split", [Split.EVAL_TRAIN, Split.VALIDATION, Split.TEST], ids=str)
NUM_BATCHES = 6
MEMORY_BATCHES = 200
MAX_GROWTH_BYTES = 4 * 2**20


class DataTests(StandardTests):
    """The data of a workload, at mini scale in the folder of the fixture `data_dir`.

    Attributes:
        workload_name: name of the workload.
        spec_changes: fields of the mini spec that are different here.
        example_keys: entries of a batch whose rows say nothing about other rows, unlike indices into the batch.
    """

    workload_name: str
    spec_changes: ClassVar[Mapping[str, Any]] = {}
    example_keys: ClassVar[tuple[str, ...]] = ("inputs", "targets", "weights")

    @pytest.fixture
    def spec(self) -> WorkloadSpec:
        """The facts at mini scale."""
        return replace(registry.workload_spec(self.workload_name).at(Scale.MINI), **self.spec_changes)

    @pytest.fixture
    def dataset(self, spec: WorkloadSpec, data_dir: Path | None) -> Dataset:
        """The data, opened."""
        return open_prepared(spec, data_dir)

    @TOTALS
    def test_one_process_reads_what_several_read_together(
        self, spec: WorkloadSpec, dataset: Dataset, total: int
    ) -> None:
        """JAX, which feeds all devices from one process, would train on other batches than PyTorch, which has many."""
        whole = take(_train(spec, dataset, Shards(total, range(total))))
        parts = [take(_train(spec, dataset, shard)) for shard in _apart(total)]
        for batch, *pieces in zip(whole, *parts, strict=True):
            for key in set(self.example_keys) & set(batch):
                for array, *arrays in zip(leaves(batch[key]), *(leaves(p[key]) for p in pieces), strict=True):
                    np.testing.assert_array_equal(array, np.concatenate(arrays), err_msg=key)

    @TOTALS
    def test_training_examples_come_in_one_order(self, spec: WorkloadSpec, dataset: Dataset, total: int) -> None:
        """On more devices other examples are read, or in another order, so that a seed means another run there."""
        expected = _examples(take(_train(spec, dataset, Shards())))
        found = _examples(take(_train(spec, dataset, Shards(total, range(total)))))
        count = min(len(expected), len(found))
        assert count > 0
        assert found[:count] == expected[:count]

    @TOTALS
    @EVAL_SPLITS
    def test_each_evaluation_example_is_read_once(
        self, spec: WorkloadSpec, dataset: Dataset, split: Split, total: int
    ) -> None:
        """An example is left out or counted twice on some number of devices, or some batch's padding has a weight."""
        expected = _examples(list(dataset.evaluation(split, spec.eval_batch_size, Shards())))
        found = _examples(list(dataset.evaluation(split, spec.eval_batch_size, Shards(total, range(total)))))
        assert len(found) == spec.num_examples(split)
        assert found == expected

    def test_all_examples_are_stored(self, spec: WorkloadSpec, dataset: Dataset) -> None:
        """The prepared data has another size than the spec says, or `num_stored` counts wrongly."""
        stored = {split: dataset.num_stored(split) for split in Split}
        assert stored == {
            split: spec.num_examples(Split.TRAIN if split is Split.EVAL_TRAIN else split) for split in Split
        }

    @EVAL_SPLITS
    def test_every_process_gets_as_many_evaluation_batches(
        self, spec: WorkloadSpec, dataset: Dataset, split: Split
    ) -> None:
        """A process would wait for ever for others that have no batch left; give it one of padding alone."""
        counts = {len(list(dataset.evaluation(split, spec.eval_batch_size, shard))) for shard in _apart(4)}
        assert len(counts) == 1

    def test_all_batches_have_one_shape(self, spec: WorkloadSpec, dataset: Dataset) -> None:
        """A batch has other shapes or types than the one before, so that JAX compiles again; pad it."""
        assert len({_form(batch) for batch in take(_train(spec, dataset, Shards()), 20)}) == 1
        assert (
            len({_form(batch) for batch in dataset.evaluation(Split.VALIDATION, spec.eval_batch_size, Shards())}) == 1
        )

    @pytest.mark.parametrize("done", [1, 7])
    def test_a_resumed_queue_goes_on_where_it_was(
        self, spec: WorkloadSpec, dataset: Dataset, data_dir: Path | None, done: int
    ) -> None:
        """The reader has state besides its position, so that a resumed run trains on other batches."""
        with InputQueue(_train(spec, dataset, Shards()), place=lambda batch: batch) as queue:
            list(itertools.islice(queue, done))
            state = json.loads(json.dumps(queue.state()))
            expected = list(itertools.islice(queue, NUM_BATCHES))
        reopened = open_prepared(spec, data_dir)
        with InputQueue(_train(spec, reopened, Shards()), lambda batch: batch, state) as queue:
            for found, batch in zip(itertools.islice(queue, NUM_BATCHES), expected, strict=True):
                assert_same(found, batch)

    def test_the_seed_decides_the_order(self, spec: WorkloadSpec, dataset: Dataset, data_dir: Path | None) -> None:
        """The same seed gives other batches, or another seed the same ones."""
        first = take(_train(spec, dataset, Shards(), seed=1))
        for batch, again in zip(
            first, take(_train(spec, open_prepared(spec, data_dir), Shards(), seed=1)), strict=True
        ):
            assert_same(again, batch)
        assert _examples(first) != _examples(take(_train(spec, dataset, Shards(), seed=2)))

    def test_a_batch_is_not_overwritten_by_the_next(self, spec: WorkloadSpec, dataset: Dataset) -> None:
        """The reader reuses its arrays, while a batch may still be on its way to a device."""
        batches = iter(_train(spec, dataset, Shards()))
        batch = next(batches)
        copies = [array.copy() for array in leaves(batch)]
        list(itertools.islice(batches, 3))
        for array, copied in zip(leaves(batch), copies, strict=True):
            np.testing.assert_array_equal(array, copied)

    def test_memory_does_not_grow(self, spec: WorkloadSpec, dataset: Dataset) -> None:
        """The reader keeps something of each batch; a long trial would run out of memory."""
        batches = iter(_train(spec, dataset, Shards()))
        list(itertools.islice(batches, 20))
        tracemalloc.start()
        try:
            next(batches)
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(MEMORY_BATCHES):
                next(batches)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < MAX_GROWTH_BYTES


def take(batches: Batches, count: int = NUM_BATCHES) -> list[Any]:
    """The first batches."""
    return list(itertools.islice(iter(batches), count))


def _train(spec: WorkloadSpec, dataset: Dataset, shards: Shards, seed: int = 0) -> Any:
    assert spec.batch_size is not None
    return dataset.train(spec.batch_size, shards, seed)


def _apart(total: int) -> list[Shards]:
    """One process for each device."""
    return [Shards(total, range(number, number + 1)) for number in range(total)]


def _examples(batches: list[Any]) -> list[bytes]:
    """Targets and weights of each example that counts, in the order of the rows."""
    rows = []
    for batch in batches:
        targets = batch["targets"]
        weights = batch.get("weights", np.ones(len(targets), np.float32))
        counts = weights.reshape(len(targets), -1).any(axis=1)
        rows += [t.tobytes() + w.tobytes() for t, w in zip(targets[counts], weights[counts], strict=True)]
    return rows


def _form(batch: Any) -> tuple[Any, ...]:
    return tuple((array.shape, array.dtype.str) for array in leaves(batch))
