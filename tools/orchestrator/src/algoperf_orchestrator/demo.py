"""The command `demo`: algorithms compete on a workload at mini scale, in each framework."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import typer

from algoperf import records, registry
from algoperf.records import TrialRecord, trial_folder
from algoperf.spec import Framework, Scale, Split, Target
from algoperf_orchestrator import data_commands, frameworks
from algoperf_orchestrator.configure import RunRequest
from algoperf_orchestrator.run import INTERRUPTED, run
from algoperf_orchestrator.summary import time_to_target

SUBMISSIONS = ("adamw", "nadamw")


def demo(workload: str, experiment: Path, data_dir: Path, clock: Literal["wall", "virtual"]) -> int:
    """Prepares the data, trains each algorithm in each framework, and prints a table.

    Returns the worst of the trials' exit codes. Below `experiment`, each algorithm's records in each
    framework are an experiment of their own.
    """
    spec = registry.workload_spec(workload).at(Scale.MINI)
    chosen = _frameworks(tuple(spec.implementations))
    for submission in SUBMISSIONS:
        registry.submission_spec(submission)
    data_commands.prepare_if_needed(spec, data_dir)
    worst, rows = 0, []
    for framework in chosen:
        for submission in SUBMISSIONS:
            request = RunRequest(
                workload=workload,
                framework=framework,
                scale=Scale.MINI,
                submission=submission,
                clock=clock,
                data_dir=data_dir,
            )
            # A folder for each of the two, so that `score` can tell them apart.
            folder = experiment / f"{submission}_{framework.value}"
            code = run(request, folder)
            if code == INTERRUPTED:
                return code
            worst = max(worst, code)
            folder = trial_folder(folder, 0, workload, framework.value, 1)
            rows.append((submission, framework, records.read_trial(folder)))
    _show(rows, spec.target)
    typer.echo(f"The logs are in {experiment}; `algoperf-orchestrate score {experiment}` ranks them.")
    return worst


def _frameworks(implemented: Sequence[Framework]) -> list[Framework]:
    """Those that ALGOPERF_FRAMEWORKS names, or all that are installed."""
    named = os.environ.get("ALGOPERF_FRAMEWORKS", "").split()
    chosen = [Framework(name) for name in named] or [one for one in implemented if frameworks.is_installed(one)]
    for framework in chosen:
        frameworks.check_installed(framework)
    if not chosen:
        raise ValueError("No framework is installed; install one with `uv pip install 'algoperf-core[jax]'`.")
    return chosen


def _show(rows: Sequence[tuple[str, Framework, TrialRecord]], target: Target) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{target.metric} at the end, and when validation reached {target.validation:g}"
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left", title_style="")
    splits = (Split.VALIDATION, Split.TEST)
    metrics = [f"{split.log_name}/{target.metric}" for split in splits]
    table.add_column("submission")
    table.add_column("framework")
    for name in ("time to target (s)", "steps", *(split.log_name for split in splits)):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("end")
    for submission, framework, record in rows:
        seconds = time_to_target(record, target)
        last = record.evaluations[-1] if record.evaluations else {}
        table.add_row(
            submission,
            framework.value,
            "not reached" if seconds is None else f"{seconds:.1f}",
            str(record.outcome.get("global_step", "")),
            *(f"{last[metric]:.4g}" if metric in last else "" for metric in metrics),
            record.end_reason or "",
        )
    Console(highlight=False, markup=False).print(table)
