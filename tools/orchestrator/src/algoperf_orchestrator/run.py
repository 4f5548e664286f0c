"""The command `run`: one trial from what was asked for to its summary."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from algoperf import records, registry
from algoperf.trial_config import EndReason, TrialConfig
from algoperf_orchestrator import sinks, summary
from algoperf_orchestrator.configure import RunRequest, configure
from algoperf_orchestrator.environment import find_devices
from algoperf_orchestrator.errors import BAD_INPUT, INTERRUPTED
from algoperf_orchestrator.launch import STDERR, Ended, launch
from algoperf_orchestrator.launch_options import Launch
from algoperf_orchestrator.progress import Progress
from algoperf_orchestrator.sinks import SinkName
from algoperf_orchestrator.verdict import Cause, of_folder

_LAST_LINES = 15


def run(request: RunRequest, experiment: Path, devices: int | None = None, telemetry: Sequence[SinkName] = ()) -> int:
    """Runs a trial, or continues it; says so if it is finished. Returns the exit code.

    Raises:
        ValueError, ImportError, DataError, RecordsError: with the sentence for the user.
    """
    sinks.check(telemetry)
    config = configure(request)
    what = Launch(
        config=config,
        experiment=experiment,
        data_dir=request.data_dir,
        devices=find_devices(devices),
        telemetry=telemetry,
    )
    records.check_same_config(what.folder, config.as_json())
    if of_folder(what.folder) is not None:
        typer.echo(f"{_title(config)} is finished already; choose another --experiment to train again.")
        return _report(what)
    target = registry.workload_spec(config.workload).at(config.scale).target
    progress = Progress(_title(config), target, config.max_runtime_s, live=sys.stdout.isatty())
    try:
        with _termination_interrupts(), progress:
            ended = launch(what, progress.show)
    except KeyboardInterrupt:
        typer.echo("Stopped; run the same command again to continue.", err=True)
        return INTERRUPTED
    # Of several processes one that failed may have written the outcome while the first waited for it.
    return _report(what) if ended.is_told or of_folder(what.folder) is not None else _died(what, ended)


def _title(config: TrialConfig) -> str:
    name = Path(config.submission).stem
    return f"{config.workload} ({config.scale.value}) with {name} in {config.framework.value}"


def _report(what: Launch) -> int:
    record = records.read_trial(what.folder)
    for line in summary.lines(record, what.config):
        typer.echo(line)
    return summary.EXIT_CODES[EndReason(record.outcome["end_reason"])]


def _died(what: Launch, ended: Ended) -> int:
    lines = ended.stderr.strip().splitlines() or ["(it wrote nothing)"]
    if ended.code == BAD_INPUT:
        typer.echo(lines[-1], err=True)
        return BAD_INPUT
    if ended.verdict.reason == Cause.REFUSED:
        # The last words of several processes are those of their launcher.
        typer.echo(ended.verdict.detail, err=True)
        return BAD_INPUT
    for line in lines[-_LAST_LINES:]:
        typer.echo(f"  {line}", err=True)
    typer.echo(
        f"The trial's process ended with code {ended.code} before the trial did, after the lines "
        f"above in {what.folder / STDERR}; run the same command again to continue.",
        err=True,
    )
    return summary.EXIT_CODES[EndReason.INFRASTRUCTURE]


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    # So that a scheduler's SIGTERM ends the trial's process too, as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
