"""An experiment as one file that others can check and score, without trusting whoever made it.

    <label>/study_<k>/<workload>_<framework>/trial_<n>/…  the logs, without checkpoints
    .submissions/<label>/…  the code of each submission; hidden, so that nobody takes it for logs
    rules.json, ledger.json, environment.txt, README.txt, SHA256SUMS

An experiment that is packed twice gives the same bytes. Names say nothing of the machine that packed it; the logs
and ledger.json are left as they were written, with names of hosts, and of folders where a trial was given a path.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import IO, cast

from algoperf import submission
from algoperf.submission_import import place_of
from algoperf_orchestrator import kept_rules
from algoperf_orchestrator.ledger import Ledger, Row

SUMS = "SHA256SUMS"
LEDGER = "ledger.json"
CODE = ".submissions"
_SUFFIX = ".tar.gz"
_README = f"""An experiment of AlgoPerf.

<submission>/study_<k>/<workload>_<framework>/trial_<n>/  logs, without checkpoints
{CODE}/<submission>/  code of the submissions (a hidden folder)
{kept_rules.NAME}  what the logs are scored by
{LEDGER}  the plan, and every attempt at a trial
environment.txt  versions of what was installed
{SUMS}  check with `sha256sum --check {SUMS}`, or all of it with `algoperf-orchestrate verify`

Logs and {LEDGER} hold names of hosts, and of folders where a submission was given by its path.
"""
_NOT_LOGS = re.compile(r"\..*|.*\.(tmp|lock)|checkpoints|__pycache__|tensorboard|wandb", re.DOTALL)
_NOT_CODE = re.compile(r"\..*|.*\.(tmp|lock|pyc|egg-info)|__pycache__", re.DOTALL)
_MAX_CODE_FILES, _MAX_CODE_BYTES = 2000, 64 << 20


def package(experiment: Path, target: Path, *, allow_running: bool = False) -> Path:
    """Packs an experiment.

    Args:
        experiment: its folder.
        target: the archive, or the folder for `<experiment>.tar.gz`.
        allow_running: pack although trials are running; they are packed as far as they are.

    Returns:
        The archive.

    Raises:
        LedgerError: there is no experiment.
        ValueError: trials are running, a submission's code is gone or too large, or something cannot be packed.
        OSError: the archive cannot be written; nothing is left of it.
    """
    if target.is_dir():
        target = target / f"{experiment.resolve().name}{_SUFFIX}"
    elif not target.name.endswith(_SUFFIX):
        raise ValueError(f"{target} is neither a folder nor a name that ends in {_SUFFIX}; give one of them.")
    # The ledger first: what ends meanwhile is then packed as running, which is no contradiction.
    with Ledger(experiment) as ledger:
        if (running := ledger.running()) and not allow_running:
            raise ValueError(
                f"Trials are running in {experiment} ({len(running)}, such as {running[0].key}); wait for their end, "
                f"run `stop {experiment}`, or pass --allow-running."
            )
        rows, members = ledger.rows(), {LEDGER: _ledger_json(ledger), "README.txt": _README.encode()}
    everything: dict[str, Path | bytes] = {**members, "environment.txt": _environment().encode()}
    if (rules := experiment / kept_rules.NAME).is_file():
        everything[kept_rules.NAME] = rules
    for label in sorted({row.key.submission for row in rows}):
        everything |= {f"{label}/{name}": path for name, path in _files(experiment / label, _NOT_LOGS)}
        everything |= _code(label, [row for row in rows if row.key.submission == label], (experiment, target))
    with _replacing(target) as file:
        _write(file, everything)
    return target


def _ledger_json(ledger: Ledger) -> bytes:
    trials = [dict(row) for row in ledger.query("SELECT * FROM trials ORDER BY id")]
    attempts = [dict(row) for row in ledger.query("SELECT * FROM attempts ORDER BY trial, number")]
    for row in (*trials, *attempts):
        for name in ("config", "devices"):
            if name in row:
                row[name] = json.loads(row[name])
        # Of an orchestrator that may be gone.
        for name in ("owner", "handle"):
            row.pop(name, None)
    return (json.dumps({"trials": trials, "attempts": attempts}, indent=1) + "\n").encode()


def _environment() -> str:
    found = {f"{one.name}=={one.version}" for one in distributions() if one.name}
    return "".join(f"{line}\n" for line in sorted(found, key=lambda line: (line.casefold(), line)))


def _code(label: str, rows: Sequence[Row], left_out: Sequence[Path]) -> dict[str, Path]:
    """The code of a submission, by its names in the archive."""
    files = {submission.locate(row.config.submission, row.config.framework) for row in rows}
    folders = sorted({place_of(file).code for file in files})
    if len(folders) > 1:
        raise ValueError(f"{label} is the code in {folders[0]} and in {folders[1]}; run them as two experiments.")
    found: dict[str, Path] = {}
    size = 0
    for name, path in _files(folders[0], _NOT_CODE, [one.resolve() for one in left_out]):
        found[f"{CODE}/{label}/{name}"] = path
        size += path.stat().st_size
        if size > _MAX_CODE_BYTES or len(found) > _MAX_CODE_FILES:
            raise ValueError(
                f"The code of {label} in {folders[0]} is more than {_MAX_CODE_BYTES >> 20} MiB or {_MAX_CODE_FILES} "
                "files; move what is not code out of that folder."
            )
    return found


def _files(folder: Path, skipped: re.Pattern[str], left_out: Sequence[Path] = ()) -> Iterator[tuple[str, Path]]:
    """Files below a folder, by their names in it."""
    for one in sorted(folder.iterdir()) if folder.is_dir() else ():
        if skipped.fullmatch(one.name) or one.resolve() in left_out:
            continue
        if "\n" in one.name or "\\" in one.name:
            raise ValueError(f"{one} has a name that no list of checksums can hold; rename it.")
        if one.is_symlink() or not (one.is_dir() or one.is_file()):
            raise ValueError(f"{one} is neither a file nor a folder; remove it, or put there what it stands for.")
        if one.is_dir():
            yield from ((f"{one.name}/{name}", path) for name, path in _files(one, skipped, left_out))
        else:
            yield one.name, one


@contextmanager
def _replacing(target: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when it is whole, and else leaves nothing."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class _Hashed:
    """Hashes what is read of a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _write(file: IO[bytes], members: Mapping[str, Path | bytes]) -> None:
    """Writes members in the order of their names, and their sums after them."""
    sums = b""
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, source in sorted(members.items()):
            with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as opened:
                size = len(source) if isinstance(source, bytes) else os.fstat(opened.fileno()).st_size
                digest = _add(tar, name, size, opened)
            sums += f"{digest}  ".encode() + os.fsencode(name) + b"\n"
        _add(tar, SUMS, len(sums), io.BytesIO(sums))


def _add(tar: tarfile.TarFile, name: str, size: int, file: IO[bytes]) -> str:
    # Owner and time stay 0. Of a file that grows meanwhile, what it had.
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    hashed = _Hashed(file)
    tar.addfile(info, cast(IO[bytes], hashed))
    return hashed.digest.hexdigest()
