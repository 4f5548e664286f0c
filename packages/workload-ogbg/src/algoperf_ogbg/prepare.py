"""Prepares ogbg-molpcba, the full-scale data (Open Graph Benchmark, https://arxiv.org/abs/2005.00687, section 4.2)."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from algoperf.data.archives import Archive, check_archive
from algoperf.data.preparation import DataError, Preparation
from algoperf_ogbg.graphs import NUM_TASKS, StoredGraphs, files_of
from algoperf_ogbg.spec import EDGE_FEATURES, NODE_FEATURES


@dataclass(frozen=True, kw_only=True)
class MoleculeArchive(Archive):
    """A published archive of molecules.

    Attributes:
        split_sizes: molecules per folder that is made of it.
    """

    split_sizes: Mapping[str, int]


_COMMAND = "algoperf-orchestrate data prepare ogbg --scale full --source pcba.zip"

MOLPCBA = MoleculeArchive(
    name="pcba.zip",
    obtain=(
        f"download https://snap.stanford.edu/ogb/data/graphproppred/csv_mol_download/pcba.zip and run `{_COMMAND}`"
    ),
    size=39_533_472,
    digest="sha256:0bb12da2f3ec8b0bb80564114a6174fad2df6a3a0d3c19470b3a27813a7d4e53",
    split_sizes={"train": 350_343, "validation": 43_793, "test": 43_793},
)
# The archive's names of the splits.
SPLIT_FILES = {"train": "train", "validation": "valid", "test": "test"}


def prepare_full(job: Preparation) -> list[Path]:
    """Turns pcba.zip into one folder of arrays per split; see `algoperf_ogbg.graphs.StoredGraphs`.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: the archive is missing, or is not the published one.
    """
    return prepare_archive(job, MOLPCBA)


def prepare_archive(job: Preparation, archive: MoleculeArchive) -> list[Path]:
    """`prepare_full` with any archive of that layout."""
    missing = missing_splits(job.folder, archive)
    if missing:
        with zipfile.ZipFile(check_archive(job.source, archive)) as file:
            job.report(f"Reading {job.source}.")
            graphs = _read_graphs(file)
            for split in missing:
                indices = _read_table(file, f"split/scaffold/{SPLIT_FILES[split]}", 1, pl.Int64)[:, 0]
                write_split(job, split, graphs.take(indices), archive)
    return prepared_files(job.folder, archive)


def missing_splits(folder: Path, archive: MoleculeArchive) -> list[str]:
    """The splits that an earlier, interrupted run has not finished."""
    return [split for split in archive.split_sizes if not (folder / split).exists()]


def prepared_files(folder: Path, archive: MoleculeArchive) -> list[Path]:
    """All files of the prepared data."""
    return [path for split in archive.split_sizes for path in files_of(folder / split).values()]


def write_split(job: Preparation, split: str, graphs: StoredGraphs, archive: MoleculeArchive) -> None:
    """Writes a split, whole or not at all. Raises DataError if it has not as many molecules as it should."""
    if len(graphs) != archive.split_sizes[split]:
        raise DataError(
            f"The {split} split of {archive.name} came out with {len(graphs)} molecules instead of "
            f"{archive.split_sizes[split]}; {archive.obtain}."
        )
    job.report(f"Writing the {len(graphs)} molecules of the {split} split.")
    graphs.save(job.folder / split)


def _read_graphs(file: zipfile.ZipFile) -> StoredGraphs:
    ends = _read_table(file, "raw/edge", 2, pl.UInt16)
    labels = _read_table(file, "raw/graph-label", NUM_TASKS, pl.Float32)
    graphs = StoredGraphs(
        nodes=_read_table(file, "raw/node-feat", NODE_FEATURES, pl.UInt8),
        edges=_read_table(file, "raw/edge-feat", EDGE_FEATURES, pl.UInt8),
        senders=ends[:, 0],
        receivers=ends[:, 1],
        num_nodes=_read_table(file, "raw/num-node-list", 1, pl.Int32)[:, 0],
        num_edges=_read_table(file, "raw/num-edge-list", 1, pl.Int32)[:, 0],
        labels=np.where(np.isnan(labels), -1, labels).astype(np.int8),
    )
    # The archive is the published one, so a mismatch would be a mistake of this reader.
    assert len(graphs.nodes) == graphs.num_nodes.sum()
    assert len(graphs.edges) == len(graphs.senders) == graphs.num_edges.sum()
    assert len(graphs.labels) == len(graphs.num_edges) == len(graphs)
    return graphs


def _read_table(file: zipfile.ZipFile, name: str, width: int, dtype: type[pl.DataType]) -> np.ndarray:
    """A compressed table without header as an array [rows, width]; empty fields are NaN (floats only)."""
    schema = {f"column_{i}": dtype for i in range(width)}
    content = io.BytesIO(file.read(f"pcba/{name}.csv.gz"))
    table = pl.read_csv(content, has_header=False, schema=schema)
    assert dtype.is_float() or not any(table.null_count().row(0)), f"{name} has empty fields."
    return table.to_numpy()
