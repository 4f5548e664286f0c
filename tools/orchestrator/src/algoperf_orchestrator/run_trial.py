"""What a trial's process does. Its stdout is for events alone, one JSON object per line."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import typer

from algoperf import registry, submission
from algoperf.data import preparation
from algoperf.records import trial_folder
from algoperf.spec import Framework
from algoperf.trial import EndReason, Outcome, Trial, TrialConfig
from algoperf_orchestrator import profiles
from algoperf_orchestrator.errors import sentence
from algoperf_orchestrator.summary import EXIT_CODES
from algoperf_scoring import submission_info

# A preflight takes so many steps.
PREFLIGHT_STEPS = 3

# How long a process that failed waits for process 0 to write down the same failure.
_GRACE_S = 10.0
# Variables by which a shell can change results or speed where no setting of ours does: they are recorded.
DECISIVE = ("CUBLAS_", "CUDA_", "JAX_", "MKL_", "NCCL_", "OMP_", "PYTHONPATH", "PYTORCH_", "TF_", "TORCH", "XLA_")


def run_trial(config_file: Path, experiment: Path, data_dir: Path, settings: str, preflight: bool = False) -> int:
    """Runs one trial in this process, or continues it. Returns the exit code.

    Args:
        config_file: the trial's configuration as JSON; "-" reads stdin.
        experiment: folder for the logs.
        data_dir: the folder below which prepared data lies.
        settings: names the profile that the process was started with, for the records.
        preflight: take a few steps alone.

    The code is 0 for every result of the algorithm, and if the trial was asked to stop; 3 if the
    infrastructure failed. Where several processes run the trial it is 1 if the submission failed:
    torchrun then ends the others.
    """
    stop = _stop_on_signals()
    events = _claim_stdout()

    def observe(event: str, facts: Mapping[str, Any]) -> None:
        # If nobody listens any more this raises, which ends the trial.
        events.write(json.dumps({"event": event, **facts}) + "\n")
        events.flush()

    config = _read_config(config_file)
    spec = registry.workload_spec(config.workload).at(config.scale)
    # Before the submission: it may ask for the process group while it is imported.
    workload = registry.make_workload(spec, config.framework, data_dir, config.rules)
    _check_devices(settings, workload.backend.hardware())
    folder = trial_folder(experiment, config.study, config.workload, config.framework.value, config.trial)
    checksums = preparation.checksums(spec, data_dir)
    metadata = _process_metadata(settings, config, workload.backend.hardware(), checksums)
    try:
        loaded = _load(config)
        make = partial(Trial, config, workload, loaded, folder, observe, metadata)
        outcome = _preflight(make, stop) if preflight else make(stop=stop).run()
    except submission.SubmissionError as error:
        observe("refused", {"message": str(error)})
        raise
    except OSError as error:
        # Not even how the trial ended can be written.
        typer.echo(sentence(error), err=True)
        return EXIT_CODES[EndReason.INFRASTRUCTURE]
    if outcome is None:
        return 0
    if outcome.error is not None:
        typer.echo(outcome.error["traceback"], err=True)
    return _exit_code(outcome, workload.backend.rank, workload.backend.num_processes)


def _load(config: TrialConfig) -> submission.Submission:
    path = submission.locate(config.submission, config.framework)
    adapter = submission_info.read(path.parent).facts.get("adapter")
    if adapter is not None and config.framework is not Framework.JAX:
        raise submission.SubmissionError(f"{path} asks for the adapter {adapter!r}, which is for JAX; leave it out.")
    return submission.load(path, adapter)


def _preflight(make: Callable[..., Trial], stop: Callable[[], bool]) -> Outcome | None:
    """Takes steps, with an evaluation after the first, saves a checkpoint, goes on from it and leaves again."""
    outcome = make(stop=stop, leave_at=PREFLIGHT_STEPS - 1).run()
    return outcome if outcome or stop() else make(stop=stop, leave_at=PREFLIGHT_STEPS).run()


def _stop_on_signals() -> Callable[[], bool]:
    """Whether SIGINT or SIGTERM came. A second one interrupts at once."""
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return lambda: bool(received)


def _process_metadata(
    settings: str, config: TrialConfig, hardware: Mapping[str, Any], checksums: Mapping[str, str | None]
) -> dict[str, Any]:
    variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith(DECISIVE)}
    status, why = profiles.status(config, hardware)
    return {
        "process_settings": settings,
        **checksums,
        "environment": variables,
        "hostname": socket.gethostname(),
        "results_status": status.value,
        "results_status_reason": why,
    }


def _check_devices(settings: str, hardware: Mapping[str, Any]) -> None:
    """Raises ValueError if the trial was started for GPUs and the framework sees none."""
    if settings.endswith("-cuda") and hardware["device_platform"] not in ("gpu", "cuda"):
        raise ValueError(
            f"There are GPUs, but this framework ({hardware['framework_version']}) sees none; install its CUDA build "
            "(for JAX `uv pip install 'algoperf-core[jax-cuda]'`), or set CUDA_VISIBLE_DEVICES= to train on the CPU."
        )


def _exit_code(outcome: Outcome, rank: int, num_processes: int) -> int:
    if outcome.end_reason is EndReason.INFRASTRUCTURE:
        return EXIT_CODES[outcome.end_reason]
    if outcome.error is None or num_processes == 1:
        return 0
    if rank != 0:
        time.sleep(_GRACE_S)
    return 1


def _claim_stdout() -> IO[str]:
    """Stdout for events alone: what submissions print goes to stderr, from C as well."""
    sys.stdout.flush()
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return events


def _read_config(path: Path) -> TrialConfig:
    text = sys.stdin.read() if str(path) == "-" else path.read_text()
    try:
        return TrialConfig.from_json(json.loads(text))
    except (TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no trial's configuration: {error}.") from error
