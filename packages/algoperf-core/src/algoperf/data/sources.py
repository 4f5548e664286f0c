"""Folders of published files: whether they hold them, whether those are the published ones, and room for more."""

import difflib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from algoperf.data.archives import Archive, check_archive
from algoperf.data.preparation import DataError, Preparation

# Files whose contents were found to be the published ones, so that a resumed run need not read them all again.
_CHECKED = ".checked.json"


def check_folder(source: Path | None, archives: Sequence[Archive], command: str) -> Path:
    """The source, if it is a folder with these files, of the right sizes.

    Args:
        source: what the user named.
        archives: the files.
        command: what to run once they are there.

    Raises:
        DataError: it is not; says what to do.
    """
    names = [archive.name for archive in archives]
    if source is None:
        raise DataError(f"Preparing this data needs a folder with {', '.join(names)}; name it: `{command}`.")
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; name the one with {', '.join(names)}: `{command}`.")
    for archive in archives:
        path = source / archive.name
        if not path.is_file():
            raise DataError(
                f"There is no {archive.name} in {source}, {_instead(source, archive, names)}; {archive.obtain}."
            )
        size = path.stat().st_size
        if archive.size not in (None, size):
            raise DataError(
                f"{path} has {size} bytes and the published {archive.name} has {archive.size}; {archive.obtain}."
            )
    return source


def check_space(folder: Path, num_bytes: int) -> None:
    """Raises DataError unless so many bytes fit into the folder."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise DataError(
            f"Preparing this data takes {num_bytes / 2**30:.1f} GiB more in {folder}, where {free / 2**30:.1f} GiB "
            "are free; make room or choose another --data-dir."
        )


def check_contents(job: Preparation, source: Path, archives: Sequence[Archive]) -> None:
    """Raises DataError unless the files' contents are the published ones; remembers those that are."""
    memory = job.folder / _CHECKED
    checked = _read(memory)
    for archive in archives:
        path = source / archive.name
        stat = path.stat()
        state = [str(path.resolve()), stat.st_size, stat.st_mtime_ns, archive.digest]
        if checked.get(archive.name) == state:
            continue
        job.report(f"Checking the contents of {archive.name} ({stat.st_size / 2**30:.1f} GiB).")
        check_archive(path, archive)
        checked[archive.name] = state
        temporary = memory.with_name(f"{_CHECKED}.tmp")
        temporary.write_text(json.dumps(checked))
        temporary.replace(memory)


def forget_checks(folder: Path) -> None:
    """Removes what `check_contents` remembered."""
    for name in (_CHECKED, f"{_CHECKED}.tmp"):
        (folder / name).unlink(missing_ok=True)


def _read(memory: Path) -> dict[str, list[object]]:
    try:
        checked: dict[str, list[object]] = json.loads(memory.read_bytes())
    except (FileNotFoundError, ValueError):
        # Lost in a power cut; the files are checked again.
        return {}
    return checked


def _instead(source: Path, archive: Archive, expected: Sequence[str]) -> str:
    """What a folder holds in place of a file."""
    names = sorted(path.name for path in source.iterdir())
    others = [name for name in names if name not in expected]
    similar = difflib.get_close_matches(archive.name, others, n=1, cutoff=0.8)
    if similar:
        return f"but there is {similar[0]}"
    return f"which holds {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "which is empty"
