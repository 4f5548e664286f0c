"""Reads published tars where they lie, without unpacking them; a tar within a tar, too."""

import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from algoperf.data.preparation import DataError


class Member(NamedTuple):
    """A file within a tar.

    Attributes:
        name: its name there.
        start: where its contents begin, in bytes from the beginning of the outermost file.
        size: bytes.
    """

    name: str
    start: int
    size: int


def list_members(path: Path, within: Member | None = None) -> list[Member]:
    """The files of an uncompressed tar, in its order.

    Args:
        path: the tar.
        within: where the tar is a file within the tar at `path`.

    Raises:
        DataError: the tar is damaged or truncated.
    """
    with _named(path, within), path.open("rb", buffering=0) as file:
        start, size = (within.start, within.size) if within else (0, path.stat().st_size)
        with tarfile.open(fileobj=_Window(file.fileno(), start, size), mode="r:") as tar:
            return [Member(info.name, start + info.offset_data, info.size) for info in tar if info.isfile()]


def read_members(path: Path, members: Iterable[Member]) -> Iterator[bytes]:
    """The contents of files that `list_members` listed. Raises DataError if the tar is truncated."""
    with _named(path, None):
        file = path.open("rb", buffering=0)
    with file:
        for member in members:
            with _named(path, member):
                content = os.pread(file.fileno(), member.size, member.start)
                if len(content) != member.size:
                    raise EOFError("unexpected end of data")
            yield content


@contextmanager
def _named(path: Path, member: Member | None) -> Iterator[None]:
    """Says in which file an error is."""
    try:
        yield
    except (tarfile.TarError, OSError, EOFError) as error:
        where = f"{member.name} in {path}" if member else str(path)
        raise DataError(f"{where} cannot be read ({error}); if {path.name} is damaged, download it again.") from error


class _Window(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, descriptor: int, start: int, size: int):
        super().__init__()
        self._descriptor = descriptor
        self._start = start
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        assert whence == os.SEEK_SET, "tarfile seeks from the beginning only."
        self._position = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._position)
        content = os.pread(self._descriptor, left if size < 0 else min(size, left), self._start + self._position)
        self._position += len(content)
        return content
