"""The command line: options and help. What a command does is imported when it is called."""

from __future__ import annotations

import io
import json
import sys
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from algoperf.spec import DEFAULT_RULES, Framework, Scale, TuningRuleset
from algoperf_orchestrator import cli_scores, cli_suite
from algoperf_orchestrator.cli_options import (
    ClockName,
    ClockOption,
    DataDirOption,
    JsonOption,
    ScaleOption,
    TelemetryOption,
    names,
    without_collection,
)
from algoperf_orchestrator.environment import default_data_dir
from algoperf_orchestrator.errors import one_sentence

app = typer.Typer(
    help="AlgoPerf, a benchmark of neural-network training algorithms.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Without rich: help is to be quick.
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Make data, check it, and see what is there.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(cli_suite.app)
app.add_typer(cli_scores.app)


# Commands that a person waits for.
_SHORT = (["compare"], ["describe"], ["list"], ["score"], ["status"])


class Listed(StrEnum):
    """What can be listed."""

    WORKLOADS = "workloads"
    SUBMISSIONS = "submissions"


WorkloadArgument = Annotated[str, typer.Argument(metavar="WORKLOAD", help="Name of a workload.")]


@app.command("list")
def list_(what: Annotated[Listed, typer.Argument(help="What to list.")], as_json: JsonOption = False) -> None:
    """List what is installed."""
    from algoperf_orchestrator import listing

    rows = listing.workloads() if what is Listed.WORKLOADS else listing.submissions()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        listing.show(rows)


@app.command()
def describe(
    workload: WorkloadArgument,
    scale: ScaleOption = Scale.FULL,
    framework: Annotated[
        Framework | None,
        typer.Option(help="Show the parameters in it.", show_default="the first installed"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the facts of a workload, and its parameters."""
    from algoperf_orchestrator import describe as describing

    facts = describing.describe(workload, scale, framework)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        describing.show(facts)


@data_app.command()
def prepare(
    workload: WorkloadArgument,
    scale: ScaleOption = Scale.FULL,
    data_dir: DataDirOption = None,
    source: Annotated[
        Path | None, typer.Option(help="What you downloaded, where it cannot be fetched for you.")
    ] = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave damaged training examples out instead of failing.")
    ] = False,
) -> None:
    """Make the data of a workload, or go on with it."""
    from algoperf_orchestrator import data_commands

    data_commands.prepare(workload, scale, data_dir or default_data_dir(), source, skip_damaged=skip_damaged)


@data_app.command()
def verify(workload: WorkloadArgument, scale: ScaleOption = Scale.FULL, data_dir: DataDirOption = None) -> None:
    """Compare the data of a workload with its checksums."""
    from algoperf_orchestrator import data_commands

    data_commands.verify(workload, scale, data_dir or default_data_dir())


@data_app.command()
def show(
    workload: WorkloadArgument,
    scale: ScaleOption = Scale.FULL,
    data_dir: DataDirOption = None,
    trial: Annotated[
        Path | None, typer.Option(help="Folder of a trial; also show what its model makes of the examples.")
    ] = None,
    examples: Annotated[int, typer.Option(help="How many.")] = 6,
    output: Annotated[Path | None, typer.Option(help="PNG to write.", show_default="WORKLOAD.png here")] = None,
) -> None:
    """Draw some examples of a workload, and what a trial's model makes of them."""
    from algoperf_orchestrator import data_show

    png = output or Path(f"{workload}.png")
    data_show.show(workload, scale, data_dir or default_data_dir(), trial, examples, png)


@data_app.command()
def status(workload: WorkloadArgument, scale: ScaleOption = Scale.FULL, data_dir: DataDirOption = None) -> None:
    """Say what is on disk of the data of a workload."""
    from algoperf_orchestrator import data_commands

    data_commands.status(workload, scale, data_dir or default_data_dir())


@app.command()
def run(
    workload: Annotated[str, typer.Option(help="Name of a workload.")],
    framework: Annotated[Framework, typer.Option(help="The framework to train in.")],
    submission: Annotated[str, typer.Option(help="Name of an installed submission, or path of its file.")],
    experiment: Annotated[Path, typer.Option(help="Folder for the logs.")],
    scale: ScaleOption = Scale.FULL,
    seed: Annotated[int, typer.Option(help="Seed of the suite; the trial's is derived from it.")] = 0,
    ruleset: Annotated[
        TuningRuleset, typer.Option(help="How hyperparameters may be chosen, and the budget.")
    ] = TuningRuleset.EXTERNAL,
    tuning_search_space: Annotated[
        Path | None,
        typer.Option(
            help="JSON file to draw hyperparameters from.",
            show_default="beside the submission",
        ),
    ] = None,
    trial: Annotated[
        int | None, typer.Option(help="Number of the trial in its study, from 1.", show_default="1")
    ] = None,
    study: Annotated[int, typer.Option(help="Number of the study, from 0.")] = 0,
    hparam: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Set one hyperparameter (JSON or a string); repeatable."),
    ] = None,
    max_steps: Annotated[int | None, typer.Option(help="End after so many steps.", show_default="no limit")] = None,
    clock: ClockOption = ClockName.WALL,
    rules: Annotated[str, typer.Option(help="Version of the rules, for budget and precision.")] = DEFAULT_RULES,
    devices: Annotated[
        int | None,
        typer.Option(
            help="Number of GPUs; without any, of pretended devices.",
            show_default="all GPUs, else 1",
        ),
    ] = None,
    telemetry: TelemetryOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Run one trial, in a process of its own; the same command continues it.

    Exit codes: 0 for any result, 1 if the submission failed or ran out of memory, 2 for bad
    input, 3 if the machine failed.
    """
    from algoperf_orchestrator.configure import RunRequest
    from algoperf_orchestrator.run import run as run_request

    request = RunRequest(
        workload=workload,
        framework=framework,
        scale=scale,
        submission=submission,
        seed=seed,
        ruleset=ruleset,
        rules=rules,
        study=study,
        trial=trial,
        tuning_search_space=tuning_search_space,
        hparams=hparam or [],
        max_steps=max_steps,
        clock=clock.value,
        data_dir=data_dir or default_data_dir(),
    )
    sys.exit(run_request(request, experiment, devices, telemetry or ()))


@app.command()
def init(
    submission: Annotated[
        Path, typer.Argument(metavar="SUBMISSION", help="Folder to make; its name is that of the submission.")
    ],
    framework: Annotated[Framework, typer.Option(help="The framework to write it for.")],
    ruleset: Annotated[TuningRuleset, typer.Option(help="Whether its hyperparameters are tuned for it.")],
    data_dir: DataDirOption = None,
) -> None:
    """Write a new submission that runs as it is, to start from."""
    from algoperf_orchestrator.init import init as init_submission

    init_submission(submission, framework, ruleset, data_dir or default_data_dir())


@app.command("run-trial")
def run_trial(
    config: Annotated[Path, typer.Option(help="The trial's configuration as JSON; - reads stdin.")],
    experiment: Annotated[Path, typer.Option(help="Folder for the logs.")],
    data_dir: DataDirOption = None,
    settings: Annotated[str, typer.Option(help="Name of the process's settings, for the records.")] = "unknown",
    preflight: Annotated[bool, typer.Option("--preflight", help="Stop after two steps, and go on.")] = False,
) -> None:
    """Run one trial in this process, with events as JSON lines on stdout: what `run` starts."""
    from algoperf_orchestrator.run_trial import run_trial as run_configured_trial

    sys.exit(run_configured_trial(config, experiment, data_dir or default_data_dir(), settings, preflight))


@app.command()
def demo(
    experiment: Annotated[Path, typer.Option(help="Folder for the logs.")] = Path("experiments/demo"),
    workloads: Annotated[
        str | None, typer.Option(metavar="A,B", help="Train these.", show_default="the two that are quickest")
    ] = None,
    clock: ClockOption = ClockName.WALL,
    data_dir: DataDirOption = None,
) -> None:
    """Train two algorithms on small workloads, in each installed framework, and score them.

    ALGOPERF_FRAMEWORKS (jax, pytorch, or both with a space between) chooses the frameworks.
    """
    from algoperf_orchestrator.demo import demo as run_demo

    chosen = names(workloads)
    sys.exit(run_demo(chosen, experiment, data_dir or default_data_dir(), clock.value))


def main(arguments: list[str] | None = None) -> None:
    """The command `algoperf-orchestrate`. Leaves by SystemExit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names from logs may hold what a terminal cannot show.
        sys.stdout.reconfigure(errors="replace")
    given = sys.argv[1:] if arguments is None else arguments
    with one_sentence(), without_collection() if given[:1] in _SHORT else nullcontext():
        app(_one_value_each(given), prog_name="algoperf-orchestrate")


def _one_value_each(arguments: list[str]) -> list[str]:
    """`--hparam a=1 b=2` as `--hparam a=1 --hparam b=2`, which is all that options of the parser can be."""
    expanded: list[str] = []
    is_hparam = False
    for argument in arguments:
        if is_hparam and "=" in argument and not argument.startswith("-") and expanded[-1] != "--hparam":
            expanded.append("--hparam")
        expanded.append(argument)
        is_hparam = argument == "--hparam" or (is_hparam and not argument.startswith("-"))
    return expanded
