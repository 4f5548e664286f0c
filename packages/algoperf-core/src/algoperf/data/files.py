"""Files and folders that are written whole or not at all, whatever kills the process."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from algoperf.data.preparation import DataError


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A path to write a file or a folder to, which is renamed to `path` when the block ends without an error.

    What was at `path` before is replaced. Afterwards not even a power cut takes the new one back.

    Raises:
        DataError: there is no room, or something else is wrong with the disk.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        remove(temporary)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        for written in [temporary, *temporary.rglob("*")]:
            sync(written)
        if path.is_dir():
            # A folder cannot be renamed over one that has files.
            remove(path)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error}); mend that and run the same command again.") from error
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Returns when what was written to a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
