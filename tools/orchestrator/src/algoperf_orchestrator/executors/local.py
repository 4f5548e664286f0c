"""Trials as processes of this machine: one per lease, each in a session of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from algoperf.records import RecordsError
from algoperf_orchestrator import verdict
from algoperf_orchestrator.executors import Finished, Task
from algoperf_orchestrator.launch import launch
from algoperf_orchestrator.launch_options import Limits
from algoperf_orchestrator.leases import Lease, Pool
from algoperf_orchestrator.sinks import SinkName
from algoperf_orchestrator.verdict import Cause, Verdict


class LocalExecutor:
    """Runs tasks here, as many at once as the pool has shares.

    Args:
        pool: this machine's devices and cores.
        limits: what a trial may not do.
        telemetry: where figures of trials go, besides their logs.
    """

    name: str = "local"
    silence_s: float | None = None
    waits_for: str = "devices that others use"

    def __init__(self, pool: Pool, limits: Limits, telemetry: Sequence[SinkName] = ()) -> None:
        self._pool, self._limits, self._telemetry = pool, limits, telemetry
        self._idle: list[Lease] = []
        # By trial and attempt: one that another orchestrator took over may come back before it has ended.
        self._running: dict[tuple[int, int], tuple[threading.Thread, threading.Event]] = {}
        self._ended: queue.SimpleQueue[Finished] = queue.SimpleQueue()

    def room(self, wanted: int) -> int:
        """Takes leases."""
        while len(self._idle) < wanted and (lease := self._pool.take()) is not None:
            self._idle.append(lease)
        return len(self._idle)

    def start(self, tasks: Sequence[Task]) -> Mapping[int, str]:
        """Starts a thread for each task, which watches its process."""
        for task in tasks:
            stop = threading.Event()
            thread = threading.Thread(target=self._run, args=(task, self._idle.pop(), stop), daemon=True)
            self._running[task.trial, task.number] = thread, stop
            thread.start()
        self._free()
        return {}

    def wait(self, timeout_s: float) -> Sequence[Finished]:
        """What the threads have put into the queue."""
        found: list[Finished] = []
        with suppress(queue.Empty):
            found.append(self._ended.get(timeout=timeout_s))
            while True:
                found.append(self._ended.get_nowait())
        for one in found:
            thread, _ = self._running.pop((one.trial, one.number))
            thread.join()
        return found

    def stop(self, trials: Sequence[int]) -> None:
        """Tells the threads."""
        for (trial, _), (_, stop) in self._running.items():
            if trial in trials:
                stop.set()

    def release(self, trials: Sequence[int]) -> None:
        """Ends them: their processes are this one's."""
        self.stop(trials)

    def adopt(self, task: Task, handle: str) -> bool:
        """Nothing that another orchestrator started here outlives it."""
        return False

    def close(self) -> None:
        """Stops what runs, and waits until it is gone."""
        self.stop([trial for trial, _ in self._running])
        for thread, _ in self._running.values():
            thread.join()
        self._free()

    def _free(self) -> None:
        while self._idle:
            self._idle.pop().release()

    def _run(self, task: Task, lease: Lease, stop: threading.Event) -> None:
        try:
            found = self._attempt(task, lease, stop)
        finally:
            lease.release()
        self._ended.put(Finished(trial=task.trial, number=task.number, verdict=found))

    def _attempt(self, task: Task, lease: Lease, stop: threading.Event) -> Verdict:
        try:
            what = task.launch(lease, self._limits, self._telemetry)
            return launch(what, lambda event, facts: None, stop).verdict
        except RecordsError as error:
            return verdict.of_cause(Cause.LOCKED, str(error))
        # A thread's error would be lost: whatever it is, the trial has not got a result.
        except Exception as error:  # noqa: BLE001
            return verdict.of_cause(Cause.NOT_STARTED, f"{type(error).__name__}: {error}")
