"""Archives of experiments, opened without trusting whoever made them, and checked; `archive` makes them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from algoperf.submission_import import content_hash
from algoperf.trial_config import EndReason
from algoperf_orchestrator import attempt
from algoperf_orchestrator.archive import CODE, LEDGER, SUMS
from algoperf_orchestrator.planned import Key
from algoperf_orchestrator.verdict import State
from algoperf_scoring.json_files import read_object

_SUM_LINE = re.compile(rb"[0-9a-f]{64}  .+")
# What an archive from elsewhere may unpack to.
_MAX_FILES, _MAX_BYTES = 200_000, 16 << 30
# What may be held in memory: a JSON file, a header of a tar, or code.
_MAX_READ = 64 << 20


class _Refused(ValueError):
    """An archive that would do harm, or is none of ours."""


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder of an archive, in a temporary place that goes afterwards; or of what is a folder already.

    Raises:
        ValueError: there is no such archive, it is damaged, or it would do harm.
        OSError: the temporary place is full.
    """
    if path.is_dir():
        yield path
        return
    if not path.is_file():
        raise ValueError(f"There is no archive or folder {path}; name one.")
    with tempfile.TemporaryDirectory(prefix="algoperf-") as folder:
        _extract(path, Path(folder))
        yield Path(folder)


class _Bounded:
    """A stream that says no before it fills memory or disk, whatever its compressed size."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ or self._file.tell() > _MAX_BYTES:
            raise _too_large(self._path)
        return self._file.read(size)

    def seek(self, position: int) -> int:
        if position > _MAX_BYTES:
            raise _too_large(self._path)
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()


def _extract(path: Path, folder: Path) -> None:
    names: set[str] = set()
    try:
        with gzip.open(path) as zipped:
            bounded = cast(IO[bytes], _Bounded(cast(IO[bytes], zipped), path))
            with tarfile.open(fileobj=bounded, mode="r:") as tar:
                for number, member in enumerate(tar):
                    if number >= _MAX_FILES:
                        raise _too_large(path)
                    _check(path, member, names)
                    tar.extract(member, folder, filter="data")
            # The sum over all of it is at the end, which the tar itself does not need.
            while bounded.read(1 << 16):
                pass
    except _Refused:
        raise
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is damaged or no archive of an experiment ({error}); get it anew.") from error


def _check(path: Path, member: tarfile.TarInfo, names: set[str]) -> None:
    name = PurePosixPath(member.name)
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise _Refused(f"{path} holds {member.name!r}, which is no file; do not trust it.")
    if name.is_absolute() or ".." in name.parts:
        raise _Refused(f"{path} holds {member.name!r}, which is outside of it; do not trust it.")
    if member.isdir():
        return
    above = {str(parent) for parent in name.parents}
    if str(name) in names or above & names:
        raise _Refused(f"{path} holds {member.name!r} twice; do not trust it.")
    names.add(str(name))


def _too_large(path: Path) -> _Refused:
    return _Refused(f"{path} unpacks to more than {_MAX_BYTES >> 30} GiB or {_MAX_FILES} files; do not trust it.")


# Verifying.


def verify(path: Path) -> list[str]:
    """What is wrong with an archive, or with the folder of an unpacked one: a sentence for each problem.

    It checks the sums, and that the logs tell what the ledger does: that results are there and are the same, that
    trials were run with the seeds and points of the plan, and with the code that is packed. Which files of a
    submission a trial had loaded nobody wrote down; so some of the packed files must give the sum that it noted,
    which is tried for submissions of up to 16 files.

    Raises:
        ValueError: there is nothing of that name, it is damaged, or it would do harm.
        OSError: the temporary place is full.
    """
    with unpacked(path) as folder:
        problems = list(_sum_problems(folder))
        try:
            rows = [(_key(row), row) for row in _json(folder / LEDGER)["trials"]]
            known = {str(key) for key, _ in rows}
            found = [str(one.relative_to(folder)) for one in sorted(folder.glob("[!.]*/study_*/*/trial_*"))]
            problems += [f"{name} is not in {LEDGER}." for name in found if name not in known]
            for key, row in rows:
                problems += _trial_problems(folder, key, row)
            problems += _code_problems(folder, [key for key, _ in rows])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            problems.append(f"{LEDGER} is missing or damaged ({type(error).__name__}: {error}).")
    return problems


def _sum_problems(folder: Path) -> Iterator[str]:
    if not (folder / SUMS).is_file():
        yield f"{SUMS} is missing."
        return
    *lines, rest = (folder / SUMS).read_bytes().split(b"\n")
    if rest or not all(_SUM_LINE.fullmatch(line) for line in lines):
        yield f"{SUMS} is damaged."
        return
    expected = {os.fsdecode(line[66:]): line[:64].decode() for line in lines}
    present = {os.path.relpath(path, folder) for path in _walk(folder)}
    yield from (f"{name} is missing." for name in sorted(expected.keys() - present))
    yield from (f"{name} is not in {SUMS}." for name in sorted(present - expected.keys() - {SUMS}))
    for name in sorted(present & expected.keys()):
        if (folder / name).is_symlink():
            yield f"{name} is a link."
            continue
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected[name]:
                yield f"{name} was changed."


def _walk(folder: Path) -> Iterator[str]:
    """All that is no folder; a link to a folder is none."""
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(top, name)
            if os.path.islink(path) or not os.path.isdir(path):
                yield path


def _key(row: Mapping[str, Any]) -> Key:
    key = Key(*(row[name] for name in Key._fields))
    if any("/" in part or part in ("", ".", "..") for part in key[:3]):
        raise ValueError(f"{key} is no trial")
    return key._replace(study=int(key.study), trial=int(key.trial))


def _trial_problems(folder: Path, key: Key, row: Mapping[str, Any]) -> Iterator[str]:
    logs = key.folder(folder)
    record, state, reason = _json(logs / "trial.json"), State(row["state"]), row["reason"]
    if state.is_result:
        if not logs.is_dir():
            yield f"{key} is {state} in {LEDGER}, but has no logs."
            return
        # What a supervisor ended said nothing itself.
        newest = None if reason in set(EndReason) else attempt.read(logs)
        told = newest.verdict.reason if newest and newest.verdict else record.get("end_reason")
        if told != reason:
            yield f"{key} ended with {reason!r} in {LEDGER}, but with {told!r} in its logs."
    planned = row["config"]
    configs = [(one.name, _json(one)) for one in sorted(logs.glob("flags_*.json"))]
    if record:
        configs.append(("trial.json", record.get("config") or {}))
    for file, config in configs:
        for name in planned:
            if _text(config.get(name)) != _text(planned[name]):
                yield f"{key} has {name} {config.get(name)!r} in {file}, but {planned[name]!r} in {LEDGER}."
    hparams = logs / "hparams.json"
    if hparams.exists() and _text(_json(hparams)) != _text(planned["hyperparameters"] or {}):
        yield f"{key} has other hyperparameters in hparams.json than in {LEDGER}."


def _code_problems(folder: Path, keys: Sequence[Key]) -> Iterator[str]:
    noted: dict[tuple[str, str, tuple[str, ...]], Key] = {}
    for key in keys:
        for file in sorted(key.folder(folder).glob("meta_data_*.json")):
            data = _json(file)
            files = tuple(str(name) for name in data.get("submission_files") or ())
            noted.setdefault((key.submission, str(data.get("submission_sha256")), files), key)
    for (label, told, files), key in noted.items():
        if _code_sum(folder / CODE / label, files) != told:
            yield f"{key} was run with other code than {CODE}/{label} (submission_sha256 {told})."


def _code_sum(folder: Path, files: Sequence[str]) -> str | None:
    paths = [(folder / name).resolve() for name in files]
    if not all(path.is_file() and path.is_relative_to(folder.resolve()) for path in paths):
        return None
    if sum(path.stat().st_size for path in paths) > _MAX_READ:
        return None
    return content_hash(folder, files)


def _json(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() and path.stat().st_size <= _MAX_READ else {}


def _text(value: Any) -> str:
    """As text, where NaN is itself and 1 is not 1.0."""
    return json.dumps(value, sort_keys=True)
