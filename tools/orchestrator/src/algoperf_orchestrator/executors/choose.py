"""The executor that a suite asks for. Ray and SLURM are imported only then: they are extras."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from algoperf.spec import Scale
from algoperf_orchestrator.environment import Devices, find_devices
from algoperf_orchestrator.executors import Executor, Resources, slurm_options
from algoperf_orchestrator.executors.local import LocalExecutor
from algoperf_orchestrator.executors.slurm_options import SlurmOptions
from algoperf_orchestrator.launch_options import Limits
from algoperf_orchestrator.leases import Pool, default_folder, make_pool
from algoperf_orchestrator.machine_memory import memory_here
from algoperf_orchestrator.sinks import SinkName
from algoperf_orchestrator.suite import Suite

# What is silent for so long hangs: at full scale an evaluation alone may take the better part of an hour.
_SILENCE_S = {Scale.FULL: 7200.0, Scale.MINI: 600.0}
# Of the memory that is there, what trials may use together.
_MEMORY_PART = 0.9


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a trial may not do, as a user says it.

    Attributes:
        memory_gib: memory of one trial; None: on this machine's CPU an even part of what is there, else no limit.
        silence_s: when a trial counts as hung; None: after two hours, at mini scale ten minutes.

    Raises:
        ValueError: a bound that no trial could keep.
    """

    memory_gib: float | None = None
    silence_s: float | None = None

    def __post_init__(self) -> None:
        for option, value in (("--memory", self.memory_gib), ("--hang-after", self.silence_s)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{option} is {value:g}; give a number above 0, or leave it out.")


def make_executor(suite: Suite, experiment: Path, bounds: Bounds, telemetry: Sequence[SinkName] = ()) -> Executor:
    """The executor of a suite.

    Raises:
        ValueError: fewer devices are there than a trial is to use, or a setting is none.
        ImportError: the extra is not installed; the message says how to install it.
        OSError: a cluster does not answer.
    """
    memory = None if bounds.memory_gib is None else int(bounds.memory_gib * 2**30)
    silence_s = _SILENCE_S[suite.scale] if bounds.silence_s is None else bounds.silence_s
    limits = Limits(memory_bytes=memory, silence_s=silence_s)
    resources = Resources(devices=suite.devices, cores=suite.cores, limits=limits, telemetry=telemetry)
    if suite.executor == "ray":
        from algoperf_orchestrator.executors.ray import RayExecutor

        return RayExecutor(resources, suite.ray_address)
    if suite.executor == "slurm":
        return _slurm(suite, experiment, resources)
    return _local(suite, bounds, resources)


def preflight_pool(devices: int | None, number: int, memory_gib: float | None) -> tuple[Pool, int | None]:
    """This machine in shares for so many checks at once, and the memory in bytes that one may use."""
    here = find_devices(None)
    cores = max(1, len(os.sched_getaffinity(0)) // number) if here.kind == "cpu" else None
    # A cluster's nodes may have more devices than this machine.
    count = min(devices or 1, len(here.ids)) if here.ids else devices or 1
    pool = make_pool(here, count, cores)
    return pool, _memory_bytes(here, len(pool.shares), memory_gib)


def _memory_bytes(devices: Devices, num_at_once: int, memory_gib: float | None) -> int | None:
    if memory_gib is not None:
        return int(memory_gib * 2**30)
    # With GPUs the host's memory holds the data sets, and what a trial needs of it is not the algorithm's doing.
    return None if devices.kind == "cuda" else int(memory_here().total * _MEMORY_PART / num_at_once)


def _local(suite: Suite, bounds: Bounds, resources: Resources) -> LocalExecutor:
    devices = find_devices(None)
    pool = make_pool(devices, suite.devices or max(len(devices.ids), 1), suite.cores)
    memory = _memory_bytes(devices, len(pool.shares), bounds.memory_gib)
    return LocalExecutor(pool, replace(resources.limits, memory_bytes=memory), resources.telemetry)


def _slurm(suite: Suite, experiment: Path, resources: Resources) -> Executor:
    from algoperf_orchestrator.executors.slurm import SlurmExecutor

    return SlurmExecutor(slurm_options.parse(suite.slurm, _jobs(experiment)), resources)


def executor_of_jobs(experiment: Path) -> Executor:
    """One that follows and stops the jobs that an experiment has in a cluster.

    Raises ValueError or ImportError as `make_executor` does.
    """
    from algoperf_orchestrator.executors.slurm import SlurmExecutor

    return SlurmExecutor(SlurmOptions(folder=_jobs(experiment)), Resources())


def executor_of_nothing() -> Executor:
    """One that has no devices."""
    return LocalExecutor(Pool(shares=(), folder=default_folder()), Limits())


def _jobs(experiment: Path) -> Path:
    return experiment.resolve() / ".slurm"
