"""How much memory there is: the machine's, or what the control groups around this process leave of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

# Limit, use, and cached files that can be given back, in the second and the first version of control groups.
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


class Memory(NamedTuple):
    """Bytes of memory."""

    total: int
    available: int


def memory_here(root: Path = Path("/")) -> Memory:
    """The memory that this process and its children may use.

    Args:
        root: of the file system, for tests.
    """
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for limit, free in _limits(root):
        total, available = min(total, limit), min(available, free)
    return Memory(total, available)


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Of each control group around this process: its limit, and what is free of it."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                base, names = root / "sys/fs/cgroup", _V2
            elif "memory" in controllers.split(","):
                base, names = root / "sys/fs/cgroup/memory", _V1
            else:
                continue
            group = base / path.lstrip("/")
            for folder in (group, *group.parents):
                # A group without a limit says "max", or has no such file.
                with suppress(OSError, ValueError):
                    yield _limit(folder, *names)
                if folder == base:
                    break


def _limit(folder: Path, limit_name: str, used_name: str, cached_name: str) -> tuple[int, int]:
    limit, used = (int((folder / name).read_text()) for name in (limit_name, used_name))
    facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return limit, max(limit - used + int(facts.get(cached_name, 0)), 0)
