"""Who on this machine uses which device and which core: locks that the kernel frees when their holders are gone.

A lease is a set of locked files in a folder that all experiments of this machine share. A trial's
process inherits the locks, so a device stays taken as long as anything of the trial lives, whatever
became of the orchestrator.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from algoperf_orchestrator.environment import Devices

_POLL_S = 0.5


def default_folder() -> Path:
    """Where this machine's leases lie."""
    return Path(tempfile.gettempdir()) / "algoperf-leases"


@dataclass(frozen=True, kw_only=True)
class Lease:
    """What one trial may use.

    Attributes:
        devices: as a trial is launched with them.
        cores: numbers of the CPU's cores.
        locks: open files that hold the locks; a process that inherits them holds them too.
    """

    devices: Devices
    cores: tuple[int, ...]
    locks: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What the ledger calls the devices: UUIDs of GPUs, or the cores."""
        return self.devices.ids or tuple(f"core {core}" for core in self.cores)

    def release(self) -> None:
        """Lets go. What inherited the locks keeps them until it ends."""
        for lock in self.locks:
            os.close(lock)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """This machine's devices, cut into shares of equal size, one per trial.

    Attributes:
        shares: what each holds.
        folder: of the locks.
    """

    shares: Sequence[tuple[Devices, tuple[int, ...]]]
    folder: Path

    def take(self) -> Lease | None:
        """A share that nobody uses; None if there is none now.

        Raises:
            OSError: the folder of locks cannot be written.
        """
        for devices, cores in self.shares:
            names = [*devices.ids, *(f"core-{core}" for core in cores)]
            if (locks := self._lock(names)) is not None:
                return Lease(devices=devices, cores=cores, locks=locks)
        return None

    @contextmanager
    def wait(self, stop: threading.Event) -> Iterator[Lease]:
        """A share as soon as there is one. Raises KeyboardInterrupt if `stop` is set before."""
        while (lease := None if stop.is_set() else self.take()) is None:
            if stop.wait(_POLL_S):
                raise KeyboardInterrupt
        try:
            yield lease
        finally:
            lease.release()

    def _lock(self, names: Sequence[str]) -> tuple[int, ...] | None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(PermissionError):
            self.folder.chmod(0o1777)
        locks: list[int] = []
        for name in names:
            lock = _open(self.folder / f"{name}.lock")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                for one in (*locks, lock):
                    os.close(one)
                return None
            locks.append(lock)
        return tuple(locks)


def make_pool(devices: Devices, per_trial: int, cores_per_trial: int | None = None, folder: Path | None = None) -> Pool:
    """Shares of `per_trial` devices each, with the cores divided evenly among them.

    Args:
        devices: all that may be used; CPU "devices" are pretended, and divided by cores alone.
        per_trial: how many of them one trial uses.
        cores_per_trial: how many cores one trial uses; None: all, or with GPUs as many as its part of the GPUs.
        folder: of the locks.

    Raises:
        ValueError: fewer devices or cores are here than one trial is to use.
    """
    cores = sorted(os.sched_getaffinity(0))
    if devices.kind == "cuda":
        if per_trial > len(devices.ids):
            raise ValueError(f"--devices asks for {per_trial} but {len(devices.ids)} are here; ask for fewer.")
        groups = list(_groups(devices.ids, per_trial))
        shared = [Devices(kind="cuda", ids=tuple(group), count=per_trial) for group in groups]
        count = min(cores_per_trial or max(1, len(cores) // len(groups)), len(cores))
    else:
        count = cores_per_trial or len(cores)
        if count > len(cores):
            raise ValueError(f"--cores asks for {count} but {len(cores)} are here; ask for fewer.")
        shared = [Devices(kind="cpu", count=per_trial)] * (len(cores) // count)
    shares = list(zip(shared, map(tuple, _groups(cores, count)), strict=False))
    return Pool(shares=shares, folder=folder or default_folder())


def _groups(items: Sequence, size: int) -> Iterator[Sequence]:
    for start in range(0, len(items) - size + 1, size):
        yield items[start : start + size]


def _open(path: Path) -> int:
    # In two steps: in such a folder Linux refuses O_CREAT for a file of another user (fs.protected_regular).
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        with suppress(FileExistsError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            # Whatever the umask: another user's trials must be able to look.
            os.fchmod(descriptor, 0o666)
            return descriptor
