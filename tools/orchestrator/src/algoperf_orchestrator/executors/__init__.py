"""Who runs trials: one small protocol, and an implementation for each kind of place.

All of them call `algoperf_orchestrator.launch.launch`, in a thread here or in a job elsewhere, which
starts the same `run-trial` and keeps the trial's `attempt.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from algoperf.records import trial_folder
from algoperf.trial_config import TrialConfig
from algoperf_orchestrator.launch_options import Launch, Limits
from algoperf_orchestrator.leases import Lease
from algoperf_orchestrator.planned import Key
from algoperf_orchestrator.sinks import SinkName
from algoperf_orchestrator.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one trial gets.

    Attributes:
        devices: how many GPUs, or pretended devices of a CPU; None: all GPUs that are there, else one CPU.
        cores: how many cores of the CPU; None: an even part.
        limits: what it may not do.
        telemetry: where its figures go while it runs, besides its logs.
    """

    devices: int | None = None
    cores: int | None = None
    limits: Limits = field(default_factory=Limits)
    telemetry: Sequence[SinkName] = ()


@dataclass(frozen=True, kw_only=True)
class Task:
    """One attempt at a trial.

    Attributes:
        trial: its number in the ledger.
        number: of the attempt, from 1.
        key: what tells the trial apart, for people.
        config: what determines it.
        experiment: the folder of its submission's logs.
        data_dir: the folder below which prepared data lies.
        command: what is run instead of a trial, for tests and measurements.
    """

    trial: int
    number: int
    key: Key
    config: TrialConfig
    experiment: Path
    data_dir: Path
    command: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Of the attempt, good for a file."""
        return f"{str(self.key).replace('/', '.')}.{self.number}"

    @property
    def folder(self) -> Path:
        """Where the trial's records lie."""
        config = self.config
        return trial_folder(self.experiment, config.study, config.workload, config.framework.value, config.trial)

    def launch(self, lease: Lease, limits: Limits, telemetry: Sequence[SinkName]) -> Launch:
        """What the attempt's process is started with on leased devices; for the rest see `Resources`."""
        return Launch(
            config=self.config,
            experiment=self.experiment,
            data_dir=self.data_dir,
            devices=lease.devices,
            cores=lease.cores,
            limits=limits,
            number=self.number,
            locks=lease.locks,
            command=self.command,
            telemetry=telemetry,
        )


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The end of an attempt: of which trial, which attempt, and what came of it."""

    trial: int
    number: int
    verdict: Verdict


class Executor(Protocol):
    """Runs tasks. Used by one thread.

    Attributes:
        name: as `--executor` has it.
        silence_s: seconds without a heartbeat after which a trial's host counts as gone; None where the end of
            a trial cannot be missed.
        waits_for: why there is no room although it runs nothing.
    """

    name: str
    silence_s: float | None
    waits_for: str

    def room(self, wanted: int) -> int:
        """How many of `wanted` tasks could be started now. What this takes hold of, the next `start` uses or frees."""

    def start(self, tasks: Sequence[Task]) -> Mapping[int, str]:
        """Starts tasks; their ends come through `wait`, also of those that could not be started.

        Returns:
            By trial, a handle by which `adopt` finds the task again; "" if it dies with this process.
        """

    def wait(self, timeout_s: float) -> Sequence[Finished]:
        """Attempts that have ended; returns as soon as there is one, and after `timeout_s` without."""

    def stop(self, trials: Sequence[int]) -> None:
        """Asks tasks to save a checkpoint and leave; kills those that do not. Returns at once."""

    def release(self, trials: Sequence[int]) -> None:
        """Lets go of tasks that another orchestrator has taken over: ends what that one cannot have adopted."""

    def adopt(self, task: Task, handle: str) -> bool:
        """Follows a task that an orchestrator before this one started. False if it does not live any more."""

    def close(self) -> None:
        """Ends everything that dies with this process."""
