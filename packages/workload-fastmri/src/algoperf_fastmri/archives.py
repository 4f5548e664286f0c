"""Reads the volumes of a published archive where it lies; a tar.xz, or the folder that somebody has unpacked it to."""

import lzma
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from algoperf.data.preparation import DataError
from algoperf_fastmri.published import VolumeArchive
from algoperf_fastmri.volumes import SUFFIX, volumes_in

# The name of its file, and what reads its contents; in a tar, before the next one is asked for.
PublishedVolume: TypeAlias = tuple[str, Callable[[], bytes]]

_BUFFER_BYTES = 2**20


def find(source: Path, archive: VolumeArchive) -> Path | None:
    """Where an archive, or else the folder of its volumes, lies in `source`, if it does."""
    # The tar has a folder without "knee", and people rename it.
    names = (archive.name, archive.label, archive.label.removeprefix("knee_"))
    return next((source / name for name in names if (source / name).exists()), None)


def read_volumes(path: Path) -> Iterator[PublishedVolume]:
    """The volumes of an archive or a folder. Raises DataError, also later, if it is damaged or truncated."""
    if path.is_dir():
        for volume in volumes_in(path):
            yield volume.name, partial(_read, volume)
        return
    # Unpacked by lzma, which notices where a file breaks off; tarfile's own unpacking does not.
    with _named(path), lzma.open(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as tar:
        while info := tar.next():
            # It keeps all that it has come by.
            tar.members.clear()  # type: ignore[attr-defined]
            name = PurePosixPath(info.name).name
            if info.isfile() and name.endswith(SUFFIX) and not name.startswith("."):
                yield name, partial(_extract, path, tar, info)
        # To the very end, where lzma compares checksums.
        while unpacked.read(_BUFFER_BYTES):
            pass


def _read(path: Path) -> bytes:
    with _named(path):
        return path.read_bytes()


def _extract(path: Path, tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    with _named(path):
        file = tar.extractfile(info)
        assert file is not None
        return file.read()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Says in which file an error is."""
    try:
        yield
    except (tarfile.TarError, OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(f"{path} cannot be read ({error}); if it is damaged, download it again.") from error
