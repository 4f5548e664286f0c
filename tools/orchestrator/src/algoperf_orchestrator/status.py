"""How an experiment stands: a row for each workload and submission. Reads the ledger, and nothing slow."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from algoperf_orchestrator import cost, kept_rules
from algoperf_orchestrator.attempt import better
from algoperf_orchestrator.ledger import STARTING, Ledger
from algoperf_orchestrator.verdict import State

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table

_WATCH_S = 2.0
# What goes to a file or a pipe is not broken to fit a screen.
_FILE_WIDTH = 200
# In fewer columns a name is worth more than what can be looked up.
_NARROW = 110
_WHOLE = ("done", "running", "best", "target", "left")
_ROWS = """
SELECT submission, workload, framework, state, reason, count(*) AS trials,
    sum(wall_s + CASE WHEN state = 'running' THEN max(heartbeat - started, 0) ELSE 0 END) AS wall_s,
    min(best) AS least, max(best) AS most,
    config ->> '$.scale' AS scale, config ->> '$.max_runtime_s' AS max_runtime_s
FROM trials GROUP BY submission, workload, framework, state, reason
ORDER BY workload, submission, framework
"""
_RUNNING = """
SELECT submission, workload, framework, study, trial, attempts, host, devices, phase, step, submission_s, best,
    started, heartbeat, peak_memory_bytes
FROM trials WHERE state = 'running' ORDER BY id
"""


@dataclass(kw_only=True)
class Cell:
    """The trials of one submission on one workload.

    Attributes:
        counts: of trials, by state.
        failed: of trials that failed, by reason.
        best: the best validation metric of all of them; None before the first evaluation.
        left_s: seconds of trials that are still to be run, one after another; `estimated` says from what.
    """

    submission: str
    workload: str
    framework: str
    metric: str
    goal: str
    target: float | None
    counts: dict[str, int] = field(default_factory=lambda: {state.value: 0 for state in State})
    failed: dict[str, int] = field(default_factory=dict)
    best: float | None = None
    left_s: float = 0.0

    @property
    def has_reached(self) -> bool:
        """Whether some trial has reached the target."""
        if self.best is None or self.target is None:
            return False
        return better(self.best, self.target, self.goal) == self.best


@dataclass(frozen=True, kw_only=True)
class Status:
    """Of an experiment.

    Attributes:
        experiment: its folder.
        groups: by workload and submission.
        running: trials that run now, with host, devices and progress.
        orchestrators: how many work on it.
        counts: of trials, by state.
        left_s: seconds to the end, if as many trials run at once as now; None if nobody works on it.
    """

    experiment: Path
    groups: list[Cell]
    running: list[dict[str, Any]]
    orchestrators: int
    counts: Mapping[str, int]
    left_s: float | None

    @property
    def num_trials(self) -> int:
        """All of them."""
        return sum(self.counts.values())

    @property
    def num_final(self) -> int:
        """Those that nothing more happens to."""
        return sum(count for state, count in self.counts.items() if State(state).is_final)

    @property
    def num_queued(self) -> int:
        """Running trials of which nothing has been heard: a cluster's scheduler has them."""
        return _num_queued(self.running)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **vars(self),
            "num_queued": self.num_queued,
            "experiment": str(self.experiment),
            "groups": [{**vars(group), "has_reached": group.has_reached} for group in self.groups],
        }


def read(experiment: Path) -> Status:
    """How an experiment stands.

    Raises:
        ledger.LedgerError: there is none.
        ValueError: its rules are damaged.
    """
    with Ledger(experiment) as ledger:
        return of(ledger, experiment)


def of(ledger: Ledger, experiment: Path) -> Status:
    """How the experiment of an open ledger stands."""
    rules = kept_rules.read(experiment)
    walls = cost.earlier([experiment])
    groups: dict[tuple[str, str, str], Cell] = {}
    counts = dict.fromkeys((state.value for state in State), 0)
    for row in ledger.query(_ROWS):
        key = (row["submission"], row["workload"], row["framework"])
        if key not in groups:
            facts = rules and rules.workloads.get(row["workload"])
            metric, goal, target = (facts.metric, facts.goal, facts.target) if facts else ("", "min", None)
            groups[key] = Cell(
                submission=key[0], workload=key[1], framework=key[2], metric=metric, goal=goal, target=target
            )
        _add(groups[key], row, walls)
        counts[row["state"]] += row["trials"]
    running = [_running(row) for row in ledger.query(_RUNNING)]
    alive = sum(owner.lives for owner in ledger.owners().values())
    left_s = sum(group.left_s for group in groups.values())
    return Status(
        experiment=experiment,
        groups=list(groups.values()),
        running=running,
        orchestrators=alive,
        counts=counts,
        left_s=left_s / max(len(running) - _num_queued(running), 1) if alive else None,
    )


def _add(group: Cell, row: sqlite3.Row, walls: Mapping[cost.Kind, float]) -> None:
    state = State(row["state"])
    group.counts[state.value] += row["trials"]
    if state in (State.FAILED_ALGORITHM, State.FAILED_INFRASTRUCTURE):
        group.failed[row["reason"]] = group.failed.get(row["reason"], 0) + row["trials"]
    group.best = better(group.best, row["least" if group.goal == "min" else "most"], group.goal)
    if not state.is_final:
        kind = cost.Kind(group.workload, group.framework, row["scale"], row["max_runtime_s"])
        whole_s = walls.get(kind, row["max_runtime_s"]) * row["trials"]
        group.left_s += max(whole_s - row["wall_s"], 0.0)


def _num_queued(running: Sequence[Mapping[str, Any]]) -> int:
    return sum(row["phase"] == STARTING for row in running)


def _running(row: sqlite3.Row) -> dict[str, Any]:
    return {**dict(row), "devices": json.loads(row["devices"])}


def view(status: Status, width: int) -> Group:
    """A table of the groups that fits so many columns, and a line below that sums them up."""
    from rich.console import Group
    from rich.text import Text

    return Group(_table(status, width), Text(summary(status)))


def _table(status: Status, width: int) -> Table:
    from rich.table import Table

    rows = [_cells(group, is_narrow=width < _NARROW) for group in status.groups]
    found = Table(box=None, pad_edge=False, header_style="bold")
    # What says nothing of any of them leaves its room to the others.
    names = [name for name in (rows[0] if rows else ()) if any(row[name] for row in rows)]
    for name in names:
        is_text = name in ("workload", "submission", "framework")
        found.add_column(name, justify="left" if is_text else "right", overflow="fold", no_wrap=name in _WHOLE)
    for row in rows:
        found.add_row(*(row[name] for name in names))
    return found


def _cells(group: Cell, *, is_narrow: bool) -> dict[str, str]:
    metric = "" if is_narrow else f"{group.metric} "
    sign = "≤" if group.goal == "min" else "≥"
    return {
        "workload": group.workload,
        "submission": group.submission,
        "framework": "" if is_narrow else group.framework,
        "done": f"{group.counts[State.DONE.value]} of {sum(group.counts.values())}",
        "running": str(group.counts[State.RUNNING.value] or ""),
        "failed": ", ".join(f"{count} {reason}" for reason, count in sorted(group.failed.items())),
        "best": "" if group.best is None else f"{group.best:.4g}" + (" ✓" if group.has_reached else ""),
        "target": "" if group.target is None else f"{metric}{sign} {group.target:.4g}",
        "left": duration(group.left_s) if group.left_s else "",
    }


def summary(status: Status) -> str:
    """The experiment in a line."""
    parts = [f"{status.num_final} of {status.num_trials} trials have ended"]
    if status.running:
        queued = f" ({status.num_queued} of them in a queue)" if status.num_queued else ""
        parts.append(f"{len(status.running)} running{queued}")
    if status.left_s:
        end = time.strftime("%a %H:%M", time.localtime(time.time() + status.left_s))
        parts.append(f"at most about {duration(status.left_s)} left (until {end})")
    elif status.num_final < status.num_trials and not status.orchestrators:
        parts.append("nobody works on it; run the same `full-suite` command again to continue")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as a person says them: "45 s", "12 min", "3.5 h", "4.2 d"."""
    for limit, unit, name in ((90.0, 1.0, "s"), (5400.0, 60.0, "min")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} d"


def show(experiment: Path, *, as_json: bool, watch: bool) -> None:
    """Shows how an experiment stands, once or until it has ended."""
    if as_json:
        typer.echo(json.dumps(read(experiment).as_json(), indent=2))
    elif watch and sys.stdout.isatty():
        _watch(experiment)
    else:
        console = _console()
        console.print(view(read(experiment), console.width))


def _watch(experiment: Path) -> None:
    from rich.live import Live

    with Live(console=_console(), auto_refresh=False, screen=False) as live:
        while True:
            found = read(experiment)
            live.update(view(found, live.console.width), refresh=True)
            if found.num_final == found.num_trials:
                return
            time.sleep(_WATCH_S)


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _FILE_WIDTH, highlight=False, markup=False)
