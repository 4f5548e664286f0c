"""What several commands have: options, and how they are read."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from algoperf.spec import Scale
from algoperf_orchestrator.sinks import SinkName


class ClockName(StrEnum):
    """The clocks; see `algoperf.clock`."""

    WALL = "wall"
    VIRTUAL = "virtual"


ScaleOption = Annotated[Scale, typer.Option(help="The published benchmark, or the same made small.")]
ClockOption = Annotated[ClockName, typer.Option(help="Time as it passes, or the same for each step (not official).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        envvar="ALGOPERF_DATA",
        help="Where prepared data lies.",
        show_default="the user's data folder",
    ),
]


TelemetryOption = Annotated[
    list[SinkName] | None,
    typer.Option(
        help="Where to show figures while trials run; repeatable, and extras to install.", show_default="nowhere"
    ),
]


def names(text: str | None) -> tuple[str, ...]:
    """The names in an option such as `--workloads a,b`."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """What options such as `--slurm partition=gpu` say. Raises ValueError for one without a value."""
    found = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ValueError(f"{option} is {text!r}; write NAME=VALUE.")
        found[name] = value
    return found


@contextmanager
def without_collection() -> Iterator[None]:
    """A short command leaves hardly any garbage: looking for it, now and at exit, takes a fifth of its time."""
    atexit.register(gc.freeze)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
