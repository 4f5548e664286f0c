"""Trials as tasks of a Ray cluster, each in a fresh process. A task has one node, and so have the devices of a trial.

The nodes need AlgoPerf installed, and the experiment and the data in folders of the same names. Ray ends the tasks
of an orchestrator that died; run again, it goes on from the trials' checkpoints.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from algoperf_orchestrator import attempt, verdict
from algoperf_orchestrator.executors import Finished, Resources, Task
from algoperf_orchestrator.executors.ray_task import Node, Order, Share, ray_package, run_task
from algoperf_orchestrator.verdict import Cause, Verdict

# Tasks that wait in Ray, so that no device is idle until the orchestrator looks again.
_WAITING = 2
_TICK_S = 0.5
_CONNECT_S = 10.0
# Longer than a trial that does not want to stop is given by `launch`.
_CLOSE_S = 100.0


def share(nodes: Sequence[Node], resources: Resources) -> Share:
    """Divides nodes among trials. If no numbers are given: all GPUs of a node, and an even part of its cores.

    Raises:
        ValueError: no node has as much as a trial is to have.
    """
    gpus = int(max((node.gpus for node in nodes), default=0))
    devices = resources.devices or gpus or 1
    if gpus and devices > gpus:
        raise ValueError(
            f"--devices asks for {devices} but no node of the Ray cluster has more than {gpus}; "
            "ask for fewer, because a trial runs on one node."
        )
    fitting = [node for node in nodes if node.cpus >= 1 and (not gpus or node.gpus >= devices)]
    most = int(max((node.cpus for node in fitting), default=0))
    cores = resources.cores or min((_even_part(node, devices if gpus else 0) for node in fitting), default=1)
    if cores > most:
        raise ValueError(
            f"--cores asks for {cores} but no node of the Ray cluster has more than {most}; ask for fewer."
        )
    return Share(kind="cuda" if gpus else "cpu", devices=devices, cores=cores)


def _even_part(node: Node, gpus: int) -> int:
    trials = node.gpus // gpus if gpus else 1
    return max(1, int(node.cpus // trials))


def connect(address: str | None) -> bool:
    """Connects this process to a cluster, and starts one of this machine's cores and GPUs if no address is known.

    Args:
        address: of a running cluster; None: that of `RAY_ADDRESS`, if it is set.

    Returns:
        Whether there was no connection before, so that it is the caller's to end.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    # Ray reads them when it is imported. Under `uv run` it would have its processes install their own environment.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    options: dict[str, Any] = {}
    if address == "local":
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Else the processes that train give way to all others.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # On Linux, too, this is what makes it listen on the loopback alone.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        cores = len(os.sched_getaffinity(0))
        options = {"num_cpus": cores, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    ray = ray_package()
    _check_reachable(address)
    if ray.is_initialized():
        return False
    ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **options)
    return True


def _check_reachable(address: str) -> None:
    """Raises ConnectionError if nobody listens there: Ray would try for ever."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise ConnectionError(
            f"There is no Ray cluster at {address} ({error}); start one with `ray start --head`, or name another."
        ) from error


@dataclass
class _Running:
    """A task that Ray has."""

    order: Order
    is_cancelled: bool = False


class RayExecutor:
    """Runs tasks on a Ray cluster, as many at once as it has devices and cores for.

    Args:
        resources: what each trial gets.
        address: of a running cluster; None: that of `RAY_ADDRESS`, else one is started on this machine.
        leases: folder of the nodes' leases; None: that which all experiments share.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
        ValueError: no node has as much as a trial is to have.
    """

    name: str = "ray"
    silence_s: float | None = 120.0
    waits_for: str = "room in the cluster"

    def __init__(self, resources: Resources, address: str | None = None, leases: Path | None = None) -> None:
        self._resources, self._leases = resources, leases
        self._running: dict[Any, _Running] = {}
        self._id = uuid.uuid4().hex[:12]
        self._is_ours = connect(address)
        try:
            self.share = share(_nodes(), resources)
        except ValueError:
            self._disconnect()
            raise
        self._remote = ray_package().remote(
            # Retries are the orchestrator's; what one trial leaves in its process is not for the next.
            max_retries=0,
            max_calls=1,
            num_cpus=self.share.cores,
            num_gpus=self.share.devices if self.share.kind == "cuda" else 0,
        )(run_task)

    def room(self, wanted: int) -> int:
        """As many as the cluster can run at once, and a few that wait."""
        at_once = sum(self.share.fits(node) for node in _nodes())
        return max(0, min(wanted, at_once + _WAITING - len(self._running)))

    def start(self, tasks: Sequence[Task]) -> Mapping[int, str]:
        """Hands tasks to Ray, which starts them when and where there is room."""
        trials = {task.trial for task in tasks}
        for ref, running in list(self._running.items()):
            # Its node had gone silent, and the orchestrator gave it up.
            if running.order.task.trial in trials:
                ray_package().cancel(ref, force=True)
                del self._running[ref]
        for task in tasks:
            task = replace(task, experiment=task.experiment.absolute(), data_dir=task.data_dir.absolute())
            # The name is this executor's own, so that no file from before stops anything.
            stop = task.folder / f".stop.{self._id}.{task.number}"
            order = Order(
                task=task,
                share=self.share,
                limits=self._resources.limits,
                telemetry=self._resources.telemetry,
                leases=self._leases,
                stop=stop,
            )
            self._running[self._remote.options(name=str(task.key)).remote(order)] = _Running(order)
        return {}

    def wait(self, timeout_s: float) -> Sequence[Finished]:
        """What Ray says has ended."""
        if not self._running:
            time.sleep(timeout_s)
            return []
        refs = list(self._running)
        ray_package().wait(refs, num_returns=1, timeout=timeout_s)
        ready, _ = ray_package().wait(refs, num_returns=len(refs), timeout=0)
        return [self._finish(ref) for ref in ready]

    def stop(self, trials: Sequence[int]) -> None:
        """Takes back what has not begun; puts a file beside what has, for which its supervisor looks."""
        for ref, running in self._running.items():
            if running.order.task.trial in trials:
                _stop(ref, running)

    def release(self, trials: Sequence[int]) -> None:
        """Ends them: nobody else can follow them."""
        self.stop(trials)

    def adopt(self, task: Task, handle: str) -> bool:
        """Nothing that another orchestrator started outlives it."""
        return False

    def close(self) -> None:
        """Stops what runs and waits until it is gone; leaves the cluster, and ends one that was started here."""
        deadline = time.monotonic() + _CLOSE_S
        while self._running and time.monotonic() < deadline:
            self.stop([running.order.task.trial for running in self._running.values()])
            self.wait(1.0)
        for ref in self._running:
            ray_package().cancel(ref, force=True)
        self._disconnect()

    def _disconnect(self) -> None:
        if self._is_ours:
            ray_package().shutdown()

    def _finish(self, ref: Any) -> Finished:
        order = self._running.pop(ref).order
        with suppress(OSError):
            order.stop.unlink(missing_ok=True)
        return Finished(trial=order.task.trial, number=order.task.number, verdict=_verdict(ref, order))


def _nodes() -> list[Node]:
    found = [node["Resources"] for node in ray_package().nodes() if node["Alive"]]
    return [Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0)) for resources in found]


def _stop(ref: Any, running: _Running) -> None:
    newest = attempt.read(running.order.task.folder)
    if newest is not None and newest.number == running.order.task.number:
        # A full disk must not keep a trial running; the exception that Ray throws in it is the second-best way.
        with suppress(OSError):
            running.order.stop.touch()
            return
    if not running.is_cancelled:
        running.is_cancelled = True
        ray_package().cancel(ref)


def _verdict(ref: Any, order: Order) -> Verdict:
    """What came of a task, however Ray tells it."""
    from ray import exceptions

    try:
        return Verdict.from_json(ray_package().get(ref))
    except exceptions.TaskCancelledError:
        return verdict.of_cause(Cause.STOPPED, "before it had begun")
    except exceptions.RayTaskError as error:
        return verdict.of_cause(Cause.NOT_STARTED, str(error).strip().splitlines()[-1])
    except exceptions.RayError as error:
        newest = attempt.read(order.task.folder)
        if newest is not None and newest.number == order.task.number and newest.verdict is not None:
            return newest.verdict
        # The node lives if it could tell that the process died.
        is_process = isinstance(error, (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError))
        return verdict.of_cause(Cause.KILLED if is_process else Cause.NO_HEARTBEAT, f"{type(error).__name__}: {error}")
