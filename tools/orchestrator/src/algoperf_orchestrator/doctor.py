"""The command `doctor`: what is wrong with this machine and what is installed on it, and how to mend it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import typer

from algoperf.spec import Framework
from algoperf_orchestrator import doctor_checks, doctor_processes, doctor_software, leases
from algoperf_orchestrator.doctor_checks import Check, Level
from algoperf_orchestrator.doctor_software import Gpus, Probe

# What goes to a file or a pipe is not broken to fit a screen.
_FILE_WIDTH = 200
_DRIVER = Path("/proc/driver/nvidia")


@dataclass(frozen=True)
class Place:
    """What is looked at; what several checks need is looked at once, when the first needs it.

    Attributes:
        data_dir: where prepared data lies, or is to.
        experiment: folder for logs, if one is named.
    """

    data_dir: Path
    experiment: Path | None

    @cached_property
    def gpus(self) -> Gpus:
        """Those that trials may use."""
        return doctor_software.find_gpus()

    @cached_property
    def probes(self) -> dict[Framework, Probe]:
        """What each installed framework says."""
        return doctor_software.probe_frameworks()


def doctor(data_dir: Path, experiment: Path | None, as_json: bool) -> int:
    """Looks at this machine and what is installed, and prints what was found. Returns 1 if there are problems, else 0.

    Args:
        data_dir: the folder below which prepared data lies, or is to.
        experiment: a folder for logs to be looked at as well.
        as_json: print JSON instead of a table.
    """
    found = examine(Place(data_dir.absolute(), experiment and experiment.absolute()))
    if as_json:
        typer.echo(json.dumps(as_data(found), indent=2))
    else:
        show(found)
    return 1 if worst(found) is Level.PROBLEM else 0


def examine(place: Place) -> list[Check]:
    """All checks, in the order in which they are told."""
    return [check for name, look in _looks(place) for check in _safely(name, look)]


def worst(found: Sequence[Check]) -> Level:
    """The worst of what was found."""
    order = list(Level)
    return max((check.status for check in found), key=order.index, default=Level.OK)


def as_data(found: Sequence[Check]) -> dict[str, Any]:
    """What was found, as plain data."""
    rows = [{"name": one.name, "status": one.status.value, "found": one.found, "fix": one.fix} for one in found]
    return {"checks": rows, "worst": worst(found).value}


def show(found: Sequence[Check]) -> None:
    """Prints what was found as a table, and then what it comes to."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("status", no_wrap=True)
    for name in ("check", "found", "fix"):
        table.add_column(name, overflow="fold")
    for one in found:
        table.add_row(one.status.value, one.name, one.found, one.fix)
    console = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH, highlight=False, markup=False)
    console.print(table)
    counts = {level: sum(one.status is level for one in found) for level in (Level.PROBLEM, Level.WARNING)}
    told = [f"{number} {level.value}{'s' * (number != 1)}" for level, number in counts.items()]
    console.print(f"\n{' and '.join(told)} in {len(found)} checks.")


def _looks(place: Place) -> list[tuple[str, Callable[[], Iterable[Check]]]]:
    """Names and checks. The load first: later checks are a load themselves."""
    looks: list[tuple[str, Callable[[], Iterable[Check]]]] = [
        ("load", doctor_processes.this_load),
        ("operating system", doctor_checks.this_system),
        ("memory", doctor_checks.this_memory),
        ("clock", doctor_checks.this_clock),
        ("GPUs", lambda: doctor_software.gpus(place.gpus, _DRIVER.exists())),
        ("frameworks", lambda: doctor_software.check_frameworks(place.probes, place.gpus.found)),
        ("results", lambda: doctor_software.results(place.gpus.found)),
        ("packages", doctor_software.packages),
        ("data folder", lambda: doctor_checks.folder("data folder", place.data_dir)),
        ("data", lambda: doctor_software.data(place.data_dir)),
        ("leases", lambda: [doctor_checks.writable("leases", leases.default_folder())]),
        ("executors", doctor_software.executors),
        ("environment", lambda: doctor_software.variables(os.environ, _decisive())),
        ("left-over processes", doctor_processes.this_stale),
    ]
    if (experiment := place.experiment) is not None:
        looks += [
            ("experiment", lambda: doctor_checks.folder("experiment", experiment)),
            ("experiment's file system", lambda: doctor_checks.network(experiment, doctor_checks.mounts())),
        ]
    return looks


def _decisive() -> tuple[str, ...]:
    # Only now: it brings all that a trial needs.
    from algoperf_orchestrator import run_trial

    return run_trial.DECISIVE


def _safely(name: str, look: Callable[[], Iterable[Check]]) -> list[Check]:
    """What a check found; a check that fails is itself a problem, and keeps no other from being made."""
    found: list[Check] = []
    try:
        found.extend(look())
    except Exception as error:  # noqa: BLE001 - a broken machine raises what nobody expects.
        told = f"this check itself failed: {type(error).__name__}: {' '.join(str(error).split())}"
        fix = "mend what it names, or report it with this line"
        found.append(Check(name=name, status=Level.PROBLEM, found=told, fix=fix))
    return found
