"""Packing: what a batch holds, and that each molecule comes exactly once, however many devices there are."""

from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf.data import DataError, Shards
from algoperf.spec import Scale, Split
from algoperf_ogbg.data import OgbgDataset, open_dataset
from algoperf_ogbg.graphs import GraphsTuple, StoredGraphs
from algoperf_ogbg.spec import OGBG, Batching

NODES_PER_GRAPH, EDGES_PER_GRAPH = 6, 10
NUM_EXAMPLES = {"train": 61, "eval_train": 20, "validation": 37, "test": 23}
SPEC = replace(
    OGBG.at(Scale.MINI),
    **{f"num_{split}_examples": number for split, number in NUM_EXAMPLES.items()},
    dataset=replace(
        OGBG.at(Scale.MINI).dataset,
        options=Batching(nodes_per_graph=NODES_PER_GRAPH, edges_per_graph=EDGES_PER_GRAPH),
    ),
)

shard_counts = st.sampled_from([1, 2, 4])
block_sizes = st.integers(2, 9)
packing = settings(deadline=None, max_examples=30)


def random_graphs(seed, number):
    """Molecules of 1 to 12 atoms and 0 to 10 bonds, each with its number in its first atom's last feature."""
    rng = np.random.default_rng(seed)
    num_nodes = rng.integers(1, 13, number, np.int32)
    num_edges = rng.integers(0, 11, number, np.int32)
    nodes = rng.integers(0, 119, (num_nodes.sum(), 9), np.uint8)
    nodes[np.cumsum(num_nodes) - num_nodes, -1] = np.arange(number)
    ends = rng.integers(0, 2**15, (2, num_edges.sum())) % np.repeat(num_nodes, num_edges)
    return StoredGraphs(
        nodes=nodes,
        edges=rng.integers(0, 6, (num_edges.sum(), 3), np.uint8),
        senders=ends[0].astype(np.uint16),
        receivers=ends[1].astype(np.uint16),
        num_nodes=num_nodes,
        num_edges=num_edges,
        labels=rng.integers(-1, 2, (number, 128), np.int8),
    )


SPLITS = {
    split: random_graphs(i, NUM_EXAMPLES[split.value])
    for i, split in enumerate((Split.TRAIN, Split.VALIDATION, Split.TEST))
}
DATASET = OgbgDataset(SPEC, SPLITS)


def blocks_of(batch, size, shift=0):
    """The blocks of a batch, each with node indices from 0 on; `size` graphs fit into one."""
    num_blocks = len(batch["targets"]) // (size + 1)
    inputs = batch["inputs"]
    parts = {name: np.split(getattr(inputs, name), num_blocks) for name in GraphsTuple._fields if name != "globals"}
    for i in range(num_blocks):
        block = {name: arrays[i] for name, arrays in parts.items()}
        first = shift + i * (NODES_PER_GRAPH * size + 1)
        block |= {name: block[name] - first for name in ("senders", "receivers")}
        others = {name: np.split(batch[name], num_blocks)[i] for name in ("targets", "weights", "is_real")}
        yield GraphsTuple(**block, globals={}), others


def decode(block, others, stored):
    """The molecules in a block, after checking everything in it against the stored molecules, one by one."""
    first_node = np.cumsum(block.n_node) - block.n_node
    first_edge = np.cumsum(block.n_edge) - block.n_edge
    num_real = int(others["is_real"].sum())
    assert (others["is_real"] == (np.arange(len(block.n_node)) < num_real)).all()
    found = []
    for graph in range(num_real):
        nodes = slice(first_node[graph], first_node[graph] + block.n_node[graph])
        edges = slice(first_edge[graph], first_edge[graph] + block.n_edge[graph])
        number = int(block.nodes[nodes][0, -1])
        expected = stored.take(np.array([number]))
        begin, end = expected.senders + first_node[graph], expected.receivers + first_node[graph]
        np.testing.assert_array_equal(block.nodes[nodes], expected.nodes)
        np.testing.assert_array_equal(block.edges[edges], np.concatenate([expected.edges] * 2))
        np.testing.assert_array_equal(block.senders[edges], np.concatenate([begin, end]))
        np.testing.assert_array_equal(block.receivers[edges], np.concatenate([end, begin]))
        np.testing.assert_array_equal(others["targets"][graph], expected.labels[0] == 1)
        np.testing.assert_array_equal(others["weights"][graph], expected.labels[0] != -1)
        found.append(number)
    return found


def evaluated(split, size, shards):
    """Which molecules an evaluation sees, in order, and in how many batches."""
    stored = SPLITS[Split.TRAIN if split is Split.EVAL_TRAIN else split]
    batches = list(DATASET.evaluation(split, size * shards.total, shards))
    return [
        [number for block, others in blocks_of(batch, size) for number in decode(block, others, stored)]
        for batch in batches
    ]


@packing
@given(st.sampled_from([Split.EVAL_TRAIN, Split.VALIDATION, Split.TEST]), block_sizes, shard_counts)
def test_an_evaluation_sees_each_molecule_once_in_order(split, size, total):
    per_batch = evaluated(split, size, Shards(total, range(total)))
    seen = [number for batch in per_batch for number in batch]
    assert len(seen) == NUM_EXAMPLES[split.value]
    assert seen == sorted(set(seen))


@packing
@given(block_sizes, shard_counts)
def test_processes_that_feed_one_device_see_together_what_one_process_sees(size, total):
    whole = evaluated(Split.VALIDATION, size, Shards(total, range(total)))
    parts = [evaluated(Split.VALIDATION, size, Shards(total, range(i, i + 1))) for i in range(total)]
    assert {len(part) for part in parts} == {len(whole)}
    assert [list(chain(*batches)) for batches in zip(*parts)] == whole


@packing
@given(block_sizes, st.sampled_from([2, 4]), st.integers(0, 500), st.integers(0, 3))
def test_a_process_s_blocks_are_those_of_the_whole(size, total, position, seed):
    whole, after = DATASET.train(size * total, Shards(total, range(total)), seed)._read(position)
    for first in range(total):
        local = range(first, total)
        part, part_after = DATASET.train(size * total, Shards(total, local), seed)._read(position)
        assert part_after == after
        expected = list(blocks_of(whole, size))[first:]
        for (block, others), (expected_block, expected_others) in zip(blocks_of(part, size), expected, strict=True):
            for name in ("nodes", "edges", "senders", "receivers", "n_node", "n_edge"):
                np.testing.assert_array_equal(getattr(block, name), getattr(expected_block, name))
            for name, array in others.items():
                np.testing.assert_array_equal(array, expected_others[name])


@packing
@given(block_sizes, shard_counts, st.integers(0, 500))
def test_the_padding_of_a_block(size, total, position):
    batch, _ = DATASET.train(size * total, Shards(total, range(total)), 0)._read(position)
    for block, others in blocks_of(batch, size):
        real = int(others["is_real"].sum())
        nodes, edges = block.n_node[:real].sum(), block.n_edge[:real].sum()
        assert block.nodes.shape == (NODES_PER_GRAPH * size + 1, 9)
        assert block.edges.shape == (EDGES_PER_GRAPH * size, 3)
        assert others["targets"].shape == others["weights"].shape == (size + 1, 128)
        assert block.n_node[real] == len(block.nodes) - nodes >= 1
        assert block.n_edge[real] == len(block.edges) - edges >= 0
        assert not block.n_node[real + 1 :].any()
        assert not block.n_edge[real + 1 :].any()
        assert (block.senders[edges:] == nodes).all()
        assert (block.receivers[edges:] == nodes).all()
        for padding in (block.nodes[nodes:], block.edges[edges:], others["targets"][real:], others["weights"][real:]):
            assert not padding.any()


@packing
@given(block_sizes, shard_counts, st.integers(0, 500))
def test_a_block_ends_only_where_the_next_molecule_does_not_fit(size, total, position):
    shards = Shards(total, range(total))
    stored = SPLITS[Split.TRAIN]
    order = []
    batches = DATASET.train(size * total, shards, 0)
    batch, end = batches._read(position)
    following, _ = batches._read(end)
    for block, others in [*blocks_of(batch, size), *blocks_of(following, size)]:
        order.append(decode(block, others, stored))
    for block, following_block in pairwise(order[: total + 1]):
        molecules = np.array([*block, following_block[0]])
        assert (
            len(molecules) > size
            or stored.num_nodes[molecules].sum() > NODES_PER_GRAPH * size
            or 2 * stored.num_edges[molecules].sum() > EDGES_PER_GRAPH * size
        )
    assert end == position + sum(len(block) for block in order[:total])


def test_training_sees_each_molecule_once_per_pass_and_shuffles_them_by_the_seed():
    def first_molecules(seed, number):
        batches, seen = iter(DATASET.train(8, Shards(), seed)), []
        while len(seen) < number:
            for block, others in blocks_of(next(batches), 8):
                seen += decode(block, others, SPLITS[Split.TRAIN])
        return seen[:number]

    passes = np.reshape(first_molecules(0, 122), (2, 61))
    assert (np.sort(passes) == np.arange(61)).all()
    assert (passes[0] != passes[1]).any()
    assert first_molecules(1, 61) != passes[0].tolist()


@packing
@given(st.integers(0, 40), st.sampled_from([Split.TRAIN, Split.VALIDATION]))
def test_a_stream_goes_on_where_it_was(steps, split):
    def stream():
        return iter(
            DATASET.train(6, Shards(2, range(2)), 3)
            if split is Split.TRAIN
            else DATASET.evaluation(split, 6, Shards(2, range(2)))
        )

    steps = steps if split is Split.TRAIN else steps % 4
    one, other = stream(), stream()
    for _ in range(steps):
        next(one)
    other.set_state(one.get_state())
    expected, actual = next(one), next(other)
    np.testing.assert_equal(actual, expected)


def test_dtypes_and_keys():
    batch = next(iter(DATASET.train(8, Shards(), 0)))
    assert list(batch) == ["inputs", "targets", "weights", "is_real"]
    inputs = batch["inputs"]
    assert inputs.globals == {}
    assert inputs._fields == ("nodes", "edges", "receivers", "senders", "globals", "n_node", "n_edge")
    assert {a.dtype for a in (inputs.receivers, inputs.senders, inputs.n_node, inputs.n_edge)} == {np.dtype(np.int32)}
    floats = (inputs.nodes, inputs.edges, batch["targets"], batch["weights"], batch["is_real"])
    assert {a.dtype for a in floats} == {np.dtype(np.float32)}


def test_a_molecule_that_fits_into_no_block_is_refused_at_once():
    with pytest.raises(ValueError, match="room for 6 nodes and 10 edges, and single molecules have up to 12 and 20"):
        DATASET.train(1, Shards(), 0)


def test_the_training_molecules_of_evaluations_are_a_fixed_sample():
    first, second = (list(chain(*evaluated(Split.EVAL_TRAIN, size, Shards()))) for size in (3, 8))
    assert first == second
    assert first != list(range(20))


def test_molecules_come_back_from_disk_as_they_were(tmp_path):
    for split, graphs in SPLITS.items():
        graphs.save(tmp_path / split.value)
    dataset = open_dataset(SPEC, tmp_path)
    for read in (lambda d: d.train(8, Shards(), 0), lambda d: d.evaluation(Split.TEST, 8, Shards())):
        np.testing.assert_equal(next(iter(read(dataset))), next(iter(read(DATASET))))


def test_a_split_of_the_wrong_size_is_refused(tmp_path):
    for split, graphs in SPLITS.items():
        graphs.save(tmp_path / split.value)
    with pytest.raises(DataError, match="23 molecules instead of 24"):
        open_dataset(replace(SPEC, num_test_examples=24), tmp_path)
