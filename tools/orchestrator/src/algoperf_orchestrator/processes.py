"""The processes of a trial: all of them, however they were started, and their end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

# Every process of a trial inherits it, so that one that left its parent and its session is found too.
MARK = "ALGOPERF_TRIAL_FOLDER"


def kill_strays(folder: Path) -> int:
    """Kills what earlier attempts at the trial of a folder have left running here. Returns how many that were."""
    count = 0
    for pid in _marked(str(folder.resolve())):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
            count += 1
    return count


def signal_group(pid: int, number: int) -> None:
    """Sends a signal to a process and to its group, unless they are gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def memory_bytes(pid: int) -> int:
    """Memory that a trial's process, its session and its descendants hold together, in bytes, at most.

    What they share counts once for each: it is quick, and `own_memory_bytes` is not.
    """
    total = 0
    for member in _members(pid):
        with suppress(psutil.Error, OSError):
            total += psutil.Process(member).memory_info().rss
    return total


def own_memory_bytes(pid: int) -> int:
    """The same, with what they share counted once, and without files that are merely mapped.

    Linux goes through all pages for it, while the processes have to wait with theirs.
    """
    total = 0
    for member in _members(pid):
        with suppress(OSError):
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return total


def _members(pid: int) -> set[int]:
    return {*_session(pid), *_descendants(pid)}


def _session(pid: int) -> Iterator[int]:
    for other in psutil.pids():
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(other) == pid:
                yield other


def _descendants(pid: int) -> list[int]:
    with suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


def _marked(value: str) -> Iterator[int]:
    wanted = f"{MARK}={value}".encode()
    for pid in psutil.pids():
        if pid == os.getpid():
            continue
        with suppress(OSError):
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                yield pid
