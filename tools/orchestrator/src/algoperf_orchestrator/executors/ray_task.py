"""What a task of Ray does on its node: it runs one trial on the devices that Ray gave it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from algoperf.records import RecordsError
from algoperf_orchestrator import verdict
from algoperf_orchestrator.environment import Devices, find_devices
from algoperf_orchestrator.executors import Task
from algoperf_orchestrator.launch import launch
from algoperf_orchestrator.launch_options import Limits
from algoperf_orchestrator.leases import Lease, Pool, default_folder
from algoperf_orchestrator.sinks import SinkName
from algoperf_orchestrator.verdict import Cause

_TICK_S = 0.5
# What ended a moment ago may still hold its devices.
_LEASE_S = 120.0
# Ray sets them in its processes; a trial's speed is not for Ray to decide.
_RAYS = ("OMP_NUM_THREADS", "PYTHONBREAKPOINT")
# Waits until the task's process is gone, then kills what that has left of the trial.
_GUARD = (
    "import pathlib, sys; from algoperf_orchestrator.processes import kill_strays; "
    "sys.stdin.read(); kill_strays(pathlib.Path(sys.argv[1]))"
)


class Node(NamedTuple):
    """What a node of the cluster has."""

    cpus: float
    gpus: float


@dataclass(frozen=True, kw_only=True)
class Share:
    """What each trial gets.

    Attributes:
        kind: of its devices.
        devices: how many; those of a CPU are pretended.
        cores: how many cores of the CPU.
    """

    kind: Literal["cpu", "cuda"]
    devices: int
    cores: int

    def fits(self, node: Node) -> int:
        """How many trials a node can run at once."""
        by_cpu = int(node.cpus // self.cores)
        return by_cpu if self.kind == "cpu" else min(by_cpu, int(node.gpus // self.devices))


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a task is sent.

    Attributes:
        task: the attempt.
        share: what it was given.
        limits: what the trial may not do.
        telemetry: where its figures go, besides its logs.
        leases: folder of the leases, on the node.
        stop: when there is such a file, the trial is to stop.
    """

    task: Task
    share: Share
    limits: Limits
    telemetry: Sequence[SinkName]
    leases: Path | None
    stop: Path


def ray_package() -> Any:
    """Ray. Raises ImportError with the way to install it if it is not there."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ImportError(
            "The executor ray needs Ray; install it with `uv pip install 'algoperf-orchestrator[ray]'`.", name="ray"
        ) from error
    return ray


def run_task(order: Order) -> dict[str, Any]:
    """Runs a trial in this process's name, on the devices that Ray gave it. Returns the verdict as plain data.

    An exception means that the trial could not be started.
    """
    _undo_settings()
    stop = threading.Event()
    with _listen(order.stop, stop), _lease(order, stop) as lease, _guard(order.task.folder):
        if lease is None:
            return verdict.of_cause(Cause.STOPPED, "before it had begun").as_json()
        try:
            what = order.task.launch(lease, order.limits, order.telemetry)
            return launch(what, lambda event, facts: None, stop).verdict.as_json()
        except RecordsError as error:
            return verdict.of_cause(Cause.LOCKED, str(error)).as_json()


def _undo_settings() -> None:
    """Takes back what Ray has set for this process and its children."""
    for name in _RAYS:
        os.environ.pop(name, None)
    # The trial inherits the mask, and is asked to stop by this signal.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # Only a privileged user may become less nice.
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)


def _devices(share: Share) -> Devices:
    if share.kind == "cpu":
        # Ray knows of no GPUs here, but the framework may.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return Devices(kind="cpu", count=share.devices)
    given = [str(one) for one in ray_package().get_gpu_ids()]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(given)
    # UUIDs if the driver tells them, else numbers.
    return Devices(kind="cuda", ids=find_devices(None).ids or tuple(given), count=share.devices)


@contextmanager
def _lease(order: Order, stop: threading.Event) -> Iterator[Lease | None]:
    """Locks the GPUs that Ray gave, and some cores, against trials of other orchestrators. None if it is to stop.

    Raises:
        TimeoutError: they are taken.
    """
    devices, count = _devices(order.share), order.share.cores
    cores = sorted(os.sched_getaffinity(0))
    groups = [tuple(cores[first : first + count]) for first in range(0, len(cores) - count + 1, count)]
    # Ray may have been told of more cores than there are: then nobody has any of his own.
    pool = Pool(shares=[(devices, group) for group in groups or [()]], folder=order.leases or default_folder())
    deadline = time.monotonic() + _LEASE_S
    while (lease := pool.take()) is None and not stop.wait(_TICK_S):
        if time.monotonic() > deadline:
            taken = ", ".join(devices.ids) or f"{count} cores"
            raise TimeoutError(f"Other trials use {taken}, which Ray gave to this one; give Ray what nobody else uses.")
    try:
        yield lease
    finally:
        if lease is not None:
            lease.release()


@contextmanager
def _listen(file: Path, stop: threading.Event) -> Iterator[None]:
    """Sets an event when a file appears."""
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(_TICK_S):
            if os.path.exists(file):
                stop.set()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Has the trial killed if this process is, so that devices are free when Ray gives them to the next."""
    guard = subprocess.Popen(
        [sys.executable, "-P", "-c", _GUARD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        # Nothing is left: `launch` sees to that. What another process runs in the folder must live.
        guard.kill()
        guard.communicate()
