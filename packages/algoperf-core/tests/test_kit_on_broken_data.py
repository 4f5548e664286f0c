"""The conformance kit finds broken data, one defect after the other."""

import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from algoperf.data import Batches, Dataset, array_batches
from algoperf.spec import Scale, Split
from algoperf.testing import toy
from algoperf.testing.conformance import DataTests


class Toy(Dataset):
    """The toy's data, as the broken ones change it."""

    def __init__(self, spec):
        self.spec = spec
        self.points = toy.points(spec, Split.TRAIN, np.arange(spec.num_train_examples))

    def load(self, indices, positions=None):
        return {name: array[indices] for name, array in self.points.items()}

    def train(self, global_batch_size, shards, seed):
        return array_batches(self.load, self.spec.num_train_examples, global_batch_size, shards, seed)

    def num_stored(self, split):
        return self.spec.num_examples(split)

    def evaluation(self, split, global_batch_size, shards):
        return array_batches(self.load, self.spec.num_examples(split), global_batch_size, shards)


class Ragged(Toy):
    def train(self, global_batch_size, shards, seed):
        return Batches(lambda position: (self.load(np.arange(8 + 8 * (position % 2))), position + 1))


class PerDeviceOrder(Toy):
    def train(self, global_batch_size, shards, seed):
        return super().train(global_batch_size, shards, seed + shards.total)


class PerProcessOrder(Toy):
    def train(self, global_batch_size, shards, seed):
        return super().train(global_batch_size, shards, seed + shards.local.start)


class NoSeed(Toy):
    def train(self, global_batch_size, shards, seed):
        return super().train(global_batch_size, shards, 0)


class DropsTheLastBatch(Toy):
    def evaluation(self, split, global_batch_size, shards):
        whole = self.spec.num_examples(split) // global_batch_size * global_batch_size
        return array_batches(self.load, whole, global_batch_size, shards)


class WeighsPadding(Toy):
    def evaluation(self, split, global_batch_size, shards):
        read = super().evaluation(split, global_batch_size, shards)._read

        def weigh(position):
            result = read(position)
            return result and ({**result[0], "weights": np.ones_like(result[0]["weights"])}, result[1])

        return Batches(weigh)


class UnequalCounts(Toy):
    def evaluation(self, split, global_batch_size, shards):
        indices = np.arange(self.spec.num_examples(split))[shards.local.start :: shards.total]
        return array_batches(lambda i, positions: self.load(indices[i]), len(indices), 2, replace(shards, total=1))


class Counting(Toy):
    """Its batches depend on how many were read before."""

    def train(self, global_batch_size, shards, seed):
        count = iter(range(10**6))
        return Batches(lambda position: (self.load(np.arange(8) + next(count)), position + 1))


class Reusing(Toy):
    def train(self, global_batch_size, shards, seed):
        batch = self.load(np.arange(8))

        def read(position):
            batch["inputs"][:] = position
            return batch, position + 1

        return Batches(read)


class Leaking(Toy):
    kept: list = []

    def train(self, global_batch_size, shards, seed):
        def read(position):
            self.kept.append(np.ones(10_000))
            return self.load(np.arange(8)), position + 1

        return Batches(read)


@pytest.mark.parametrize(
    ("test", "dataset", "arguments"),
    [
        ("test_one_process_reads_what_several_read_together", PerProcessOrder, {"total": 2}),
        ("test_training_examples_come_in_one_order", PerDeviceOrder, {"total": 2}),
        ("test_each_evaluation_example_is_read_once", DropsTheLastBatch, {"split": Split.TEST, "total": 1}),
        ("test_each_evaluation_example_is_read_once", WeighsPadding, {"split": Split.TEST, "total": 1}),
        ("test_every_process_gets_as_many_evaluation_batches", UnequalCounts, {"split": Split.TEST}),
        ("test_all_batches_have_one_shape", Ragged, {}),
        ("test_a_resumed_queue_goes_on_where_it_was", Counting, {"data_dir": None, "done": 1}),
        ("test_the_seed_decides_the_order", NoSeed, {"data_dir": None}),
        ("test_a_batch_is_not_overwritten_by_the_next", Reusing, {}),
        ("test_memory_does_not_grow", Leaking, {}),
    ],
)
def test_broken_data_is_found(monkeypatch, test, dataset, arguments):
    module = ModuleType("broken_toys")
    module.open_broken = lambda spec, folder: dataset(spec)
    monkeypatch.setitem(sys.modules, "broken_toys", module)
    spec = toy.TOY.at(Scale.MINI)
    spec = replace(spec, dataset=replace(spec.dataset, open="broken_toys:open_broken"))
    case = type("Case", (DataTests,), {"workload_name": "toy"})()
    with pytest.raises(AssertionError):
        getattr(case, test)(spec, dataset(spec), **arguments)
