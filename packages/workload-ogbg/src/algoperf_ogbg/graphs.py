"""Graphs in a batch (`GraphsTuple`) and graphs on disk (`StoredGraphs`); numpy only."""

import shutil
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from algoperf.data.ragged import offsets, runs

NUM_TASKS = 128


class GraphsTuple(NamedTuple):
    """A batch of graphs, laid end to end; fields and their order are those of jraph.

    In shapes, N, E and G are the nodes, directed edges and graphs of the batch.

    Attributes:
        nodes: features [N, 9], float32.
        edges: features [E, 3], float32.
        receivers: index into the nodes [E], int32.
        senders: index into the nodes [E], int32.
        globals: features of the graphs; an empty dict where there are none.
        n_node: nodes of each graph [G], int32.
        n_edge: edges of each graph [G], int32.
    """

    nodes: Any
    edges: Any
    receivers: Any
    senders: Any
    globals: Any
    n_node: Any
    n_edge: Any


@dataclass(frozen=True)
class StoredGraphs:
    """Molecules as they lie on disk: one .npy file per field, without a word for what one byte can say.

    Each bond is stored once, and the ends of a bond count from its own molecule's first atom, so that any molecules
    in any order are a copy of rows. In shapes, N, E and G are the atoms, bonds and molecules.

    Attributes:
        nodes: features of the atoms [N, 9], uint8 (see `algoperf_ogbg.features`).
        edges: features of the bonds [E, 3], uint8.
        senders: atom that a bond begins at [E], uint16.
        receivers: atom that it ends at [E], uint16.
        num_nodes: atoms of each molecule [G], int32.
        num_edges: bonds of each molecule [G], int32.
        labels: 1, 0, or -1 where nobody measured [G, 128], int8.
    """

    nodes: np.ndarray
    edges: np.ndarray
    senders: np.ndarray
    receivers: np.ndarray
    num_nodes: np.ndarray
    num_edges: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.num_nodes)

    @cached_property
    def first_node(self) -> np.ndarray:
        """Row of each molecule's first atom. Shape [G], int64."""
        return offsets(self.num_nodes)

    @cached_property
    def first_edge(self) -> np.ndarray:
        """Row of each molecule's first bond. Shape [G], int64."""
        return offsets(self.num_edges)

    def take(self, indices: np.ndarray) -> "StoredGraphs":
        """The molecules at `indices` [any number], in that order."""
        num_nodes, num_edges = self.num_nodes[indices], self.num_edges[indices]
        nodes = runs(self.first_node[indices], num_nodes)
        edges = runs(self.first_edge[indices], num_edges)
        return StoredGraphs(
            nodes=self.nodes.take(nodes, axis=0),
            edges=self.edges.take(edges, axis=0),
            senders=self.senders.take(edges),
            receivers=self.receivers.take(edges),
            num_nodes=num_nodes,
            num_edges=num_edges,
            labels=self.labels.take(indices, axis=0),
        )

    def save(self, folder: Path) -> None:
        """Writes the files into a folder that appears when all of them are complete."""
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for field in fields(self):
            np.save(temporary / f"{field.name}.npy", np.ascontiguousarray(getattr(self, field.name)))
        temporary.replace(folder)

    @classmethod
    def load(cls, folder: Path) -> "StoredGraphs":
        """The molecules that `save` wrote; memory-mapped but for the counts, which every batch looks at."""
        arrays = {field.name: np.load(files_of(folder)[field.name], mmap_mode="r") for field in fields(cls)}
        counts = {name: np.array(arrays[name]) for name in ("num_nodes", "num_edges")}
        return cls(**{name: np.asarray(array) for name, array in (arrays | counts).items()})


def files_of(folder: Path) -> dict[str, Path]:
    """The file of each field of the molecules in `folder`."""
    return {field.name: folder / f"{field.name}.npy" for field in fields(StoredGraphs)}
