"""The part of the command line that runs suites and looks after them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from algoperf.spec import DEFAULT_RULES, Framework, Scale, TuningRuleset
from algoperf_orchestrator.cli_options import ClockName, DataDirOption, JsonOption, TelemetryOption, names, pairs
from algoperf_orchestrator.environment import default_data_dir
from algoperf_orchestrator.suite import ExecutorName, Variants

app = typer.Typer()
ledger_app = typer.Typer(help="The ledger of an experiment.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")

ExperimentArgument = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="Folder of an experiment.")]
TrialsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PART]...", help="Only trials whose name, such as nadamw/study_0/ogbg_jax/trial_1, holds all."
    ),
]


@app.command("full-suite")
def full_suite(
    experiment: Annotated[Path, typer.Option(help="Folder for everything.")],
    submission: Annotated[
        list[str] | None, typer.Option(help="Name of an installed submission, or path of its file; repeatable.")
    ] = None,
    framework: Annotated[list[Framework] | None, typer.Option(help="What to train in; repeatable.")] = None,
    suite: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Options as a file; those given here stand above it.")
    ] = None,
    ruleset: Annotated[
        TuningRuleset | None, typer.Option(help="How hyperparameters are chosen.", show_default="external")
    ] = None,
    scale: Annotated[
        Scale | None, typer.Option(help="The published benchmark, or the same made small.", show_default="full")
    ] = None,
    rules: Annotated[
        str | None, typer.Option(metavar="v0.6|v1.0", help="Rules version.", show_default=DEFAULT_RULES)
    ] = None,
    workloads: Annotated[
        str | None, typer.Option(metavar="A,B", help="Run these alone.", show_default="all of the rules")
    ] = None,
    variants: Annotated[
        Variants | None, typer.Option(help="Which variants of the workloads to run too.", show_default="none")
    ] = None,
    qualification: Annotated[
        bool, typer.Option("--qualification", help="Run the qualification workloads: Criteo, OGBG, WMT.")
    ] = False,
    studies: Annotated[int | None, typer.Option(help="Studies.", show_default="as the ruleset says")] = None,
    trials: Annotated[int | None, typer.Option(help="Trials per study.", show_default="as the ruleset says")] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of the suite; all others and the variants are derived from it.", show_default="0"),
    ] = None,
    tuning_search_space: Annotated[
        Path | None, typer.Option(help="Draw hyperparameters from this file.", show_default="beside the submission")
    ] = None,
    clock: Annotated[
        ClockName | None, typer.Option(help="Time as it passes, or the same for each step.", show_default="wall")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(help="End each trial after so many steps.")] = None,
    executor: Annotated[ExecutorName | None, typer.Option(help="Who runs the trials.", show_default="local")] = None,
    devices: Annotated[
        int | None, typer.Option(help="GPUs per trial; without any, pretended ones.", show_default="all, else 1")
    ] = None,
    cores: Annotated[
        int | None, typer.Option(help="Cores per trial; with fewer than all, trials run at once.", show_default="all")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(metavar="GIB", help="Memory per trial on a CPU.", show_default="90 % of all, shared")
    ] = None,
    hang_after: Annotated[
        float | None,
        typer.Option(metavar="S", help="Seconds without a step or an evaluation.", show_default="7200, mini 600"),
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="What SLURM jobs ask for: partition, account, or as sbatch; repeatable."
        ),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster.", show_default="RAY_ADDRESS, else one is started here")
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help="Of a trial that the infrastructure failed.")] = 2,
    retry_after: Annotated[
        float, typer.Option(metavar="S", min=0, help="Seconds before the first retry; each waits 4 times longer.")
    ] = 30.0,
    preflight: Annotated[bool, typer.Option(help="Try three steps of everything first.")] = True,
    report: Annotated[bool, typer.Option(help="Score in the end, and draw a page.")] = True,
    telemetry: TelemetryOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and what it costs, and stop.")] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Plan all trials of a ruleset, run them, and score them; the same command continues.

    Exit codes: 0 if every trial has a result, 1 if the preflight failed, 2 for bad input, 3 if
    trials are left without a result, 130 if it was stopped.
    """
    from algoperf_orchestrator.suite import make_suite

    asked = make_suite(
        suite,
        {
            "submissions": tuple(submission or ()),
            "frameworks": tuple(framework or ()),
            "ruleset": ruleset,
            "scale": scale,
            "rules": rules,
            "workloads": names(workloads),
            "variants": variants,
            "qualification": qualification,
            "studies": studies,
            "trials": trials,
            "seed": seed,
            "tuning_search_space": tuning_search_space,
            "clock": clock and clock.value,
            "max_steps": max_steps,
            "executor": executor,
            "devices": devices,
            "cores": cores,
            "slurm": pairs("--slurm", slurm),
            "ray_address": ray_address,
        },
    )
    if dry_run:
        from algoperf_orchestrator.dry_run import dry_run as show_plan

        show_plan(asked, experiment, as_json=as_json)
        return
    from algoperf_orchestrator.executors.choose import Bounds
    from algoperf_orchestrator.full_suite import Options
    from algoperf_orchestrator.full_suite import full_suite as run_suite
    from algoperf_orchestrator.scheduler import Policy

    options = Options(
        policy=Policy(retries=retries, backoff_s=retry_after),
        preflight=preflight,
        bounds=Bounds(memory_gib=memory, silence_s=hang_after),
        report=report,
        telemetry=tuple(telemetry or ()),
    )
    sys.exit(run_suite(asked, experiment, data_dir or default_data_dir(), options))


@app.command()
def status(
    experiment: ExperimentArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Until it has ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how an experiment stands: trials done, running, failed and why, and the time left."""
    from algoperf_orchestrator.status import show

    show(experiment, as_json=as_json, watch=watch)


@app.command()
def logs(
    experiment: ExperimentArgument,
    trials: TrialsArgument = None,
    lines: Annotated[int, typer.Option(min=1, help="How many of each.")] = 20,
) -> None:
    """Show what the processes of trials wrote: of those that run or failed, or that are named."""
    from algoperf_orchestrator import watching

    watching.logs(experiment, trials or [], lines)


@app.command()
def stop(experiment: ExperimentArgument) -> None:
    """Ask whoever works on an experiment to stop; its trials save checkpoints and can be continued."""
    from algoperf_orchestrator import watching

    sys.exit(watching.stop(experiment))


@app.command()
def retry(
    experiment: ExperimentArgument,
    trials: TrialsArgument = None,
    algorithm: Annotated[
        bool, typer.Option("--algorithm", help="Also those that the algorithm failed; their logs are set aside.")
    ] = False,
) -> None:
    """Plan failed trials again."""
    from algoperf_orchestrator import watching

    watching.retry(experiment, trials or [], algorithm=algorithm)


@ledger_app.command()
def rebuild(experiment: ExperimentArgument) -> None:
    """Make a lost ledger anew from the trials' folders."""
    from algoperf_orchestrator import watching

    watching.rebuild(experiment)


@app.command()
def package(
    experiment: ExperimentArgument,
    output: Annotated[Path, typer.Option(help="File or folder to write.")] = Path("."),
    allow_running: Annotated[bool, typer.Option("--allow-running", help="Although trials still run.")] = False,
) -> None:
    """Make one archive of an experiment: logs, submissions, versions and checksums, without checkpoints."""
    from algoperf_orchestrator import archive
    from algoperf_orchestrator.ledger import Ledger

    Ledger(experiment).__exit__()
    typer.echo(f"Wrote {archive.package(experiment, output, allow_running=allow_running)}.")


@app.command()
def verify(
    archive_or_folder: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="What `package` made, or its contents.")],
) -> None:
    """Check an archive: its checksums, and that logs, plan and submissions fit together."""
    from algoperf_orchestrator import archive_check

    problems = archive_check.verify(archive_or_folder)
    for problem in problems:
        typer.echo(problem)
    if problems:
        sys.exit(1)
    typer.echo(f"{archive_or_folder}: ok")


@app.command()
def doctor(
    data_dir: DataDirOption = None,
    experiment: Annotated[Path | None, typer.Option(help="Folder for logs to look at as well.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at this machine and what is installed: what is wrong, and how to mend it."""
    from algoperf_orchestrator.doctor import doctor as run_doctor

    sys.exit(run_doctor(data_dir or default_data_dir(), experiment, as_json))
