"""The commands that steer an experiment: `logs`, `stop`, `retry`, `ledger rebuild`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from algoperf_orchestrator.errors import INFRASTRUCTURE
from algoperf_orchestrator.executors.choose import executor_of_jobs, executor_of_nothing
from algoperf_orchestrator.launch import STDERR
from algoperf_orchestrator.ledger import Ledger, Row
from algoperf_orchestrator.scheduler import Place, Policy, Scheduler
from algoperf_orchestrator.verdict import State

# Trials that are run anew leave their folders here, which no reader of logs looks into.
DISCARDED = ".discarded"
_STOP_POLL_S = 0.5
_STOP_LIMIT_S = 120.0


def logs(experiment: Path, wanted: Sequence[str], lines: int) -> None:
    """Shows what the processes of trials wrote: of those whose name holds all of `wanted`, or that failed or run."""
    with Ledger(experiment) as ledger:
        rows = [row for row in ledger.rows() if _is_shown(row, wanted)]
    if not rows:
        named = f" whose name holds {' and '.join(wanted)}" if wanted else " that runs or has failed"
        typer.echo(f"There is no trial{named}.")
    for row in rows:
        path = row.folder(experiment) / STDERR
        typer.echo(f"{row.key} ({row.state}{', ' + row.reason if row.reason else ''}): {path}")
        for line in _tail(path, lines):
            typer.echo(f"  {line}")


def _is_shown(row: Row, wanted: Sequence[str]) -> bool:
    if wanted:
        return all(part in str(row.key) for part in wanted)
    return row.state not in (State.PLANNED, State.DONE)


def _tail(path: Path, lines: int) -> list[str]:
    if not path.exists():
        return ["(it wrote nothing)"]
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 400 * lines, 0))
        return file.read().decode(errors="replace").splitlines()[-lines:]


def stop(experiment: Path) -> int:
    """Asks whoever works on an experiment to stop, and waits until they have. Returns the exit code.

    What orchestrators that are gone have left running is stopped too: above all jobs of SLURM, which outlive them.
    """
    deadline, orphans = time.monotonic() + _STOP_LIMIT_S, None
    with Ledger(experiment) as ledger:
        ledger.ask_to_stop()
        typer.echo("Stopping: running trials save a checkpoint and leave.")
        while (others := _others(ledger, orphans)) or ledger.running():
            if time.monotonic() > deadline:
                typer.echo(
                    f"Trials are still running after {_STOP_LIMIT_S:.0f} s; look at `status {experiment}`.", err=True
                )
                return INFRASTRUCTURE
            if not others:
                orphans = orphans or _Orphans(experiment, ledger)
                orphans.stop()
            time.sleep(_STOP_POLL_S)
    typer.echo("Stopped; run the same `full-suite` command again to continue.")
    return 0


class _Orphans:
    """Trials whose orchestrator is gone."""

    def __init__(self, experiment: Path, ledger: Ledger) -> None:
        has_jobs = any(row.handle for row in ledger.running())
        executor = executor_of_jobs(experiment) if has_jobs else executor_of_nothing()
        self.owner = ledger.register(executor.name)
        place = Place(experiment=experiment, data_dir=experiment)
        # Nothing is to be started.
        ledger.restrict(())
        self._scheduler = Scheduler(place, ledger, self.owner, executor, Policy())

    def stop(self) -> None:
        """Takes over those that can be, and returns when they have left."""
        self._scheduler.run(lambda: True)


def _others(ledger: Ledger, orphans: _Orphans | None) -> bool:
    return any(owner.lives for number, owner in ledger.owners().items() if orphans is None or number != orphans.owner)


def retry(experiment: Path, wanted: Sequence[str], *, algorithm: bool) -> None:
    """Plans failed trials again: those of the infrastructure, and of the algorithm if that is asked for.

    What is there of a trial whose algorithm failed moves away, since it is a result.
    """
    states = {State.FAILED_INFRASTRUCTURE, *([State.FAILED_ALGORITHM] if algorithm else [])}
    with Ledger(experiment) as ledger:
        rows = [row for row in ledger.rows() if row.state in states and all(part in str(row.key) for part in wanted)]
        for row in rows:
            if row.state is State.FAILED_ALGORITHM:
                _discard(experiment, row)
                ledger.forget(row.id)
        ledger.plan_again([row.id for row in rows])
    for row in rows:
        typer.echo(f"{row.key} ({row.reason}) is planned again.")
    more = "" if algorithm else "; --algorithm includes those that the algorithm failed"
    typer.echo(f"{len(rows)} trials; run the same `full-suite` command again to run them{more}.")


def _discard(experiment: Path, row: Row) -> None:
    folder = row.folder(experiment)
    if folder.exists():
        target = experiment / DISCARDED / f"{str(row.key).replace('/', '.')}.{row.attempts}"
        target.parent.mkdir(exist_ok=True)
        shutil.move(folder, target)


def rebuild(experiment: Path) -> None:
    """Makes a lost ledger anew from the trials' folders."""
    from algoperf_orchestrator.rebuild import rebuild as make_anew

    number, problems = make_anew(experiment)
    for problem in problems:
        typer.echo(problem, err=True)
    typer.echo(
        f"The ledger has {number} trials; run the same `full-suite` command again to enter what was never begun."
    )
