"""Prepares the mini data: measured activities of some 35,000 molecules on 30 proteins.

They are MoleculeACE's (van Tilborg, Alenicheva and Grisoni, https://doi.org/10.1021/acs.jcim.2c01073), which took
them from ChEMBL. A molecule is active on a protein if less than 100 nM of it has half of the full effect; like
ogbg-molpcba, most pairs were never measured. The package is read as an archive; none of its code runs.
"""

import hashlib
import io
import multiprocessing
import os
import shutil
import zipfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import polars as pl

from algoperf.data.archives import check_archive, pip_download
from algoperf.data.preparation import DataError, Preparation
from algoperf_ogbg.features import Molecules, featurise
from algoperf_ogbg.graphs import NUM_TASKS, StoredGraphs
from algoperf_ogbg.prepare import MoleculeArchive, missing_splits, prepared_files, write_split

PACKAGE = "MoleculeACE==3.0.0"
MOLECULE_ACE = MoleculeArchive(
    name="MoleculeACE-3.0.0-py3-none-any.whl",
    obtain=(
        f"run `pip download --no-deps {PACKAGE}` and "
        "`algoperf-orchestrate data prepare ogbg --scale mini --source MoleculeACE-3.0.0-py3-none-any.whl`"
    ),
    size=1_128_881,
    digest="sha256:c2028c9a75281eab53d3b3e7dc11cbc8ac970d008bac4a0d3927f11ac2024bdc",
    split_sizes={"train": 28_520, "validation": 3_250, "test": 3_475},
)
# The scaffolds' spelling, and so the splits, are this version's; others may agree.
RDKIT_VERSION = "2026.9.1"
# -log10 of the concentration in nM; above this a molecule is active (100 nM).
ACTIVE = -2.0
# Larger ones (peptides) are left out, so that a molecule fits into the smallest batch.
MAX_ATOMS = 64
# In hundredths of the scaffolds.
VALIDATION_SHARE = 10
TEST_SHARE = 10
_CHUNK = 500


def prepare_mini(job: Preparation) -> list[Path]:
    """Turns MoleculeACE's wheel into one folder of arrays per split; see `algoperf_ogbg.graphs.StoredGraphs`.

    No scaffold (rings and their links) stands in two splits, so that look-alikes are on one side. Without a source,
    pip downloads the wheel.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: the wheel cannot be had, or is not the published one.
        ImportError: rdkit is not installed.
    """
    download = job.folder / "download"
    missing = missing_splits(job.folder, MOLECULE_ACE)
    if missing:
        wheel = job.source or pip_download(PACKAGE, MOLECULE_ACE, download, job.report)
        smiles, labels = _read_labels(check_archive(wheel, MOLECULE_ACE))
        job.report(f"Reading {len(smiles)} molecules with rdkit.")
        molecules = _featurise(smiles)
        graphs = StoredGraphs(*molecules[:-1], labels=labels)
        members = _divide(molecules)
        for split in missing:
            write_split(job, split, graphs.take(members[split]), MOLECULE_ACE)
    shutil.rmtree(download, ignore_errors=True)
    return prepared_files(job.folder, MOLECULE_ACE)


def split_of(scaffold: str) -> str:
    """The split of all molecules with a scaffold: a matter of its SHA-256, so the same everywhere."""
    percent = int.from_bytes(hashlib.sha256(scaffold.encode()).digest()[:8], "big") % 100
    if percent < VALIDATION_SHARE:
        return "validation"
    return "test" if percent < VALIDATION_SHARE + TEST_SHARE else "train"


def _divide(molecules: Molecules) -> dict[str, np.ndarray]:
    """Indices of each split's molecules; all of them are checked before any is written."""
    splits = np.array([split_of(scaffold) for scaffold in molecules.scaffolds])
    members = {
        split: np.flatnonzero((splits == split) & (molecules.num_nodes <= MAX_ATOMS))
        for split in MOLECULE_ACE.split_sizes
    }
    sizes = {split: len(indices) for split, indices in members.items()}
    if sizes != MOLECULE_ACE.split_sizes:
        raise DataError(
            f"The installed rdkit divides the molecules into {sizes} instead of {MOLECULE_ACE.split_sizes}; "
            f"install the one that was used: `uv pip install rdkit=={RDKIT_VERSION}`."
        )
    return members


def _read_labels(wheel: Path) -> tuple[list[str], np.ndarray]:
    """The molecules as sorted SMILES, and their labels [molecules, 128]: a column per protein, the rest unmeasured."""
    with zipfile.ZipFile(wheel) as file:
        names = sorted(name for name in file.namelist() if "/benchmark_data/CHEMBL" in name)
        tables = [
            pl.read_csv(io.BytesIO(file.read(name)), columns=["smiles", "y"]).with_columns(task=pl.lit(task))
            for task, name in enumerate(names)
        ]
    measured = pl.concat(tables).sort("smiles", "task", "y")
    smiles, rows = np.unique(measured["smiles"].to_numpy(), return_inverse=True)
    labels = np.full((len(smiles), NUM_TASKS), -1, np.int8)
    # A molecule that was measured twice is active if one of the measurements says so.
    np.maximum.at(labels, (rows, measured["task"].to_numpy()), (measured["y"] > ACTIVE).to_numpy().astype(np.int8))
    return smiles.tolist(), labels


def _featurise(smiles: Sequence[str]) -> Molecules:
    """`features.featurise` in parallel."""
    chunks = [smiles[start : start + _CHUNK] for start in range(0, len(smiles), _CHUNK)]
    # Fresh processes: a copy of this one would also copy the locks of a framework's threads.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(min(8, os.cpu_count() or 1), mp_context=context) as pool:
            parts = list(pool.map(featurise, chunks))
    except BrokenProcessPool:
        # Where the main program is no file (a notebook, standard input), fresh processes cannot start.
        parts = [featurise(chunk) for chunk in chunks]
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in Molecules._fields
        if name != "scaffolds"
    }
    return Molecules(**arrays, scaffolds=[text for part in parts for text in part.scaffolds])
