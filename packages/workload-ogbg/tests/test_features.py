"""Features of molecules against those that the Open Graph Benchmark's own code gives (golden/features.json)."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from algoperf_ogbg import features
from algoperf_ogbg.features import featurise

GOLDEN = json.loads((Path(__file__).parent / "golden" / "features.json").read_text())


@pytest.mark.parametrize("smiles", GOLDEN)
def test_features_are_those_of_the_open_graph_benchmark(smiles):
    molecules = featurise([smiles])
    expected = np.array(GOLDEN[smiles]["edges"], int).reshape(-1, 5)
    np.testing.assert_array_equal(molecules.nodes, GOLDEN[smiles]["nodes"])
    np.testing.assert_array_equal(np.stack([molecules.senders, molecules.receivers], axis=1), expected[:, :2])
    np.testing.assert_array_equal(molecules.edges, expected[:, 2:])


def test_molecules_lie_end_to_end():
    together = featurise(list(GOLDEN))
    alone = [featurise([smiles]) for smiles in GOLDEN]
    for name in set(together._fields) - {"scaffolds"}:
        expected = np.concatenate([getattr(one, name) for one in alone])
        np.testing.assert_array_equal(getattr(together, name), expected)
        assert getattr(together, name).dtype == expected.dtype
    assert together.scaffolds == [one.scaffolds[0] for one in alone]


def test_a_scaffold_is_rings_and_links_without_stereo_marks():
    decalins = ["C1CC[C@H]2CCCC[C@@H]2C1", "CC1CC[C@H]2CCCC[C@H]2C1"]
    smiles = ["CCO", "Cc1ccccc1", "OCc1ccccc1F", *decalins, "c1ccccc1CCc1ccncc1C"]
    acyclic, toluene, alcohol, trans, cis, linked = featurise(smiles).scaffolds
    assert acyclic == ""
    assert toluene == alcohol == "c1ccccc1"
    assert trans == cis == "C1CCC2CCCCC2C1"
    assert linked == "c1ccc(CCc2ccncc2)cc1"


def test_an_unreadable_molecule_is_named():
    with pytest.raises(ValueError, match="'C1CC'"):
        featurise(["CC", "C1CC"])


def test_without_rdkit_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    features.rdkit_module.cache_clear()
    with pytest.raises(ImportError, match=r"uv pip install 'algoperf-workload-ogbg\[mini\]'"):
        featurise(["C"])
    monkeypatch.undo()
    features.rdkit_module.cache_clear()
