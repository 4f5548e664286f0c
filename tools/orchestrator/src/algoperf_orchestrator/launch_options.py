"""What a trial's process is started with, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from algoperf.records import trial_folder
from algoperf.trial_config import TrialConfig
from algoperf_orchestrator.environment import Devices
from algoperf_orchestrator.sinks import SinkName


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a trial may not do.

    Attributes:
        memory_bytes: memory of the machine that its processes may hold together; None: no limit.
        silence_s: how long it may neither step nor evaluate, in seconds; None: for ever.
    """

    memory_bytes: int | None = None
    silence_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a trial's process is started with.

    Attributes:
        config: the trial.
        experiment: the folder that its records go to.
        data_dir: the folder below which prepared data lies.
        devices: what it trains on.
        cores: which of the CPU's cores it may use; empty: all.
        limits: what it may not do.
        number: which attempt at the trial this is, from 1.
        locks: open files that its process inherits, see `algoperf_orchestrator.leases`.
        command: what is run instead of a trial, for tests and measurements; it gets the same arguments.
        options: further arguments of `run-trial`.
        telemetry: where figures go while it runs, besides its logs.
    """

    config: TrialConfig
    experiment: Path
    data_dir: Path
    devices: Devices
    cores: tuple[int, ...] = ()
    limits: Limits = field(default_factory=Limits)
    number: int = 1
    locks: tuple[int, ...] = ()
    command: Sequence[str] = ()
    options: Sequence[str] = ()
    telemetry: Sequence[SinkName] = ()

    @property
    def folder(self) -> Path:
        """The trial's folder."""
        config = self.config
        return trial_folder(self.experiment, config.study, config.workload, config.framework.value, config.trial)
