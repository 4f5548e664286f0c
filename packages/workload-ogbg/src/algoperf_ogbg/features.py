"""Molecules as graphs of integer features: those of the Open Graph Benchmark (https://arxiv.org/abs/2005.00687).

A feature is the place of its value in a list; a value that is in no list takes the place after the last.
rdkit is imported when the first molecule is read.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from algoperf_ogbg.spec import EDGE_FEATURES, NODE_FEATURES

CHIRALITIES = ("CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER")
HYBRIDIZATIONS = ("SP", "SP2", "SP3", "SP3D", "SP3D2")
BOND_TYPES = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
BOND_STEREOS = ("STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS", "STEREOANY")
MAX_ATOMIC_NUM = 118
MAX_DEGREE = 10
MAX_CHARGE = 5
MAX_HYDROGENS = 8
MAX_RADICALS = 4


class Molecules(NamedTuple):
    """Several molecules' features, end to end (shapes and dtypes as in `StoredGraphs`), and their scaffolds."""

    nodes: np.ndarray
    edges: np.ndarray
    senders: np.ndarray
    receivers: np.ndarray
    num_nodes: np.ndarray
    num_edges: np.ndarray
    scaffolds: list[str]


def featurise(smiles: Sequence[str]) -> Molecules:
    """Features and scaffolds of molecules, with the atoms in the order in which SMILES names them.

    Args:
        smiles: one molecule each.

    Raises:
        ImportError: rdkit is not installed.
        ValueError: a molecule cannot be read.
    """
    chem = rdkit_module()
    atoms: list[tuple[int, ...]] = []
    bonds: list[tuple[int, ...]] = []
    num_nodes, num_edges, scaffolds = [], [], []
    for text in smiles:
        molecule = chem.MolFromSmiles(text)
        if molecule is None:
            raise ValueError(f"rdkit cannot read the molecule {text!r}; correct its SMILES.")
        num_nodes.append(molecule.GetNumAtoms())
        num_edges.append(molecule.GetNumBonds())
        atoms += [atom_features(molecule.GetAtomWithIdx(i)) for i in range(num_nodes[-1])]
        bonds += [bond_features(molecule.GetBondWithIdx(i)) for i in range(num_edges[-1])]
        scaffolds.append(scaffold(molecule))
    nodes = np.array(atoms, np.uint8).reshape(-1, NODE_FEATURES)
    ends_and_edges = np.array(bonds, np.uint16).reshape(-1, 2 + EDGE_FEATURES)
    return Molecules(
        nodes=nodes,
        edges=ends_and_edges[:, 2:].astype(np.uint8),
        senders=ends_and_edges[:, 0],
        receivers=ends_and_edges[:, 1],
        num_nodes=np.array(num_nodes, np.int32),
        num_edges=np.array(num_edges, np.int32),
        scaffolds=scaffolds,
    )


def atom_features(atom: Any) -> tuple[int, ...]:
    """Of an rdkit atom: element, chirality, degree, charge, hydrogens, radicals, hybridisation, aromatic, in a ring."""
    places = _places()
    number, charge = atom.GetAtomicNum(), atom.GetFormalCharge()
    return (
        number - 1 if 1 <= number <= MAX_ATOMIC_NUM else MAX_ATOMIC_NUM,
        places["chirality"].get(atom.GetChiralTag(), len(CHIRALITIES)),
        min(atom.GetTotalDegree(), MAX_DEGREE + 1),
        charge + MAX_CHARGE if abs(charge) <= MAX_CHARGE else 2 * MAX_CHARGE + 1,
        min(atom.GetTotalNumHs(), MAX_HYDROGENS + 1),
        min(atom.GetNumRadicalElectrons(), MAX_RADICALS + 1),
        places["hybridization"].get(atom.GetHybridization(), len(HYBRIDIZATIONS)),
        int(atom.GetIsAromatic()),
        int(atom.IsInRing()),
    )


def bond_features(bond: Any) -> tuple[int, ...]:
    """Of an rdkit bond: the atoms at its two ends, then type, stereo configuration, conjugated.

    Raises KeyError for a stereo configuration that the Open Graph Benchmark does not know: SMILES has none.
    """
    places = _places()
    return (
        bond.GetBeginAtomIdx(),
        bond.GetEndAtomIdx(),
        places["bond_type"].get(bond.GetBondType(), len(BOND_TYPES)),
        places["bond_stereo"][bond.GetStereo()],
        int(bond.GetIsConjugated()),
    )


def scaffold(molecule: Any) -> str:
    """SMILES of a molecule's rings and what links them, without stereo marks; empty for a molecule without rings.

    Bemis and Murcko, J. Med. Chem. 39 (1996) 2887, https://doi.org/10.1021/jm9602928.
    """
    chem = rdkit_module()
    text: str = chem.MolToSmiles(chem.MurckoDecompose(molecule), isomericSmiles=False)
    return text


@lru_cache(maxsize=1)
def rdkit_module() -> Any:
    """The module `Chem` of rdkit. Raises ImportError, with what to install, where there is none."""
    try:
        from rdkit import Chem
    except ModuleNotFoundError as error:
        if error.name != "rdkit":
            raise
        raise ImportError(
            "Reading molecules needs rdkit; install it with `uv pip install 'algoperf-workload-ogbg[mini]'`.",
            name="rdkit",
        ) from error
    return Chem


@lru_cache(maxsize=1)
def _places() -> Mapping[str, Mapping[Any, int]]:
    """Per feature the place of each of rdkit's values in its list."""
    chem = rdkit_module()
    lists = {
        "chirality": (chem.ChiralType, CHIRALITIES),
        "hybridization": (chem.HybridizationType, HYBRIDIZATIONS),
        "bond_type": (chem.BondType, BOND_TYPES),
        "bond_stereo": (chem.BondStereo, BOND_STEREOS),
    }
    return {
        feature: {getattr(values, name): place for place, name in enumerate(names)}
        for feature, (values, names) in lists.items()
    }
