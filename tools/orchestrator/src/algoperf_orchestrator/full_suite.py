"""The command `full-suite`: plan, check, run, score."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import typer

from algoperf import registry
from algoperf.data import DataError, preparation
from algoperf.spec import Scale
from algoperf_orchestrator import data_commands, frameworks, kept_rules, preflight, sinks, status
from algoperf_orchestrator.errors import FAILED, INFRASTRUCTURE, INTERRUPTED
from algoperf_orchestrator.executors.choose import Bounds, make_executor, preflight_pool
from algoperf_orchestrator.launch_options import Limits
from algoperf_orchestrator.ledger import Ledger
from algoperf_orchestrator.listing import FILE_WIDTH
from algoperf_orchestrator.plan import Plan, make_plan
from algoperf_orchestrator.run_trial import PREFLIGHT_STEPS
from algoperf_orchestrator.scheduler import Place, Policy, Scheduler
from algoperf_orchestrator.sinks import SinkName
from algoperf_orchestrator.suite import Suite
from algoperf_orchestrator.suite_view import SuiteView
from algoperf_orchestrator.verdict import State

REPORT = "report"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a suite is run, which changes none of its results.

    Attributes:
        policy: of retries.
        preflight: whether to make it.
        bounds: what a trial may not do.
        report: whether to score in the end.
        telemetry: where figures of trials go while they run, besides their logs.
    """

    policy: Policy
    preflight: bool = True
    bounds: Bounds = field(default_factory=Bounds)
    report: bool = True
    telemetry: tuple[SinkName, ...] = ()


def full_suite(suite: Suite, experiment: Path, data_dir: Path, options: Options) -> int:
    """Runs a suite, or goes on with it. Returns the exit code.

    0: every trial has a result. 1: the preflight found a problem, and nothing was started. 3: trials
    are left without a result because of the infrastructure. 130: it was stopped.

    Raises:
        ValueError, ImportError, DataError, LedgerError, OSError: with the sentence for the user.
    """
    sinks.check(options.telemetry)
    plan = make_plan(suite)
    _check(plan, data_dir)
    if options.preflight:
        _prepare_mini(plan, data_dir)
    executor = make_executor(suite, experiment, options.bounds, options.telemetry)
    experiment.mkdir(parents=True, exist_ok=True)
    before = kept_rules.read(experiment)
    rules = plan.rules if before is None else kept_rules.extend(before, plan.rules)
    with closing(executor), Ledger(experiment, create=True) as ledger, _signals() as is_stopped:
        ledger.add(plan.trials)
        ledger.restrict(plan.trials)
        kept_rules.write(rules, experiment)
        owner = ledger.register(executor.name)

        def is_to_stop() -> bool:
            ledger.beat(owner, {})
            return is_stopped() or ledger.is_asked_to_stop(owner)

        try:
            if options.preflight and not _preflight(plan, ledger, data_dir, options, is_to_stop):
                return FAILED
            with SuiteView(ledger, experiment, live=sys.stdout.isatty()) as view:
                place = Place(experiment=experiment, data_dir=data_dir)
                scheduler = Scheduler(place, ledger, owner, executor, options.policy, view.happened, view.refresh)
                is_done = scheduler.run(is_stopped)
        except KeyboardInterrupt:
            is_done = False
        if not is_done:
            typer.echo("Stopped; run the same command again to continue.", err=True)
            return INTERRUPTED
        found = status.of(ledger, experiment)
    if options.report:
        report(experiment)
    return INFRASTRUCTURE if found.counts[State.FAILED_INFRASTRUCTURE.value] else 0


def report(experiment: Path) -> None:
    """Scores an experiment, and draws its page."""
    # Only now: scoring and drawing are slow to import.
    from algoperf_orchestrator import score

    folder = experiment / REPORT
    request = score.ScoreRequest(folders=[experiment])
    score.score(request, json_file=folder / "scores.json", csv=None, html=folder)
    typer.echo(f"The report is {folder / 'index.html'}.")


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM came."""
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        if not received:
            typer.echo(
                "Stopping: running trials save a checkpoint and leave; this takes up to half a minute.", err=True
            )
        received.append(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check(plan: Plan, data_dir: Path) -> None:
    """What can be wrong is found before anything starts."""
    if plan.missing:
        packages = " ".join(f"algoperf-workload-{package_of(name)}" for name in plan.missing)
        raise ValueError(
            f"{len(plan.missing)} workloads of this suite are not installed ({', '.join(plan.missing)}); install "
            f"{' '.join(dict.fromkeys(packages.split()))}, or choose others with --workloads."
        )
    for framework in plan.suite.frameworks:
        frameworks.check_installed(framework)
    for name in plan.rules.workloads:
        spec = registry.workload_spec(name).at(plan.suite.scale)
        if missing := [one.value for one in plan.suite.frameworks if one not in spec.implementations]:
            raise ValueError(
                f"{name} has no implementation in {missing[0]}; leave it out, or choose another framework."
            )
        found = preparation.status(spec, data_dir)
        if plan.suite.scale is not Scale.MINI and found.state in ("missing", "unfinished"):
            command = preparation.prepare_command(spec)
            raise DataError(f"The data of {name} is {found.state} in {found.folder}; run `{command}`.")
    if plan.suite.scale is Scale.MINI:
        _prepare_mini(plan, data_dir)


def _prepare_mini(plan: Plan, data_dir: Path) -> None:
    """Makes mini data that is missing."""
    for name in plan.rules.workloads:
        spec = registry.workload_spec(name).at(Scale.MINI)
        if preparation.status(spec, data_dir).state in ("missing", "unfinished"):
            data_commands.prepare_if_needed(spec, data_dir)


def package_of(workload: str) -> str:
    """The end of the name of the package that brings a workload of the rules."""
    return {"criteo1tb": "criteo", "finewebedu": "lm"}.get(first := workload.partition("_")[0], first)


def checks_to_make(plan: Plan, ledger: Ledger) -> list[preflight.Check]:
    """Those of what has not been run before."""
    begun = {tuple(row) for row in ledger.query(_BEGUN)}
    return [check for check in preflight.checks(plan) if check.kind not in begun]


def _preflight(plan: Plan, ledger: Ledger, data_dir: Path, options: Options, is_stopped: Callable[[], bool]) -> bool:
    """Makes the preflight. Returns whether there is no problem."""
    wanted = checks_to_make(plan, ledger)
    if not wanted:
        return True
    pool, memory = preflight_pool(plan.suite.devices, len(wanted), options.bounds.memory_gib)
    typer.echo(f"Preflight: {PREFLIGHT_STEPS} steps of each submission on each workload, at mini scale.")
    found = []
    for one in preflight.run(wanted, data_dir, pool, Limits(memory_bytes=memory), is_stopped):
        found.append(one)
        typer.echo(_line(one, len(found), len(wanted)))
    problems = [one for one in found if one.problem]
    if problems:
        _show_problems(found, problems)
    return not problems


def _show_problems(found: Sequence[preflight.Found], problems: Sequence[preflight.Found]) -> None:
    from rich.console import Console

    for one in problems:
        typer.echo(f"\n{one.check.label} on {one.check.config.workload}:", err=True)
        for line in one.log.strip().splitlines()[-_LOG_LINES:]:
            typer.echo(f"  {line}", err=True)
    width = None if sys.stdout.isatty() else FILE_WIDTH
    typer.echo()
    Console(width=width, highlight=False, markup=False).print(preflight.table(found))
    typer.echo(
        f"{len(problems)} of {len(found)} checks failed and nothing was started; "
        "mend the submissions and run the same command again, or pass --no-preflight.",
        err=True,
    )


_BEGUN = "SELECT DISTINCT submission, workload, framework FROM trials WHERE attempts > 0"
_LOG_LINES = 12


def _line(found: preflight.Found, number: int, total: int) -> str:
    check = found.check
    what = f"{check.label}, {check.config.workload} in {check.config.framework.value}"
    return f"  {number} of {total}  {what}: {found.problem or 'ok'} ({found.seconds:.0f} s)"
