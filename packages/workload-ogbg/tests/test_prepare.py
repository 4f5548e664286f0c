"""Preparation, with small archives that are laid out as the published ones are."""

import gzip
import hashlib
import subprocess
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from algoperf.data import DataError, preparation
from algoperf.data.preparation import Preparation
from algoperf.spec import Scale
from algoperf_ogbg import mini, prepare
from algoperf_ogbg.features import featurise
from algoperf_ogbg.graphs import StoredGraphs
from algoperf_ogbg.spec import OGBG

SIZES = {"train": 12, "validation": 4, "test": 5}
SPLIT_FILES = {"train": "train", "validation": "valid", "test": "test"}


def silent(_):
    pass


def sized(spec, sizes):
    return replace(spec, **{f"num_{split}_examples": n for split, n in sizes.items()}, num_eval_train_examples=2)


def described(archive, path, sizes):
    """What is known of a published archive, said of a file."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return replace(archive, size=path.stat().st_size, digest=f"sha256:{sha256}", split_sizes=sizes)


def job(folder, source):
    return Preparation(folder=folder, source=source, report=silent)


class Pcba:
    """A pcba.zip of 21 random molecules, the last of one atom and no bond."""

    def __init__(self, path):
        rng = np.random.default_rng(0)
        number = sum(SIZES.values())
        self.path = path
        self.num_nodes = np.append(rng.integers(2, 30, number - 1), 1)
        self.num_edges = np.append(rng.integers(1, 30, number - 1), 0)
        self.nodes = rng.integers(0, 119, (self.num_nodes.sum(), 9))
        self.edges = rng.integers(0, 6, (self.num_edges.sum(), 3))
        self.ends = rng.integers(0, 300, (self.num_edges.sum(), 2)) % np.repeat(self.num_nodes, self.num_edges)[:, None]
        self.labels = rng.integers(-1, 2, (number, 128))
        self.splits = dict(zip(SIZES, np.split(rng.permutation(number), np.cumsum([*SIZES.values()])[:-1])))
        self._write()

    def _write(self):
        tables = {
            "raw/node-feat": self.nodes,
            "raw/edge-feat": self.edges,
            "raw/edge": self.ends,
            "raw/num-node-list": self.num_nodes[:, None],
            "raw/num-edge-list": self.num_edges[:, None],
            "raw/graph-label": self.labels,
        }
        tables |= {f"split/scaffold/{SPLIT_FILES[s]}": i[:, None] for s, i in self.splits.items()}
        with zipfile.ZipFile(self.path, "w") as file:
            for name, table in tables.items():
                # Labels are written as floats, and an unlabelled one as an empty field.
                text = {-1: "", 0: "0.0", 1: "1.0"}.get if name == "raw/graph-label" else str
                lines = [",".join(text(int(value)) for value in row) + "\n" for row in table]
                file.writestr(f"pcba/{name}.csv.gz", gzip.compress("".join(lines).encode()))

    def check(self, folder):
        """Compares what was prepared with what the archive was made of."""
        ends = [np.cumsum(self.num_nodes), np.cumsum(self.num_edges)]
        for split, indices in self.splits.items():
            stored = StoredGraphs.load(folder / split)
            assert len(stored) == SIZES[split]
            for row, index in enumerate(indices):
                one = stored.take(np.array([row]))
                nodes = slice(ends[0][index] - self.num_nodes[index], ends[0][index])
                edges = slice(ends[1][index] - self.num_edges[index], ends[1][index])
                np.testing.assert_array_equal(one.nodes, self.nodes[nodes])
                np.testing.assert_array_equal(one.edges, self.edges[edges])
                np.testing.assert_array_equal(np.stack([one.senders, one.receivers], 1), self.ends[edges])
                np.testing.assert_array_equal(one.labels[0], self.labels[index])


@pytest.fixture
def pcba(tmp_path, monkeypatch):
    fixture = Pcba(tmp_path / "pcba.zip")
    monkeypatch.setattr(prepare, "MOLPCBA", described(prepare.MOLPCBA, fixture.path, SIZES))
    return fixture


def test_the_full_data_is_prepared_verified_and_opened(pcba, tmp_path):
    spec = sized(OGBG, SIZES)
    folder = preparation.prepare(spec, tmp_path / "data", pcba.path, silent)
    preparation.verify(spec, tmp_path / "data")
    pcba.check(folder)
    preparation.open_prepared(spec, tmp_path / "data")


@pytest.mark.parametrize("finished", [0, 1, 2])
@pytest.mark.parametrize("written", [0, 3])
def test_an_interrupted_preparation_goes_on_with_what_is_done(pcba, tmp_path, monkeypatch, finished, written):
    save, calls = np.save, 0

    def interrupted(path, array):
        nonlocal calls
        calls += 1
        if calls > 7 * finished + written:
            raise KeyboardInterrupt
        save(path, array)

    folder = tmp_path / "ogbg"
    folder.mkdir()
    monkeypatch.setattr(np, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare_full(job(folder, pcba.path))
    monkeypatch.setattr(np, "save", save)
    done = {split: (folder / split).stat().st_ino for split in SIZES if (folder / split).exists()}
    assert len(done) == finished

    files = prepare.prepare_full(job(folder, pcba.path))
    pcba.check(folder)
    assert all((folder / split).stat().st_ino == inode for split, inode in done.items())
    assert set(files) == {path for path in folder.rglob("*") if path.is_file()}


def test_what_is_all_there_needs_no_archive(pcba, tmp_path):
    files = prepare.prepare_full(job(tmp_path, pcba.path))
    assert prepare.prepare_full(job(tmp_path, None)) == files


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-10], "bytes and the published pcba.zip has"),
        (lambda content: content[:500] + bytes([content[500] ^ 1]) + content[501:], "is not the published pcba.zip"),
    ],
)
def test_a_truncated_or_altered_archive_is_refused(pcba, tmp_path, damage, message):
    pcba.path.write_bytes(damage(pcba.path.read_bytes()))
    with pytest.raises(DataError, match=message):
        prepare.prepare_full(job(tmp_path / "ogbg", pcba.path))
    assert not (tmp_path / "ogbg").exists()


@pytest.mark.parametrize("named", [True, False])
def test_without_the_archive_the_way_to_it_is_named(tmp_path, named):
    with pytest.raises(DataError, match=r"snap\.stanford.edu/.*/pcba.zip and run .*--scale full --source pcba.zip"):
        prepare.prepare_full(job(tmp_path, tmp_path / "none.zip" if named else None))


def test_a_split_of_another_size_is_refused(pcba, tmp_path, monkeypatch):
    sizes = SIZES | {"validation": 3}
    monkeypatch.setattr(prepare, "MOLPCBA", replace(prepare.MOLPCBA, split_sizes=sizes))
    with pytest.raises(DataError, match=r"validation split of pcba\.zip came out with 4 molecules instead of 3"):
        prepare.prepare_full(job(tmp_path, pcba.path))
    assert not (tmp_path / "validation").exists()


# The mini data.

# Rings with a methyl group, a chain, and one molecule that is too large. Phenol was measured twice on one protein.
SMILES = [f"Cc1{'c' * i}1" if i == 5 else f"CC1{'C' * i}1" for i in range(2, 30)]
ASSAYS = {
    "CHEMBL2_Ki": [("CCO", -3.0), *((smiles, -1.0 - i % 3) for i, smiles in enumerate(SMILES))],
    "CHEMBL1_Ki": [("Oc1ccccc1", -3.0), ("Oc1ccccc1", -1.9), ("CCO", -2.0), ("C" * 65, 0.0)],
}


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    path = tmp_path / "MoleculeACE-3.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for name, rows in ASSAYS.items():
            lines = [f"{smiles},{10**-y},{y},0,train\n" for smiles, y in rows]
            text = "smiles,exp_mean [nM],y,cliff_mol,split\n" + "".join(lines)
            file.writestr(f"MoleculeACE/Data/benchmark_data/{name}.csv", text)
        file.writestr("MoleculeACE/Data/benchmark_data/old/readme.txt", "not a table")
    smiles = sorted({smiles for rows in ASSAYS.values() for smiles, _ in rows if len(smiles) < 65})
    splits = [mini.split_of(scaffold) for scaffold in featurise(smiles).scaffolds]
    sizes = {split: splits.count(split) for split in SIZES}
    monkeypatch.setattr(mini, "MOLECULE_ACE", described(mini.MOLECULE_ACE, path, sizes))
    return path


def test_the_mini_data_is_prepared_verified_and_opened(wheel, tmp_path):
    spec = sized(OGBG.at(Scale.MINI), mini.MOLECULE_ACE.split_sizes)
    folder = preparation.prepare(spec, tmp_path / "data", wheel, silent)
    preparation.verify(spec, tmp_path / "data")
    preparation.open_prepared(spec, tmp_path / "data")
    assert min(mini.MOLECULE_ACE.split_sizes.values()) > 0
    # Columns are the assays, sorted by name.
    expected = {"CCO": [0, 0], "Oc1ccccc1": [1, -1]}
    for smiles, labels in expected.items():
        alone = featurise([smiles])
        stored = StoredGraphs.load(folder / mini.split_of(alone.scaffolds[0]))
        matches = [
            one.labels[0]
            for one in (stored.take(np.array([i])) for i in range(len(stored)))
            if np.array_equal(one.nodes, alone.nodes)
        ]
        assert [match[:2].tolist() for match in matches] == [labels]
        assert (matches[0][2:] == -1).all()


def test_the_mini_archive_comes_from_pip_where_none_is_given(wheel, tmp_path, monkeypatch):
    def download(command, **_):
        assert command[1:4] == ["-m", "pip", "download"]
        assert command[-1] == "MoleculeACE==3.0.0"
        target = tmp_path / "data" / "download"
        target.mkdir(parents=True)
        (target / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", download)
    files = mini.prepare_mini(job(tmp_path / "data", None))
    assert set(files) == {path for path in (tmp_path / "data").rglob("*") if path.is_file()}


def test_where_pip_fails_the_alternative_is_named(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, stderr="first\nERROR: no network\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(DataError, match=r"\(ERROR: no network\); .*--source MoleculeACE-3.0.0-py3-none-any.whl"):
        mini.prepare_mini(job(tmp_path, None))


def test_an_altered_wheel_is_refused(wheel, tmp_path):
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(DataError, match="published MoleculeACE-"):
        mini.prepare_mini(job(tmp_path / "data", wheel))


def test_an_rdkit_that_divides_otherwise_is_named(wheel, tmp_path, monkeypatch):
    sizes = mini.MOLECULE_ACE.split_sizes | {"test": 999}
    monkeypatch.setattr(mini, "MOLECULE_ACE", replace(mini.MOLECULE_ACE, split_sizes=sizes))
    with pytest.raises(DataError, match="uv pip install rdkit=="):
        mini.prepare_mini(job(tmp_path / "data", wheel))


def test_a_split_is_a_matter_of_the_scaffold_alone():
    # Fixed for good: another division would be another data set.
    assert [mini.split_of(text) for text in ("", "c1ccccc1", "C1CC1", "C1CCC1")] == [
        "train",
        "train",
        "test",
        "validation",
    ]
    shares = np.unique([mini.split_of(str(i)) for i in range(10_000)], return_counts=True)
    assert dict(zip(shares[0], shares[1] / 10_000)) == pytest.approx(
        {"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.01
    )
