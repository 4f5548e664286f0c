"""Reads compressed tars where they lie, without unpacking them to disk."""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from algoperf.data.preparation import DataError


def stream_tar_gz(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and contents of each file of a tar.gz, in its order. Raises DataError if it is damaged or truncated."""
    # Unzipped by gzip, which notices where a file breaks off; tarfile's own unzipping does not.
    with _named(path), gzip.open(path) as unzipped, tarfile.open(fileobj=unzipped, mode="r|") as tar:
        while info := tar.next():
            # It keeps all that it has come by, and there are hundreds of thousands.
            tar.members.clear()  # type: ignore[attr-defined]
            file = tar.extractfile(info)
            if file is not None:
                yield info.name, file.read()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Says in which file an error is."""
    try:
        yield
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); if it is damaged, download it again.") from error
