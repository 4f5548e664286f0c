"""What can be wrong with a machine: its system, memory, disks and clock."""

from __future__ import annotations

import enum
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path

import psutil

from algoperf_orchestrator.machine_memory import memory_here

_GIB = 2**30
_LEAST_AVAILABLE = 1 * _GIB
_GOOD_AVAILABLE = 4 * _GIB
# Below, as many trials as cores would not fit.
_GOOD_PER_CORE = 2 * _GIB
_LEAST_DISK = 1 * _GIB
_GOOD_DISK = 10 * _GIB
# Steps take milliseconds.
_COARSE_S = 1e-3
_NETWORK = frozenset(
    "9p afs beegfs ceph cifs fuse.glusterfs fuse.sshfs glusterfs gpfs lustre nfs nfs4 panfs smb3 smbfs wekafs".split()
)


class Level(enum.StrEnum):
    """How bad it is, from the best to the worst."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        status: how it is.
        found: in a sentence.
        fix: the command or the step that mends it; empty if nothing needs to be done.
    """

    name: str
    status: Level = Level.OK
    found: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A file system, and where it is mounted."""

    point: Path
    kind: str


def system(name: str, python: tuple[int, int], supported: str) -> Iterator[Check]:
    """The operating system, and the version of Python against a range such as ">=3.11,<3.14"."""
    if name == "Linux":
        yield Check(name="operating system", found=f"{platform.platform()}.")
    else:
        found = f"{name}; trials are started, watched and timed for Linux."
        yield Check(name="operating system", status=Level.WARNING, found=found, fix="run experiments on Linux")
    version = f"{python[0]}.{python[1]}"
    if _is_in_range(python, supported):
        yield Check(name="Python", found=f"{version}.")
        return
    found = f"{version} is outside of what is supported, {supported}."
    yield Check(name="Python", status=Level.PROBLEM, found=found, fix="uv venv --python 3.12, and install again")


def this_system() -> Iterator[Check]:
    """`system` of this process."""
    supported = metadata("algoperf-orchestrator")["Requires-Python"]
    return system(platform.system(), sys.version_info[:2], supported)


def _is_in_range(version: tuple[int, int], supported: str) -> bool:
    limits = [
        (sign, (int(major), int(minor))) for sign, major, minor in re.findall(r"(>=|<)\s*(\d+)\.(\d+)", supported)
    ]
    return all(version >= limit if sign == ">=" else version < limit for sign, limit in limits)


def memory(cores: int, total: int, available: int) -> Iterator[Check]:
    """Cores that this process may use, and bytes of memory."""
    yield Check(name="cores", found=f"{cores} may be used.")
    told = f"{available / _GIB:.1f} of {total / _GIB:.1f} GiB are available, {total / cores / _GIB:.1f} GiB per core."
    if available < _LEAST_AVAILABLE:
        yield Check(
            name="memory", status=Level.PROBLEM, found=told, fix="stop what uses the memory, or take a larger machine"
        )
    elif available < _GOOD_AVAILABLE:
        yield Check(
            name="memory", status=Level.WARNING, found=told, fix="stop what uses the memory, and run few trials at once"
        )
    elif total / cores < _GOOD_PER_CORE:
        yield Check(name="memory", status=Level.WARNING, found=told, fix="give each trial several cores")
    else:
        yield Check(name="memory", found=told)


def this_memory() -> Iterator[Check]:
    """`memory` of this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return memory(cores, *memory_here())


def writable(name: str, path: Path) -> Check:
    """Whether a folder, or the one that it would be made in, can be written."""
    there = _existing(path)
    try:
        with tempfile.TemporaryFile(dir=there):
            return Check(name=name, found=f"{path} can be written.")
    except OSError as error:
        found = f"{there} cannot be written: {error.strerror}."
        return Check(name=name, status=Level.PROBLEM, found=found, fix="mend its permissions, or name another folder")


def folder(name: str, path: Path) -> Iterator[Check]:
    """Whether a folder can be written, and how much fits in."""
    check = writable(name, path)
    yield check if check.status is Level.PROBLEM else space(name, path, shutil.disk_usage(_existing(path)).free)


def space(name: str, path: Path, free: int) -> Check:
    """Whether enough bytes are free in a folder that can be written."""
    found = f"{path} can be written; {free / _GIB:.0f} GiB are free there."
    if free >= _GOOD_DISK:
        return Check(name=name, found=found)
    level = Level.PROBLEM if free < _LEAST_DISK else Level.WARNING
    return Check(name=name, status=level, found=found, fix="free disk space, or name a folder on another disk")


def _existing(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if one.exists())


def mounts() -> list[Mount]:
    """All file systems of this machine."""
    return [Mount(point=Path(one.mountpoint), kind=one.fstype) for one in psutil.disk_partitions(all=True)]


def network(path: Path, mounted: Sequence[Mount]) -> Iterator[Check]:
    """Whether an experiment lies on this machine's own disk, which its ledger needs."""
    where = path.resolve()
    holding = [mount for mount in mounted if where.is_relative_to(mount.point)]
    # The last of several at one point hides the others.
    kind = max(enumerate(holding), key=lambda one: (len(one[1].point.parts), one[0]))[1].kind if holding else "unknown"
    if kind not in _NETWORK:
        yield Check(name="experiment's file system", found=f"{kind}, of this machine.")
        return
    yield Check(
        name="experiment's file system",
        status=Level.WARNING,
        found=f"{kind}, over a network: the ledger (SQLite) may then be opened by one machine only.",
        fix="always run the orchestrator of this experiment on the same machine",
    )


def clock(resolution_s: float, goes_forward: bool, is_synchronised: bool | None) -> Iterator[Check]:
    """The clock that measures, and the one that tells the time of day; None if nobody knows."""
    if not goes_forward:
        found = "The clock that times trials went back."
        yield Check(name="clock", status=Level.PROBLEM, found=found, fix="restart the machine, or its virtual host")
    elif resolution_s > _COARSE_S:
        found = f"It counts in steps of {resolution_s:g} s, which is long for a step of training."
        yield Check(name="clock", status=Level.WARNING, found=found, fix="use another clock source of the kernel")
    else:
        yield Check(name="clock", found=f"It goes forward, in steps of {resolution_s:g} s.")
    if is_synchronised is False:
        found = "The time of day is not synchronised; trials on several machines would seem silent or early."
        yield Check(name="time of day", status=Level.WARNING, found=found, fix="timedatectl set-ntp true")
    else:
        told = "It is synchronised." if is_synchronised else "Nobody here knows whether it is synchronised."
        yield Check(name="time of day", found=told)


def this_clock() -> Iterator[Check]:
    """`clock` of this machine."""
    readings = [time.monotonic() for _ in range(10_000)]
    forward = readings == sorted(readings) and readings[0] < readings[-1]
    return clock(time.get_clock_info("monotonic").resolution, forward, _is_synchronised())


def _is_synchronised() -> bool | None:
    if tool := shutil.which("timedatectl"):
        command = [tool, "show", "--property", "NTPSynchronized", "--value"]
        with suppress(OSError, subprocess.TimeoutExpired):
            told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5).stdout.strip()
            if told in ("yes", "no"):
                return told == "yes"
    return True if Path("/run/systemd/timesync/synchronized").exists() else None
