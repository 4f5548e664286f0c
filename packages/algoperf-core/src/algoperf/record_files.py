"""Files that a crash cannot damage, and the two formats of the records in them.

A file is replaced whole, by renaming a finished one over it, or it is appended to by whole lines. A
last line without an end is the trace of a crash; readers leave it out.
"""

from __future__ import annotations

import csv
import enum
import errno
import io
import json
import numbers
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "RecordsError",
    "append_durably",
    "csv_line",
    "drop_torn_line",
    "read_json",
    "read_json_lines",
    "read_table",
    "to_json",
    "write_atomic",
]

_INTEGER = re.compile(r"-?[0-9]+")


class RecordsError(Exception):
    """Records that are damaged or another run's; the message names them and the next step."""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a file such that at any moment, on a crash too, it is the old one or the new one.

    Raises:
        OSError: the disk is full or gone; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            rest = memoryview(content.encode() if isinstance(content, str) else content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def append_durably(path: Path, content: bytes) -> None:
    """Adds to the end of a file, made if it is not there, in one write that is on disk afterwards.

    Raises:
        OSError: the disk is full or gone; the file is as it was.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    if size == 0:
        _sync_folder(path.parent)


def drop_torn_line(path: Path) -> None:
    """Cuts off a last line that has no end, so that the next line does not continue it."""
    if path.exists():
        content = path.read_bytes()
        os.truncate(path, len(_whole_lines(content)))


def csv_line(cells: Iterable[Any]) -> str:
    """One line of CSV. Numbers are written so that `read_table` gives back the same ones.

    Raises:
        RecordsError: if a text among the cells has a line break.
    """
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([_cell(cell) for cell in cells])
    return buffer.getvalue()


def read_table(path: Path) -> list[dict[str, float | int | None]]:
    """The rows of a CSV file of numbers, None where a cell is empty; none if there is no file.

    Raises:
        RecordsError: if a line other than an unfinished last one is damaged.
    """
    if not path.exists():
        return []
    try:
        text = _whole_lines(path.read_bytes()).decode()
        header, *rows = [*csv.reader(io.StringIO(text, newline=""), strict=True)] or [[]]
        return [{key: _value(cell) for key, cell in zip(header, row, strict=True)} for row in rows]
    except (csv.Error, ValueError) as error:
        raise _damaged(path, error) from error


def to_json(data: Any, indent: int | None = None) -> str:
    """JSON, with NaN and infinities, of plain data, paths, enums, mappings and numpy numbers."""
    return json.dumps(data, indent=indent, default=_plain)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises RecordsError if the file is damaged."""
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(data, dict):
        raise _damaged(path, "it holds no object")
    return data


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file of one JSON object per line; none if there is no file.

    Raises:
        RecordsError: if a line other than an unfinished last one is damaged.
    """
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in _whole_lines(path.read_bytes()).split(b"\n")[:-1]]
    except ValueError as error:
        raise _damaged(path, error) from error


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _cell(value: Any) -> str:
    if isinstance(value, str):
        if "\n" in value or "\r" in value:
            raise RecordsError(f"The column {value!r} has a line break; name metrics in one line.")
        return value
    return repr(int(value) if isinstance(value, numbers.Integral) else float(value))


def _value(cell: str) -> float | int | None:
    if not cell:
        return None
    return int(cell) if _INTEGER.fullmatch(cell) else float(cell)


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Mapping):
        return dict(value)
    if (tolist := getattr(value, "tolist", None)) is not None:  # numpy's numbers and arrays
        return tolist()
    raise TypeError(f"A {type(value).__name__} cannot be recorded; record numbers, texts and lists.")


def _damaged(path: Path, why: object) -> RecordsError:
    return RecordsError(f"{path} is damaged ({why}); remove it or choose another --experiment.")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
