"""One attempt at a trial as a job of a cluster: what is handed to it, what runs in it, and how the two sides talk."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from algoperf.records import RecordsError
from algoperf.trial_config import TrialConfig
from algoperf_orchestrator import attempt, verdict
from algoperf_orchestrator.environment import find_devices
from algoperf_orchestrator.executors import Resources, Task
from algoperf_orchestrator.launch import launch
from algoperf_orchestrator.launch_options import Launch, Limits
from algoperf_orchestrator.leases import Lease, Pool, make_pool
from algoperf_orchestrator.sinks import SinkName
from algoperf_orchestrator.verdict import Cause, Verdict

_TICK_S = 0.25
# SLURM's SIGTERM reaches the trial too, and it needs time to save: a second signal would interrupt it at once.
_ALONE_S = 10.0
# A job that was killed a moment ago may hold its devices, or the trial, for a little longer.
_BUSY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Mailbox:
    """Two small files of one attempt, through which orchestrator and job talk wherever the job runs.

    Signals would not do: whoever sends them needs the cluster's controller, and who gets one cannot
    tell who asked. `attempt.json` would not do either: it may belong to another job by now.

    Attributes:
        folder: of all jobs of an experiment.
        name: of the attempt, the same whatever becomes of the ledger.
    """

    folder: Path
    name: str

    def clear(self) -> None:
        """Throws away what is there, before the job is submitted."""
        self._stop.unlink(missing_ok=True)
        self._verdict.unlink(missing_ok=True)

    def ask_to_stop(self) -> None:
        """Asks the job to save a checkpoint and leave."""
        self._stop.touch()

    def is_asked_to_stop(self) -> bool:
        """Whether somebody did."""
        return self._stop.exists()

    def forget(self) -> None:
        """Throws away what an earlier run of the same job said."""
        self._verdict.unlink(missing_ok=True)

    def tell(self, verdict: Verdict) -> None:
        """Says what came of the attempt."""
        temporary = self._verdict.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(verdict.as_json()))
        temporary.replace(self._verdict)

    def told(self) -> Verdict | None:
        """What came of the attempt; None as long as it has not been said."""
        # A half-written or unreachable file is read again the next time.
        with suppress(OSError, ValueError):
            return Verdict.from_json(json.loads(self._verdict.read_text()))
        return None

    @property
    def _stop(self) -> Path:
        return self.folder / f"{self.name}.stop"

    @property
    def _verdict(self) -> Path:
        return self.folder / f"{self.name}.verdict.json"


def call_of(task: Task, resources: Resources, folder: Path, num_gpus: int, at_time_limit: Cause) -> dict[str, Any]:
    """The argument of `run`: plain data, so that a job can be read by people.

    Args:
        task: the attempt.
        resources: what it gets.
        folder: of the mailboxes.
        num_gpus: how many GPUs the job is given; 0: it may find some, or train on the CPU.
        at_time_limit: what it means if the trial has to leave because the job's time is up.
    """
    limits = resources.limits
    call = {
        "name": task.name,
        "number": task.number,
        "config": task.config.as_json(),
        "experiment": str(task.experiment.resolve()),
        "data_dir": str(task.data_dir.resolve()),
        "command": list(task.command),
        "folder": str(folder),
        "num_gpus": num_gpus,
        "devices": num_gpus or resources.devices,
        "cores": resources.cores,
        "memory_bytes": limits.memory_bytes,
        "silence_s": limits.silence_s,
        "at_time_limit": at_time_limit.value,
        "telemetry": list(resources.telemetry),
    }
    plain: dict[str, Any] = json.loads(json.dumps(call))
    return plain


def run(call: Mapping[str, Any]) -> None:
    """Runs one attempt in a job, and puts what came of it into the mailbox.

    SIGTERM (the job is cancelled or preempted), SIGUSR2 (its time is nearly up) and the mailbox make
    the trial save a checkpoint and leave.
    """
    mailbox = Mailbox(folder=Path(call["folder"]), name=call["name"])
    mailbox.forget()
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: received.append(number))
    stop = threading.Event()
    # In a thread of its own: a handler that sets an event can meet itself and wait for ever.
    threading.Thread(target=_watch, args=(mailbox, received, stop), daemon=True).start()
    found = _attempt(call, stop)
    if signal.SIGTERM in received and found.reason in (Cause.KILLED, Cause.DIED):
        # The signal was faster in the trial than here.
        found = verdict.of_cause(Cause.STOPPED, f"{found.reason} {found.detail}")
    if found.reason == Cause.STOPPED and signal.SIGUSR2 in received and not mailbox.is_asked_to_stop():
        found = verdict.of_cause(Cause(call["at_time_limit"]), f"the job's time was up {found.detail}")
    mailbox.tell(found)


def _watch(mailbox: Mailbox, received: list[int], stop: threading.Event) -> None:
    terminated: float | None = None
    while signal.SIGUSR2 not in received and not mailbox.is_asked_to_stop():
        if signal.SIGTERM in received:
            terminated = terminated or time.monotonic()
            if time.monotonic() - terminated >= _ALONE_S:
                break
        time.sleep(_TICK_S)
    stop.set()


def _attempt(call: Mapping[str, Any], stop: threading.Event) -> Verdict:
    deadline = time.monotonic() + _BUSY_S
    while True:
        found = _try(call, stop)
        if found.reason != Cause.LOCKED or stop.is_set() or time.monotonic() >= deadline:
            return found
        stop.wait(_TICK_S)


def _try(call: Mapping[str, Any], stop: threading.Event) -> Verdict:
    try:
        lease = _lease(call)
        if lease is None:
            busy = f"all devices of {socket.gethostname()} are used by others"
            return verdict.of_cause(Cause.LOCKED, busy)
        try:
            what = _launch(call, lease)
            newest = attempt.read(what.folder)
            if newest is not None and newest.number > what.number:
                # It waited in the queue while somebody gave it up and began anew.
                return verdict.of_cause(Cause.LEASE_LOST, f"attempt {newest.number} has begun")
            return launch(what, lambda event, facts: None, stop).verdict
        finally:
            lease.release()
    except RecordsError as error:
        return verdict.of_cause(Cause.LOCKED, str(error))
    except (OSError, ValueError) as error:
        return verdict.of_cause(Cause.NOT_STARTED, f"{socket.gethostname()}: {error}")


def _launch(call: Mapping[str, Any], lease: Lease) -> Launch:
    return Launch(
        config=TrialConfig.from_json(call["config"]),
        experiment=Path(call["experiment"]),
        data_dir=Path(call["data_dir"]),
        devices=lease.devices,
        cores=lease.cores,
        limits=Limits(memory_bytes=call["memory_bytes"], silence_s=call["silence_s"]),
        number=call["number"],
        locks=lease.locks,
        command=call["command"],
        telemetry=[SinkName(name) for name in call["telemetry"]],
    )


def _lease(call: Mapping[str, Any]) -> Lease | None:
    """What this job has been given, locked against orchestrators that work on the same machine."""
    devices = find_devices(call["devices"])
    if call["num_gpus"] and devices.kind != "cuda":
        raise ValueError(f"the job was given {call['num_gpus']} GPUs, but nvidia-smi finds none here.")
    # Where the cluster does not bind its jobs to cores, those of a job are the first that no other job uses.
    given = int(os.environ.get("SLURM_CPUS_ON_NODE", "0")) or None
    num_cores = min(call["cores"] or given or os.cpu_count() or 1, len(os.sched_getaffinity(0)))
    pool = make_pool(replace(devices, kind="cpu", ids=()), devices.count, num_cores)
    return Pool(shares=[(devices, cores) for _, cores in pool.shares], folder=pool.folder).take()
