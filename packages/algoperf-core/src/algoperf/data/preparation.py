"""Prepared data on disk: made once, whole or not at all, and checked before use.

A prepared data set is a folder with a `manifest.json` that names each file with its size and SHA-256. The
manifest is written last, so a folder without one is unfinished, whatever else lies in it; and the functions
that workloads write resume from what an interrupted run has left there.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from algoperf.spec import WorkloadSpec

if TYPE_CHECKING:
    from algoperf.data.batches import Dataset

MANIFEST = "manifest.json"
# Above this size opening checks sizes only, and `verify` checks the contents: hashing takes a second per GiB or two.
HASH_ON_OPEN_BYTES = 2**30

Report = Callable[[str], None]


class DataError(Exception):
    """Data that is missing or damaged; the message names it and the command that mends it."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What a workload's `prepare` function is asked to do.

    Attributes:
        folder: where the prepared files go.
        source: what the user downloaded, a file or a folder, where that cannot be fetched for them.
        report: is told, in one line, what is being done.
        skip_damaged: leave damaged training examples out, and name them, instead of failing.
    """

    folder: Path
    source: Path | None = None
    report: Report
    skip_damaged: bool = False


@dataclass(frozen=True)
class Status:
    """What is on disk of a data set."""

    state: Literal["prepared", "missing", "unfinished", "generated"]
    folder: Path | None
    num_bytes: int = 0


class _Entry(NamedTuple):
    """A file in the manifest."""

    size: int
    sha256: str


def folder_of(spec: WorkloadSpec, data_dir: Path | None) -> Path:
    """Where the prepared data of a workload lies. Raises DataError if nobody said where data is kept."""
    if data_dir is None:
        raise DataError(f"{spec.name} at {spec.scale} scale needs a data directory; pass --data-dir.")
    return data_dir / spec.dataset.name


def prepare_command(spec: WorkloadSpec) -> str:
    """The command that prepares a workload's data."""
    return f"algoperf-orchestrate data prepare {spec.name} --scale {spec.scale}"


def status(spec: WorkloadSpec, data_dir: Path | None) -> Status:
    """What is on disk, without reading the data."""
    if not spec.dataset.name:
        return Status("generated", None)
    folder = folder_of(spec, data_dir)
    if not (folder / MANIFEST).exists():
        # Hidden files are notes: nothing of the data.
        begun = folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())
        return Status("unfinished" if begun else "missing", folder)
    return Status("prepared", folder, sum(entry.size for entry in _manifest(spec, folder).values()))


def prepare(
    spec: WorkloadSpec, data_dir: Path, source: Path | None, report: Report, *, skip_damaged: bool = False
) -> Path:
    """Makes the prepared folder of a workload unless it is there and whole; returns it.

    Args:
        spec: the workload.
        data_dir: the folder below which prepared data sets lie.
        source: what the user downloaded, where that cannot be fetched for them.
        report: is told, in one line, what is being done.
        skip_damaged: see `Preparation`.
    """
    folder = folder_of(spec, data_dir)
    if (folder / MANIFEST).exists():
        verify(spec, data_dir)
        again = f"; to prepare it from {source}, delete that folder first" if source else ""
        report(f"{spec.dataset.name} is prepared already, and whole: {folder}{again}")
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    job = Preparation(folder=folder, source=source, report=report, skip_damaged=skip_damaged)
    with _alone_in(job):
        if not (folder / MANIFEST).exists():
            _prepare(spec, job)
    report(f"{spec.dataset.name} is prepared: {folder}")
    return folder


def _prepare(spec: WorkloadSpec, job: Preparation) -> None:
    files: Iterable[Path] = resolve_name(spec.dataset.prepare)(job)
    job.report(f"Recording the checksums of {spec.dataset.name}.")
    manifest = _entries(job.folder, sorted(files))
    temporary = job.folder / f".{MANIFEST}.tmp"
    with temporary.open("w") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(job.folder / MANIFEST)


@contextmanager
def _alone_in(job: Preparation) -> Iterator[None]:
    """Waits while another process prepares the same folder."""
    with (job.folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            job.report(f"Another process is preparing {job.folder}; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def verify(spec: WorkloadSpec, data_dir: Path | None) -> None:
    """Compares every file with its checksum. Raises DataError naming the first that differs."""
    if spec.dataset.name:
        _check(spec, _prepared_folder(spec, data_dir), hash_contents=True)


def checksums(spec: WorkloadSpec, data_dir: Path | None) -> dict[str, str | None]:
    """What a trial records of its data.

    Returns:
        `data_sha256`: the SHA-256 of the manifest, hence of all contents; None for data that is generated. And that of
        each file that the data set wants recorded by itself.
    """
    if not spec.dataset.name:
        return {"data_sha256": None}
    folder = _prepared_folder(spec, data_dir)
    manifest = _manifest(spec, folder)
    recorded = {entry: manifest[name].sha256 for entry, name in spec.dataset.recorded.items()}
    return {"data_sha256": file_sha256(folder / MANIFEST), **recorded}


def open_prepared(spec: WorkloadSpec, data_dir: Path | None) -> "Dataset":
    """Opens the data of a workload, after checking that it is all there and, up to 1 GiB, unaltered."""
    opener: Callable[..., Dataset] = resolve_name(spec.dataset.open)
    if not spec.dataset.name:
        return opener(spec, None)
    folder = _prepared_folder(spec, data_dir)
    total = sum(entry.size for entry in _manifest(spec, folder).values())
    _check(spec, folder, hash_contents=total <= HASH_ON_OPEN_BYTES)
    return opener(spec, folder)


def _prepared_folder(spec: WorkloadSpec, data_dir: Path | None) -> Path:
    folder = folder_of(spec, data_dir)
    if not (folder / MANIFEST).exists():
        raise DataError(f"The data of {spec.name} is not prepared in {folder}; run `{prepare_command(spec)}`.")
    return folder


def _manifest(spec: WorkloadSpec, folder: Path) -> dict[str, _Entry]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        return {name: _Entry(entry["size"], entry["sha256"]) for name, entry in manifest.items()}
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise DataError(f"{folder / MANIFEST} is damaged; {_remedy(spec, folder)}.") from error


def _remedy(spec: WorkloadSpec, folder: Path) -> str:
    return f"delete {folder} and run `{prepare_command(spec)}`, with the --source and --data-dir that it was made with"


def _check(spec: WorkloadSpec, folder: Path, *, hash_contents: bool) -> None:
    remedy = _remedy(spec, folder)
    for name, expected in _manifest(spec, folder).items():
        path = folder / name
        if not path.exists():
            raise DataError(f"{path} is missing; {remedy}.")
        size = path.stat().st_size
        if size != expected.size:
            raise DataError(f"{path} has {size} bytes instead of {expected.size}; {remedy}.")
        is_hashed = hash_contents or name in spec.dataset.recorded.values()
        if is_hashed and file_sha256(path) != expected.sha256:
            raise DataError(f"{path} was altered (its SHA-256 is not the recorded one); {remedy}.")


def _entries(folder: Path, paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    with ThreadPoolExecutor() as pool:
        sums = pool.map(file_sha256, paths)
        return {
            path.relative_to(folder).as_posix(): _Entry(path.stat().st_size, sha256)._asdict()
            for path, sha256 in zip(paths, sums, strict=True)
        }


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's contents, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
