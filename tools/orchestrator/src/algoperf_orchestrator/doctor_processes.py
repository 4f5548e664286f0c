"""What else runs on a machine: what takes time from trials, and what trials have left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from algoperf_orchestrator import attempt, processes
from algoperf_orchestrator.doctor_checks import Check, Level

# Busy cores that are noticed in step times: half of one, or of many cores this share.
_BUSY_CORES = 0.5
_BUSY_SHARE = 0.05
# Processes that use less are not named.
_SMALL = 0.05
_LOOK_S = 0.5
# What takes over processes whose parents are gone.
_REAPERS = frozenset(("catatonit", "docker-init", "dumb-init", "init", "launchd", "systemd", "tini"))


@dataclass(frozen=True, kw_only=True)
class Busy:
    """A process that computes.

    Attributes:
        name: of its program.
        pid: its number.
        cores: how many cores it uses.
    """

    name: str
    pid: int
    cores: float


@dataclass(frozen=True, kw_only=True)
class Marked:
    """A process of a trial.

    Attributes:
        pid: its number.
        folder: the trial's.
        is_supervised: whether what started it still lives.
    """

    pid: int
    folder: Path
    is_supervised: bool


def load(used: float, busy: Sequence[Busy], cores: int) -> Iterator[Check]:
    """Whether others take a part of the time that is to be measured.

    Args:
        used: how many cores are busy, with whatever.
        busy: the processes that can be seen; in a container these are not all.
        cores: how many there are.
    """
    if used < max(_BUSY_CORES, _BUSY_SHARE * cores):
        yield Check(name="load", found=f"Others use {used:.1f} of {cores} cores.")
        return
    most = [one for one in sorted(busy, key=lambda one: -one.cores) if one.cores >= _SMALL][:3]
    told = ", ".join(f"{one.name} (pid {one.pid}): {one.cores:.1f}" for one in most) or "by none that can be seen here"
    found = f"Others use {used:.1f} of {cores} cores ({told}), so that wall times will be off."
    yield Check(name="load", status=Level.WARNING, found=found, fix="stop them, or wait, before time counts")


def this_load() -> Iterator[Check]:
    """`load` of this machine, looked at for half a second in which this process does nothing."""
    cores = psutil.cpu_count() or 1
    others = [process for process in psutil.process_iter() if process.pid != os.getpid()]
    for process in others:
        with suppress(psutil.Error):
            process.cpu_percent()
    used = psutil.cpu_percent(_LOOK_S) / 100 * cores
    busy = []
    for process in others:
        with suppress(psutil.Error):
            busy.append(Busy(name=process.name(), pid=process.pid, cores=process.cpu_percent() / 100))
    return load(used, busy, cores)


def stale(marked: Sequence[Marked]) -> Iterator[Check]:
    """Processes of trials that nobody watches any more."""
    left: dict[Path, list[int]] = {}
    supervised = {one.folder for one in marked if one.is_supervised}
    for one in marked:
        if one.folder not in supervised:
            left.setdefault(one.folder, []).append(one.pid)
    if not left:
        yield Check(name="left-over processes", found="There are none.")
    for where, pids in left.items():
        numbers = " ".join(map(str, sorted(pids)))
        found = f"Nobody watches the trial in {where} any more, but its processes run: {numbers}."
        yield Check(name="left-over processes", status=Level.WARNING, found=found, fix=f"kill {numbers}")


def this_stale() -> Iterator[Check]:
    """`stale` of this machine, as far as this user may look."""
    variables = dict(_variables())
    named = {pid: found[processes.MARK] for pid, found in variables.items() if processes.MARK in found}
    return stale(
        [
            Marked(pid=pid, folder=Path(where), is_supervised=_is_supervised(pid, Path(where), named))
            for pid, where in named.items()
        ]
    )


def _variables() -> Iterator[tuple[int, dict[str, str]]]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            yield process.pid, process.environ()


def _is_supervised(pid: int, where: Path, named: Mapping[int, str]) -> bool:
    """Whether its orchestrator lives: as the trial's folder says, or as the process that started it."""
    newest = attempt.read(where)
    if newest is not None and attempt.is_alive(newest.host, newest.pid, newest.created):
        return True
    with suppress(psutil.Error):
        parent = psutil.Process(pid).parent()
        return parent is not None and parent.pid not in named and parent.pid != 1 and parent.name() not in _REAPERS
    return False
