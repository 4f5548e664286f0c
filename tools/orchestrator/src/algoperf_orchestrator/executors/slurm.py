"""Trials as jobs of a SLURM cluster, submitted with submitit as arrays.

A job runs `job.run`, whose verdict comes back through a file; what became of a job that left none,
`squeue` and `scontrol` say. `sacct` is not needed.
"""

from __future__ import annotations

import io
import json
import math
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from typing import Any

import submitit
from submitit.core.utils import FailedSubmissionError, UncompletedJobError

from algoperf_orchestrator import attempt, verdict
from algoperf_orchestrator.executors import Finished, Resources, Task
from algoperf_orchestrator.executors.job import Mailbox, call_of, run
from algoperf_orchestrator.executors.slurm_options import Patience, SlurmOptions, num_gpus, parameters, time_limit_s
from algoperf_orchestrator.executors.slurm_queue import Listed, Queue, call, exit_status
from algoperf_orchestrator.verdict import Cause, Verdict

_ARRAY = 500
_TICK_S = 0.5
# How long the start of tasks may take while the controller is down: others must not think that this process is.
_SUBMIT_S = 30.0


@dataclass
class _Job:
    """An attempt that is followed.

    Attributes:
        task: which.
        handle: SLURM's name of its job.
        seen: what SLURM said up to then is known, or not about this job.
        has_run: whether it was seen running.
        ended: since when it has ended without a verdict.
        stop: when it was asked to stop.
        requeues: how often it was put back into the queue.
        heartbeat: the newest, and when it was new here: clocks of machines differ.
    """

    task: Task
    handle: str
    seen: float
    has_run: bool = False
    ended: float | None = None
    stop: float | None = None
    requeues: int = 0
    heartbeat: tuple[float | None, float] = (None, 0.0)


class SlurmExecutor:
    """Runs tasks as jobs. They outlive this process, and another one adopts them by their handles.

    A job that was killed goes back into the queue, by itself if its node failed. While the controller is
    down nothing is started and nothing is lost.

    Args:
        options: what jobs ask the cluster for.
        resources: what a trial gets.
        patience: how long to wait for what.

    Raises:
        ValueError: this machine does not belong to a cluster.
        OSError: the folder of the jobs cannot be made.
    """

    name: str = "slurm"
    # Jobs that wait in the queue again are silent too; this executor sees the difference.
    silence_s: float | None = None
    waits_for: str = "SLURM, whose controller does not answer; see `scontrol ping`"

    def __init__(self, options: SlurmOptions, resources: Resources, patience: Patience | None = None) -> None:
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise ValueError(
                "SLURM's commands are not installed here; run this on a cluster's login node, "
                "or choose another --executor."
            )
        self._options, self._resources, self._patience = options, resources, patience or Patience()
        self._folder = options.folder.resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._queue = Queue(self._patience.poll_s)
        self._jobs: dict[int, _Job] = {}
        self._refused: list[Finished] = []

    def room(self, wanted: int) -> int:
        """Up to the limit of jobs; none while SLURM does not answer."""
        self._queue.refresh()
        return min(wanted, max(self._options.max_jobs - len(self._jobs), 0)) if self._queue.answers else 0

    def start(self, tasks: Sequence[Task]) -> Mapping[int, str]:
        """Submits an array for each group of tasks that ask for the same."""
        groups: dict[str, list[Task]] = {}
        for task in tasks:
            wanted = parameters(task.config, self._resources, self._options)
            groups.setdefault(json.dumps(wanted), []).append(task)
        handles: dict[int, str] = {}
        deadline = time.monotonic() + _SUBMIT_S
        for wanted_text, group in groups.items():
            for first in range(0, len(group), _ARRAY):
                handles |= self._start(json.loads(wanted_text), group[first : first + _ARRAY], deadline)
        return handles

    def _start(self, wanted: Mapping[str, Any], tasks: Sequence[Task], deadline: float) -> dict[int, str]:
        try:
            for task in tasks:
                self._mailbox(task).clear()
            handles = self._submit(wanted, tasks, deadline)
        except (FailedSubmissionError, UncompletedJobError, OSError) as error:
            reason = verdict.of_cause(Cause.NOT_STARTED, str(error))
            self._refused += [Finished(trial=task.trial, number=task.number, verdict=reason) for task in tasks]
            return {}
        for task, handle in zip(tasks, handles, strict=True):
            self._jobs[task.trial] = _Job(task, handle, time.monotonic())
        return {task.trial: handle for task, handle in zip(tasks, handles, strict=True)}

    def _submit(self, wanted: Mapping[str, Any], tasks: Sequence[Task], deadline: float) -> list[str]:
        # `-P`, because a file beside which this was started must not stand in for a package.
        submitter = submitit.SlurmExecutor(self._folder, 0, python=f"exec {shlex.quote(sys.executable)} -P")
        submitter.update_parameters(**wanted)
        calls = [self._call(task) for task in tasks]
        pause_s = 1.0
        while True:
            try:
                # It prints what it then raises.
                with redirect_stderr(io.StringIO()):
                    return [job.job_id for job in submitter.map_array(run, calls)]
            except UncompletedJobError:
                self._queue.refresh(now=True)
                # Who answers refuses this job; otherwise the controller may come back.
                if self._queue.answers or time.monotonic() + pause_s > deadline:
                    raise
            time.sleep(pause_s)
            pause_s *= 2

    def _call(self, task: Task) -> dict[str, Any]:
        config, options = task.config, self._options
        is_cut = time_limit_s(config, None) > time_limit_s(config, options.max_time_s)
        # A job that is shorter than its trial by intent has not failed.
        at_time_limit = Cause.STOPPED if is_cut else Cause.TIME_LIMIT
        return call_of(task, self._resources, self._folder, num_gpus(config, self._resources, options), at_time_limit)

    def _mailbox(self, task: Task) -> Mailbox:
        return Mailbox(folder=self._folder, name=task.name)

    def wait(self, timeout_s: float) -> Sequence[Finished]:
        """Looks for verdicts, and every few seconds at the queue."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._queue.refresh()
            found, self._refused = self._refused, []
            for trial, job in list(self._jobs.items()):
                if (ended := self._judge(job)) is not None:
                    del self._jobs[trial]
                    found.append(Finished(trial=trial, number=job.task.number, verdict=ended))
            left_s = deadline - time.monotonic()
            if found or left_s <= 0:
                return found
            time.sleep(min(_TICK_S, left_s))

    def stop(self, trials: Sequence[int]) -> None:
        """Asks through the jobs' mailboxes; `wait` cancels those that have not begun, or do not listen."""
        for trial in trials:
            job = self._jobs.get(trial)
            if job is not None and job.stop is None:
                job.stop = time.monotonic()
                # On a full disk it is cancelled a little later.
                with suppress(OSError):
                    self._mailbox(job.task).ask_to_stop()
                self._queue.hurry()

    def release(self, trials: Sequence[int]) -> None:
        """Forgets them: who took them over has adopted their jobs."""
        for trial in trials:
            self._jobs.pop(trial, None)

    def adopt(self, task: Task, handle: str) -> bool:
        """Follows a job that SLURM still knows, or that has left a verdict; while SLURM does not answer, any."""
        if not handle:
            return False
        if self._mailbox(task).told() is None:
            self._queue.refresh(now=self._queue.find(handle).is_gone)
            if self._queue.answers and self._queue.find(handle).is_gone:
                return False
        self._jobs[task.trial] = _Job(task, handle, -math.inf)
        return True

    def close(self) -> None:
        """Leaves the jobs alone: they go on, and whoever continues the experiment adopts them."""

    # What becomes of a job.

    def _judge(self, job: _Job) -> Verdict | None:
        told = self._mailbox(job.task).told()
        # Who was stopped by SLURM's signal is perhaps in the queue again.
        if told is not None and (told.reason != Cause.STOPPED or job.stop is not None):
            return told
        if not self._queue.answers or self._queue.taken <= job.seen:
            return None
        job.seen = self._queue.taken
        listed = self._queue.find(job.handle)
        if not listed.has_ended:
            job.ended = None
            return self._mind(job, listed)
        if told is not None:
            return listed.verdict(job.handle) or told
        return self._judge_ended(job, listed)

    def _mind(self, job: _Job, listed: Listed) -> Verdict | None:
        """Looks after a job that runs or waits."""
        now = time.monotonic()
        is_running = listed.state == "RUNNING"
        job.has_run |= is_running
        if listed.state == "PENDING" and job.stop is not None:
            # Not if it has begun meanwhile.
            call("scancel", "--state=PENDING", job.handle)
        elif listed.is_hopeless:
            call("scancel", job.handle)
            return verdict.of_cause(Cause.NOT_STARTED, f"SLURM holds job {job.handle}: {listed.reason}")
        elif job.stop is not None and now - job.stop > self._patience.stop_s:
            call("scancel", job.handle)
        elif self._silence_s(job, is_running, now) > self._patience.silence_s:
            call("scancel", job.handle)
            return verdict.of_cause(Cause.NO_HEARTBEAT, f"job {job.handle} is running and silent")
        return None

    def _silence_s(self, job: _Job, is_running: bool, now: float) -> float:
        newest = attempt.read(job.task.folder)
        beat = newest.heartbeat if newest is not None and newest.number == job.task.number else None
        if beat is None or beat != job.heartbeat[0] or not is_running:
            job.heartbeat = beat, now
        return now - job.heartbeat[1]

    def _judge_ended(self, job: _Job, listed: Listed) -> Verdict | None:
        """Of a job that has ended without a verdict, or whose verdict is late."""
        now = time.monotonic()
        job.ended = job.ended or now
        is_unborn = listed.state == "CANCELLED" and not job.has_run
        if not is_unborn and now - job.ended < self._patience.grace_s:
            return None
        if job.stop is not None:
            return verdict.of_cause(Cause.STOPPED, f"job {job.handle} is {listed.state}")
        if (found := listed.verdict(job.handle)) is not None:
            return found
        if listed.is_gone:
            return verdict.of_cause(Cause.DIED, f"SLURM does not know job {job.handle} any more")
        code, number = exit_status(job.handle)
        if number and job.requeues < self._patience.requeues and call("scontrol", "requeue", job.handle) is not None:
            job.requeues, job.ended, job.seen = job.requeues + 1, None, time.monotonic()
            return None
        if number:
            return verdict.of_cause(Cause.KILLED, f"job {job.handle} is {listed.state}, by signal {number}")
        end = f"job {job.handle} is {listed.state}, exit code {code}: {self._last_line(job)}"
        return verdict.of_cause(Cause.DIED, end)

    def _last_line(self, job: _Job) -> str:
        path = self._folder / f"{job.handle}_0_log.err"
        with suppress(OSError):
            return (path.read_text(errors="replace").strip().splitlines() or [""])[-1]
        return f"it left no {path}"
