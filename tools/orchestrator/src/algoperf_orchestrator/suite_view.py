"""What a user sees of a running suite: a line for each thing that happens, and on a terminal a live table below."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

from algoperf_orchestrator import status
from algoperf_orchestrator.ledger import Ledger, Row
from algoperf_orchestrator.verdict import State, Verdict

if TYPE_CHECKING:
    from rich.live import Live

_REFRESH_S = 2.0


class SuiteView:
    """Shows what a scheduler does. A context manager.

    Args:
        ledger: of the experiment.
        experiment: its folder.
        live: whether to draw a table, which needs a terminal.
    """

    def __init__(self, ledger: Ledger, experiment: Path, *, live: bool) -> None:
        self._ledger, self._experiment = ledger, experiment
        self._live = _live() if live else None
        self._print: Callable[[str], Any] = typer.echo if self._live is None else self._live.console.print
        self._next = 0.0

    def __enter__(self) -> SuiteView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self.refresh(at_once=True)
            self._live.stop()

    def happened(self, row: Row, event: str, verdict: Verdict | None) -> None:
        """Shows an event of `algoperf_orchestrator.scheduler.Scheduler`."""
        clock = time.strftime("%H:%M:%S")
        if verdict is None:
            self._print(f"{clock}  {row.key} {event}")
            return
        what = "is tried again: " if event == "retry" else ""
        state = "" if verdict.state is State.DONE else f"{verdict.state}, "
        detail = f" ({verdict.detail})" if verdict.detail else ""
        counts = self._ledger.query("SELECT count(*), sum(state NOT IN ('planned', 'running')) FROM trials")[0]
        self._print(f"{clock}  {row.key} {what}{state}{verdict.reason}{detail}; {counts[1]} of {counts[0]} have ended")

    def refresh(self, *, at_once: bool = False) -> None:
        """Draws the table anew, unless it is new."""
        now = time.monotonic()
        if self._live is not None and (at_once or now >= self._next):
            found = status.of(self._ledger, self._experiment)
            self._live.update(status.view(found, self._live.console.width), refresh=True)
            self._next = now + _REFRESH_S


def _live() -> Live:
    from rich.console import Console
    from rich.live import Live

    return Live(console=Console(highlight=False, markup=False), auto_refresh=False, transient=False)
