"""What a submission's requirements.txt asks for, against what is installed: before anything starts."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import typer
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from algoperf.spec import Framework
from algoperf_orchestrator.environment import default_data_dir

FILE = "requirements.txt"
# Of the distributions that the benchmark consists of.
_OURS = "algoperf-"
_COMMENT = re.compile(r"(^|\s)#.*$")
# Options, paths, and URLs of any kind.
_IS_FOR_PIP = re.compile(r"-|\.|/|\w[\w+.-]*:")


def check(submission: Path, framework: Framework) -> None:
    """Raises ValueError if what lies beside a submission's file asks for what is not installed, or cannot be.

    Lines that name no distribution, such as options of pip, URLs and paths, are not checked; what is none of these is
    said.
    """
    file = submission.with_name(FILE)
    wanted = list(_read(file))
    for one in wanted:
        for distribution, own in _of_benchmark(framework):
            if _name(own) == _name(one) and own.specifier.is_disjoint(one.specifier):
                raise ValueError(
                    f"{file} asks for {one}, but {distribution} of the benchmark needs {own.name}{own.specifier}; "
                    "ask for a version that both allow."
                )
    missing = [one for one in wanted if not _is_met(one)]
    if missing:
        raise ValueError(f"{file} asks for {_described(missing)}; {_command(submission, missing)}")


def _described(missing: list[Requirement]) -> str:
    versions = ((one, _version(one)) for one in missing)
    return ", and ".join(
        f"{one}, of which {f'{version} is' if version else 'nothing is'} installed" for one, version in versions
    )


def _command(submission: Path, missing: list[Requirement]) -> str:
    """What installs the rest where other trials do not see it."""
    name = submission.parent.name
    folder = default_data_dir().parent / "environments" / name
    install = ["uv", "pip", "install", "--python", sys.executable, "--no-deps", "--target", str(folder)]
    install += [str(one) for one in missing]
    return (
        f"install that for this submission alone with `{shlex.join(install)}`, "
        f"and run the same command again with PYTHONPATH={shlex.quote(str(folder))} before it."
    )


def _read(file: Path) -> Iterator[Requirement]:
    """The requirements of a file that hold here. None if there is no file."""
    if not file.is_file():
        return
    text = file.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
    for line in text.splitlines():
        # Hashes and other options of pip follow a requirement.
        words = _COMMENT.sub("", line).partition(" --")[0].strip()
        try:
            requirement = Requirement(words)
        except InvalidRequirement:
            if words and not _IS_FOR_PIP.match(words):
                typer.echo(f"{file} has the line {words!r}, which is no requirement; it is not checked.", err=True)
            continue
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def _of_benchmark(framework: Framework) -> Iterator[tuple[str, Requirement]]:
    """Each installed distribution of the benchmark, with each of its requirements in a framework."""
    for distribution in importlib.metadata.distributions():
        name = canonicalize_name(distribution.name)
        if not name.startswith(_OURS):
            continue
        for text in distribution.requires or ():
            requirement = Requirement(text)
            extras = ("", framework.value)
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
                yield name, requirement


def _name(requirement: Requirement) -> str:
    return canonicalize_name(requirement.name)


def _is_met(requirement: Requirement) -> bool:
    version = _version(requirement)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _version(requirement: Requirement) -> str | None:
    try:
        return importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return None
