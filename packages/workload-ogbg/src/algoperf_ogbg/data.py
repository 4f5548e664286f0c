"""The data pipeline of OGBG: molecules packed into batches of fixed shape.

A device's block has room for `nodes_per_graph * b` nodes, `edges_per_graph * b` directed edges and `b` graphs, where
`b` is its share of the global batch size. Molecules are taken in order until the next one does not fit; that one begins
the next block. So a block holds a varying number of them, which is a function of the place in the order alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from algoperf.data import Batches, DataError, Dataset, Shards, ShuffledOrder, fixed_subset
from algoperf.data.batches import Batch
from algoperf.data.ragged import offsets, runs
from algoperf.spec import Split, WorkloadSpec
from algoperf_ogbg.graphs import NUM_TASKS, GraphsTuple, StoredGraphs
from algoperf_ogbg.spec import EDGE_FEATURES, NODE_FEATURES

STORED_SPLITS = (Split.TRAIN, Split.VALIDATION, Split.TEST)


@dataclass(frozen=True)
class Capacity:
    """What a block has room for, beside its padding: nodes, directed edges and graphs."""

    nodes: int
    edges: int
    graphs: int


class OgbgDataset(Dataset):
    """The molecules of ogbg-molpcba, or of the mini data, in padded batches.

    A batch is `inputs`, a `GraphsTuple` with features as float32, indices and counts as int32 and no globals; `targets`
    [G, 128] float32, 0 where nobody measured; `weights` [G, 128] float32, 1 where somebody did; and `is_real` [G]
    float32, 1 but for padding, by which an evaluation shows that it counted every molecule once. Each block is
    padded to `capacity.nodes + 1` nodes, `capacity.edges` edges and `capacity.graphs + 1` graphs; its first padding
    graph takes all of its padding nodes and edges, which connect the first padding node with itself.
    """

    def __init__(self, spec: WorkloadSpec, splits: Mapping[Split, StoredGraphs]) -> None:
        self._spec = spec
        self._splits = splits

    def train(self, global_batch_size: int, shards: Shards, seed: int) -> Batches:
        """Endless shuffled batches; the local shards' blocks. Raises ValueError if a molecule fits into no block."""
        graphs = self._splits[Split.TRAIN]
        capacity = self._capacity(global_batch_size, shards, graphs)
        order = ShuffledOrder(len(graphs), seed)

        def read(position: int) -> tuple[Batch, int]:
            candidates = order.take(position, global_batch_size)
            batch, taken = pack(graphs, candidates, capacity, shards)
            return batch, position + taken

        return Batches(read)

    def evaluation(self, split: Split, global_batch_size: int, shards: Shards) -> Batches:
        """Each molecule of a split once, in stored order; blocks at the end may be all padding."""
        graphs = self._splits[Split.TRAIN if split is Split.EVAL_TRAIN else split]
        capacity = self._capacity(global_batch_size, shards, graphs)
        size = self._spec.num_examples(split)
        order = fixed_subset(len(graphs), size) if split is Split.EVAL_TRAIN else np.arange(size)

        def read(position: int) -> tuple[Batch, int] | None:
            if position >= len(order):
                return None
            batch, taken = pack(graphs, order[position : position + global_batch_size], capacity, shards)
            return batch, position + taken

        return Batches(read)

    def num_stored(self, split: Split) -> int:
        """How many molecules the stored split has."""
        return len(self._splits[Split.TRAIN if split is Split.EVAL_TRAIN else split])

    def _capacity(self, global_batch_size: int, shards: Shards, graphs: StoredGraphs) -> Capacity:
        size = global_batch_size // shards.total
        room = self._spec.dataset.options
        capacity = Capacity(nodes=room.nodes_per_graph * size, edges=room.edges_per_graph * size, graphs=size)
        nodes, edges = graphs.num_nodes.max(), 2 * graphs.num_edges.max()
        if nodes > capacity.nodes or edges > capacity.edges:
            raise ValueError(
                f"{self._spec.name}: a batch size of {size} per device has room for {capacity.nodes} nodes and "
                f"{capacity.edges} edges, and single molecules have up to {nodes} and {edges}; use a larger batch size."
            )
        return capacity


def open_dataset(spec: WorkloadSpec, folder: Path) -> OgbgDataset:
    """Opens prepared data. Raises DataError if a split has not as many molecules as the workload says."""
    splits = {split: StoredGraphs.load(folder / split.value) for split in STORED_SPLITS}
    for split, graphs in splits.items():
        if len(graphs) != spec.num_examples(split):
            raise DataError(
                f"{folder / split.value} has {len(graphs)} molecules instead of {spec.num_examples(split)}; "
                f"delete {folder} and prepare the data again."
            )
    return OgbgDataset(spec, splits)


def pack(graphs: StoredGraphs, candidates: np.ndarray, capacity: Capacity, shards: Shards) -> tuple[Batch, int]:
    """The local shards' blocks of a global batch.

    Node indices count from the first local block on, so that they hold in the arrays of all local blocks together.

    Args:
        graphs: where the molecules are.
        candidates: which come next, in order [up to `shards.total * capacity.graphs`].
        capacity: what a block has room for.
        shards: how many blocks there are, and which are wanted.

    Returns:
        The batch, and how many of the candidates the blocks of *all* shards hold.
    """
    bounds = block_bounds(graphs.num_nodes[candidates], graphs.num_edges[candidates], capacity, shards.total)
    # Else an evaluation would never end; `OgbgDataset` has refused molecules that fit into no block.
    assert bounds[-1] > 0
    blocks = [
        _block(graphs.take(candidates[bounds[shard] : bounds[shard + 1]]), capacity, shift * (capacity.nodes + 1))
        for shift, shard in enumerate(shards.local)
    ]
    inputs, targets, weights, is_real = zip(*blocks, strict=True)
    arrays = {
        name: np.concatenate([getattr(block, name) for block in inputs])
        for name in GraphsTuple._fields
        if name != "globals"
    }
    batch = {
        "inputs": GraphsTuple(**arrays, globals={}),
        "targets": np.concatenate(targets),
        "weights": np.concatenate(weights),
        "is_real": np.concatenate(is_real),
    }
    return batch, bounds[-1]


def block_bounds(num_nodes: np.ndarray, num_edges: np.ndarray, capacity: Capacity, num_blocks: int) -> list[int]:
    """Where each block begins and the last one ends, in a sequence of molecules of which each fits into a block."""
    nodes = np.concatenate([[0], np.cumsum(num_nodes, dtype=np.int64)])
    edges = np.concatenate([[0], np.cumsum(2 * num_edges, dtype=np.int64)])
    bounds = [0]
    for _ in range(num_blocks):
        start = bounds[-1]
        by_nodes = np.searchsorted(nodes, nodes[start] + capacity.nodes, side="right") - 1
        by_edges = np.searchsorted(edges, edges[start] + capacity.edges, side="right") - 1
        bounds.append(int(min(by_nodes, by_edges, start + capacity.graphs)))
    return bounds


def _block(
    graphs: StoredGraphs, capacity: Capacity, shift: int
) -> tuple[GraphsTuple, np.ndarray, np.ndarray, np.ndarray]:
    """One padded block: its graphs (node indices begin at `shift`), targets, weights and which graphs are real."""
    size, num_nodes = len(graphs), len(graphs.nodes)
    targets = np.zeros((capacity.graphs + 1, NUM_TASKS), np.float32)
    weights = np.zeros_like(targets)
    targets[:size] = graphs.labels == 1
    weights[:size] = graphs.labels >= 0
    nodes = np.zeros((capacity.nodes + 1, NODE_FEATURES), np.float32)
    nodes[:num_nodes] = graphs.nodes
    n_node = _counts(graphs.num_nodes, capacity.nodes + 1, capacity.graphs + 1)
    n_edge = _counts(2 * graphs.num_edges, capacity.edges, capacity.graphs + 1)
    directed = _directed_edges(graphs, capacity, shift)
    is_real = (np.arange(capacity.graphs + 1) < size).astype(np.float32)
    return GraphsTuple(nodes=nodes, globals={}, n_node=n_node, n_edge=n_edge, **directed), targets, weights, is_real


def _counts(real: np.ndarray, total: int, length: int) -> np.ndarray:
    """Counts of the real graphs, then what is missing to `total`, then zeros. Shape [length], int32."""
    counts = np.zeros(length, np.int32)
    counts[: len(real)] = real
    counts[len(real)] = total - real.sum()
    return counts


def _directed_edges(graphs: StoredGraphs, capacity: Capacity, shift: int) -> dict[str, Any]:
    """The edges of a block: of each molecule all bonds as they are stored, then all bonds reversed."""
    counts = graphs.num_edges
    node_offsets = np.repeat(offsets(graphs.num_nodes) + shift, counts)
    begin, end = graphs.senders + node_offsets, graphs.receivers + node_offsets
    forward = runs(2 * offsets(counts), counts)
    backward = forward + np.repeat(counts, counts)
    first_padding_node = shift + len(graphs.nodes)
    senders = np.full(capacity.edges, first_padding_node, np.int32)
    receivers = np.full(capacity.edges, first_padding_node, np.int32)
    senders[forward], receivers[forward] = begin, end
    senders[backward], receivers[backward] = end, begin
    edges = np.zeros((capacity.edges, EDGE_FEATURES), np.float32)
    edges[forward] = edges[backward] = graphs.edges
    return {"edges": edges, "senders": senders, "receivers": receivers}
