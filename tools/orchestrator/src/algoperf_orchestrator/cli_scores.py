"""The part of the command line that reads logs: `score` and `compare`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from algoperf.spec import Framework, TuningRuleset

if TYPE_CHECKING:
    from algoperf_orchestrator.score import ScoreRequest

app = typer.Typer()


class Compat(StrEnum):
    """Whose scoring to be compatible with."""

    REFERENCE = "reference"


class MissingName(StrEnum):
    """What absent studies count; see `algoperf_scoring.times.Missing`."""

    DROP = "drop"
    NEVER_REACHED = "never-reached"


RulesOption = Annotated[
    str | None,
    typer.Option(metavar="v0.5|v0.6|v1.0|mini", help="Targets and budgets.", show_default="as the logs say"),
]
RulesetOption = Annotated[
    TuningRuleset | None,
    typer.Option(help="How hyperparameters were chosen.", show_default="as the logs say"),
]
CompatOption = Annotated[
    Compat | None,
    typer.Option(
        help="Choose a study's trial by evaluation index, and enforce no budget, as the public scoring does.",
        show_default="the fastest trial within its budget",
    ),
]
MissingOption = Annotated[
    MissingName, typer.Option(help="How to count studies that are missing: not at all, or as not reached.")
]
FrameworkOption = Annotated[
    Framework | None,
    typer.Option(help="Read only logs of this one.", show_default="of a workload in both, the one with more trials"),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the resampling that intervals come from.")]


@app.command()
def score(
    logs: Annotated[
        list[Path],
        typer.Argument(metavar="LOGS", help="Folders that hold logs: submissions, or folders of them; or archives."),
    ],
    rules: RulesOption = None,
    ruleset: RulesetOption = None,
    compat: CompatOption = None,
    missing: MissingOption = MissingName.DROP,
    framework: FrameworkOption = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME", help="Give speed-ups against this submission.")
    ] = None,
    seed: SeedOption = 0,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", dir_okay=False, help="Write everything as JSON; - prints it."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="DIR", file_okay=False, help="Write tables as CSV.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="DIR", file_okay=False, help="Write a page with charts.")] = None,
) -> None:
    """Score logs: a leaderboard, how sure it is, and what is wrong with the logs."""
    from algoperf_orchestrator.score import score as score_logs

    request = _request(logs, rules, ruleset, compat, missing, framework, seed, baseline)
    score_logs(request, json_file, csv, html)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of a submission's logs, or an archive.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Folder of another's.")],
    rules: RulesOption = None,
    ruleset: RulesetOption = None,
    compat: CompatOption = None,
    missing: MissingOption = MissingName.DROP,
    framework: FrameworkOption = None,
    seed: SeedOption = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two submissions: how many times faster A is than B, on each workload and in all."""
    from algoperf_orchestrator import compare as comparing

    request = _request([], rules, ruleset, compat, missing, framework, seed)
    board, result = comparing.compare(first, second, request)
    if as_json:
        typer.echo(json.dumps(comparing.as_data(result), indent=2))
    else:
        comparing.show(board, result)


def _request(
    folders: list[Path],
    rules: str | None,
    ruleset: TuningRuleset | None,
    compat: Compat | None,
    missing: MissingName,
    framework: Framework | None,
    seed: int,
    baseline: str | None = None,
) -> ScoreRequest:
    from algoperf_orchestrator.score import ScoreRequest
    from algoperf_scoring.times import Missing, Selection

    return ScoreRequest(
        folders=folders,
        rules=rules,
        ruleset=ruleset,
        selection=Selection.REFERENCE if compat is Compat.REFERENCE else Selection.FASTEST,
        missing=Missing(missing.value),
        framework=framework,
        baseline=baseline,
        seed=seed,
    )
