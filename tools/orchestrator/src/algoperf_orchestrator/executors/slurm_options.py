"""What a trial's job asks a SLURM cluster for, and how long its executor waits for what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from algoperf.spec import Scale
from algoperf.trial_config import TrialConfig
from algoperf_orchestrator.executors import Resources
from algoperf_orchestrator.profiles import REFERENCE

# The budget counts submission time alone. A job also loads data, compiles and evaluates, which altogether takes
# less than the budget again and two hours. The limit is a backstop: a trial that meets it goes on in another job.
TIME_FACTOR = 2.0
TIME_ALLOWANCE_S = 7200.0
# So long before the end of its time a job is told, to save a checkpoint; killing a trial gently takes up to 85 s.
_WARNING_S = 120


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """What jobs ask the cluster for.

    Attributes:
        folder: for scripts and logs of the jobs; all machines of the cluster see it under the same path.
        partition, account, qos: as `sbatch` has them; None: the cluster's defaults.
        gpus_per_node: GPUs of a job; None: as many as a trial has devices, which at full scale are those that
            the rules are meant for; 0: none are asked for.
        exclusive: whether a job has its node for itself; None: at full scale.
        max_time_s: the longest job that the partition allows; trials that take longer go on in further jobs.
        array_parallelism: how many jobs of one array run at once.
        max_jobs: how many jobs may run or wait.
        setup: lines of shell that a job runs first.
        extra: further options of `sbatch`, such as {"gres": "gpu:4"}.
    """

    folder: Path
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus_per_node: int | None = None
    exclusive: bool | None = None
    max_time_s: float | None = None
    array_parallelism: int = 256
    max_jobs: int = 1000
    setup: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)


# The least that some options may be.
_LEAST = {"gpus_per_node": 0, "array_parallelism": 1, "max_jobs": 1}
# A job that is told to leave before it has begun to train would never get anywhere.
_LEAST_TIME_S = 600.0


def parse(given: Mapping[str, str], folder: Path) -> SlurmOptions:
    """Options as a person writes them: fields of `SlurmOptions`, or options of `sbatch`.

    Args:
        given: by name, as text.
        folder: of the jobs.

    Raises:
        ValueError: a value cannot be meant; the sentence says what could.
    """
    known = {one.name for one in fields(SlurmOptions)} - {"folder", "extra"}
    values: Mapping[str, Any] = {name: _value(name, text) for name, text in given.items() if name in known}
    extra = {name: text for name, text in given.items() if name not in known}
    return SlurmOptions(folder=folder, extra=extra, **values)


def _value(name: str, text: str) -> Any:
    if name == "setup":
        return tuple(text.split(";"))
    if name == "exclusive":
        if text not in ("true", "false"):
            raise _wrong(name, text, "true or false")
        return text == "true"
    if name == "max_time_s":
        if not text.isdecimal() or int(text) < _LEAST_TIME_S:
            raise _wrong(name, text, f"whole seconds, at least {_LEAST_TIME_S:.0f}")
        return float(text)
    if name in _LEAST:
        if not text.isdecimal() or int(text) < _LEAST[name]:
            raise _wrong(name, text, f"a whole number, at least {_LEAST[name]}")
        return int(text)
    return text


def _wrong(name: str, text: str, expected: str) -> ValueError:
    return ValueError(f"The option {name} of SLURM is {text!r}; give {expected}.")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long the executor waits for what, in seconds.

    Attributes:
        poll_s: between two questions to SLURM.
        grace_s: for the verdict of a job that has ended; network file systems are late.
        silence_s: without a heartbeat of a running job whose trial has begun.
        stop_s: for a job that was asked to stop; then it is cancelled.
        requeues: how often a job that was killed is put back into the queue.
    """

    poll_s: float = 5.0
    grace_s: float = 30.0
    silence_s: float = 300.0
    stop_s: float = 150.0
    requeues: int = 2


def time_limit_s(config: TrialConfig, max_time_s: float | None) -> float:
    """How long a trial's job may take."""
    wanted = TIME_FACTOR * config.max_runtime_s + TIME_ALLOWANCE_S
    return wanted if max_time_s is None else min(wanted, max_time_s)


def parameters(config: TrialConfig, resources: Resources, options: SlurmOptions) -> dict[str, Any]:
    """What submitit is asked for; trials with equal parameters can be one array."""
    is_full = config.scale is Scale.FULL
    is_exclusive = is_full if options.exclusive is None else options.exclusive
    wanted = {
        "job_name": "algoperf",
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "time": math.ceil(time_limit_s(config, options.max_time_s) / 60),
        "gpus_per_node": num_gpus(config, resources, options) or None,
        "cpus_per_task": resources.cores,
        "exclusive": is_exclusive or None,
        "array_parallelism": options.array_parallelism,
        "setup": list(options.setup) or None,
        # The job's script becomes the supervisor, so that it gets the signals itself.
        "use_srun": False,
        "additional_parameters": {
            "requeue": True,
            "signal": f"B:USR2@{_WARNING_S}",
            **({"mem": "0"} if is_exclusive else {}),
            **options.extra,
        },
    }
    return {name: value for name, value in wanted.items() if value is not None}


def num_gpus(config: TrialConfig, resources: Resources, options: SlurmOptions) -> int:
    """How many GPUs a trial's job is given."""
    if options.gpus_per_node is not None:
        return options.gpus_per_node
    if resources.devices is not None:
        return resources.devices
    return REFERENCE[config.rules].count if config.scale is Scale.FULL else 0
