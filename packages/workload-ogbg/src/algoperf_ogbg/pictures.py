"""Molecules drawn from the features that a model is given, with their labels and a model's probabilities."""

from typing import Any

import numpy as np

from algoperf.data import Dataset
from algoperf.data.pictures import Picture
from algoperf.data.ragged import offsets
from algoperf_ogbg.features import BOND_TYPES, MAX_ATOMIC_NUM, MAX_CHARGE, rdkit_module
from algoperf_ogbg.metrics import sigmoid

# Pixels.
_SIZE = 280
# Tasks that a title names.
_TASKS = 4


def pictures(dataset: Dataset, batch: dict[str, Any], logits: Any = None) -> list[list[Picture]]:
    """Each real molecule, with the tasks that it has labels of.

    Args:
        dataset: not needed.
        batch: of an evaluation with one shard; see `algoperf_ogbg.data`.
        logits: float [G, tasks], or None.

    Raises:
        ImportError: rdkit is not installed.
    """
    graph = batch["inputs"]
    first_node, first_edge = offsets(graph.n_node), offsets(graph.n_edge)
    rows = []
    for i in np.flatnonzero(batch["is_real"]):
        nodes = graph.nodes[first_node[i] :][: graph.n_node[i]].astype(int)
        # The second half are the same bonds, reversed.
        bonds = slice(first_edge[i], first_edge[i] + graph.n_edge[i] // 2)
        ends = np.stack([graph.senders[bonds], graph.receivers[bonds]], axis=1) - first_node[i]
        pixels = drawn(nodes, ends, graph.edges[bonds].astype(int))
        found = None if logits is None else sigmoid(logits[i])
        rows.append([Picture(_title(batch["targets"][i], batch["weights"][i], found), pixels)])
    return rows


def drawn(nodes: np.ndarray, ends: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """A molecule.

    Args:
        nodes: features of atoms, int [N, 9].
        ends: of bonds, int [E, 2].
        edges: features of bonds, int [E, 3].

    Returns:
        uint8 [280, 280, 3].
    """
    chem = rdkit_module()
    from rdkit.Chem import Draw

    molecule = chem.RWMol()
    for number, charge, hydrogens in nodes[:, [0, 3, 4]].tolist():
        # The last class is that of all other elements; rdkit draws element 0 as "*".
        atom = chem.Atom(number + 1 if number < MAX_ATOMIC_NUM else 0)
        atom.SetFormalCharge(charge - MAX_CHARGE)
        atom.SetNumExplicitHs(hydrogens)
        atom.SetNoImplicit(True)
        molecule.AddAtom(atom)
    for (begin, end), kind in zip(ends.tolist(), edges[:, 0].tolist(), strict=True):
        name = BOND_TYPES[kind] if kind < len(BOND_TYPES) else "SINGLE"
        molecule.AddBond(begin, end, getattr(chem.BondType, name))
    return np.asarray(Draw.MolToImage(molecule, size=(_SIZE, _SIZE), kekulize=False).convert("RGB"))


def _title(targets: np.ndarray, weights: np.ndarray, found: np.ndarray | None) -> str:
    labelled = np.flatnonzero(weights)
    parts = []
    for task in labelled[:_TASKS].tolist():
        model = "" if found is None else f" (model: {found[task]:.2f})"
        parts.append(f"task {task}: {int(targets[task])}{model}")
    more = f", {len(labelled) - _TASKS} more" if len(labelled) > _TASKS else ""
    return "\n".join(parts) + more
