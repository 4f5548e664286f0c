"""What a suite would do and cost, without doing anything."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from algoperf.spec import Scale
from algoperf_orchestrator import cost
from algoperf_orchestrator.cost import Cost
from algoperf_orchestrator.environment import find_devices
from algoperf_orchestrator.executors import Resources, slurm_options
from algoperf_orchestrator.listing import FILE_WIDTH
from algoperf_orchestrator.plan import Plan, make_plan
from algoperf_orchestrator.profiles import REFERENCE
from algoperf_orchestrator.suite import Suite

if TYPE_CHECKING:
    from rich.table import Table


def dry_run(suite: Suite, experiment: Path, *, as_json: bool) -> None:
    """Prints the plan of a suite and its cost.

    Raises:
        ValueError: something does not exist or does not fit; the sentence says what.
    """
    plan = make_plan(suite)
    price = cost.cost(plan.trials, _num_devices(plan), cost.earlier(cost.beside(experiment)))
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "trials": [trial.as_json() for trial in plan.trials],
                    "rules": plan.rules.name,
                    "held_out": dict(plan.rules.held_out),
                    "cost": price.as_json(),
                    "not_installed": plan.missing,
                },
                indent=2,
            )
        )
    else:
        _show(plan, price)


def _num_devices(plan: Plan) -> int:
    """Devices of one trial: as the executor gives them."""
    suite = plan.suite
    if suite.executor == "slurm":
        options = slurm_options.parse(suite.slurm, Path())
        return slurm_options.num_gpus(plan.trials[0].config, Resources(devices=suite.devices), options) or 1
    # Without any here, this is the login node of something else.
    reference = REFERENCE[suite.rules].count if suite.scale is Scale.FULL else 1
    return suite.devices or len(find_devices(None).ids) or reference


def _show(plan: Plan, price: Cost) -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() else FILE_WIDTH
    Console(width=width, highlight=False, markup=False).print(_table(plan))
    for line in _lines(plan, price):
        typer.echo(line)


def _table(plan: Plan) -> Table:
    from rich.table import Table

    (ruleset,) = plan.rules.rulesets.values()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("workload", overflow="fold")
    for name in ("trials", "budget (s)", "target"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, facts in plan.rules.workloads.items():
        number = len(plan.entries) * ruleset.studies * ruleset.trials
        goal = "≤" if facts.goal == "min" else "≥"
        budget = f"{facts.budget_s * ruleset.budget_factor:g}"
        table.add_row(name, str(number), budget, f"{facts.metric} {goal} {facts.target:g}")
    return table


def _lines(plan: Plan, price: Cost) -> list[str]:
    (name,), (ruleset,) = plan.rules.rulesets, plan.rules.rulesets.values()
    labels = ", ".join(entry.label for entry in plan.entries)
    studies = "study" if ruleset.studies == 1 else "studies"
    lines = [
        f"{price.num_trials} trials of {labels}: rules {plan.rules.name}, {name} ruleset, "
        f"{ruleset.studies} {studies} of {ruleset.trials} trials, seed {plan.suite.seed}."
    ]
    if plan.rules.held_out:
        drawn = ", ".join(plan.rules.held_out.values())
        lines.append(f"Held-out variants, drawn from seed {plan.suite.seed}: {drawn}.")
    of = REFERENCE[plan.suite.rules].title if plan.suite.scale is Scale.FULL else "any hardware"
    lines.append(
        f"At most {price.at_most_hours:,.1f} accelerator hours of training ({price.devices} per trial; budgets are "
        f"meant for {of}); evaluations come on top."
    )
    if price.expected_hours is not None:
        rest = price.num_trials - price.num_known
        unknown = f", and the budgets of {rest} that none was like" if rest else ""
        lines.append(
            f"Expected: {price.expected_hours:,.1f} accelerator hours with evaluations, by earlier trials{unknown}."
        )
    lines.append("Nothing was loaded or run; that submissions keep to the API shows in the preflight.")
    if plan.missing:
        lines.append(f"Not installed: {', '.join(plan.missing)}; this plan cannot be run here yet.")
    return lines
