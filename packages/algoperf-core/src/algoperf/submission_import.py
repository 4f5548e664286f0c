"""Importing a submission's file by the names that public submissions rely on: once per process."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from algoperf import aliases
from algoperf.spec import Framework

# Folders that public submissions import from by absolute name: what contains one of them belongs on sys.path.
ROOT_MARKERS = ("submissions", "algorithms")


class SubmissionError(Exception):
    """A submission that cannot be loaded or does not keep to the API; the message is one sentence."""


class Place(NamedTuple):
    """Where a submission's module is.

    Attributes:
        root: the folder for `sys.path`.
        name: the module's dotted name below it.
        code: the folder that holds the submission's code.
        is_package: whether it is part of a package.
    """

    root: Path
    name: str
    code: Path
    is_package: bool


def place_of(path: Path) -> Place:
    """Where a submission's module is, by what public submissions rely on.

    They import their own parts as `submissions.<…>`, relative to each other, or from their own folder. So the root
    is what contains `submissions/` or `algorithms/`; else what contains the outermost package. A file that is in
    neither is named after its path, so that two files called submission.py do not collide.
    """
    for parent in path.parents:
        if parent.name in ROOT_MARKERS:
            return Place(parent.parent, _dotted(path, parent.parent), path.parent, False)
    folder = path.parent
    while (folder / "__init__.py").exists():
        folder = folder.parent
    if folder != path.parent:
        name = _dotted(path, folder)
        return Place(folder, name, folder / name.split(".")[0], True)
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    return Place(path.parent, f"{path.stem}_{digest}", path.parent, False)


def _dotted(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts)


def import_file(path: Path, place: Place) -> ModuleType:
    """The module of a submission's file; its folders are put on `sys.path`.

    Raises:
        SubmissionError: it cannot be imported, or another file has been imported by its name.
    """
    aliases.install()
    name = place.name
    if place.root != path.parent and str(place.root) not in sys.path:
        sys.path.insert(0, str(place.root))
    # A jax.py in a package must not stand in for a framework that is not installed.
    is_named_like_a_framework = place.is_package and path.stem in list(Framework)
    if not is_named_like_a_framework and str(path.parent) not in sys.path:
        # Last: a submission's own modules must not hide others of the same name.
        sys.path.append(str(path.parent))
    if name not in sys.modules:
        try:
            importlib.import_module(name) if "." in name else _execute(path, name)
        # A submission's file may raise anything while it is imported; all of it is the submission's mistake.
        except Exception as error:
            raise SubmissionError(f"{path} cannot be imported: {type(error).__name__}: {error}.") from error
    module = sys.modules[name]
    if module.__file__ is None or Path(module.__file__).resolve() != path.resolve():
        raise SubmissionError(
            f"{path} and {module.__file__} are both imported as {name}; rename a folder, or use a process for each."
        )
    return module


def _execute(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def loaded_files(folder: Path) -> tuple[str, ...]:
    """The Python files below a folder that this process has imported, relative to it, sorted."""
    loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    files = {Path(name).resolve() for name in loaded if name}
    return tuple(file.relative_to(folder).as_posix() for file in sorted(files) if file.is_relative_to(folder))


def content_hash(folder: Path, files: Sequence[str]) -> str:
    """SHA-256 over files of a folder and their names, so that records say what code ran."""
    digest = hashlib.sha256()
    for name in files:
        digest.update(name.encode() + b"\0" + (folder / name).read_bytes() + b"\0")
    return digest.hexdigest()
