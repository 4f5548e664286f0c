"""What a user sees of a running trial: a line per event, and on a terminal a live bar below."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

from algoperf.spec import Split, Target

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_COLUMNS = "step {task.fields[step]}  {task.fields[rate]}  {task.fields[time]}  {task.fields[metric]}"


class Progress:
    """Shows the events of one trial. A context manager.

    Args:
        title: what is trained.
        target: what it shall reach.
        budget_s: the budget in seconds of submission time.
        live: whether to draw a bar, which needs a terminal.
    """

    def __init__(self, title: str, target: Target, budget_s: float, *, live: bool) -> None:
        self._title, self._target, self._budget_s = title, target, budget_s
        self._last: tuple[int, float] | None = None
        self._bar = _bar(title, budget_s) if live else None
        self._print: Callable[[str], Any] = typer.echo if self._bar is None else self._bar.console.print

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, event: str, facts: Mapping[str, Any]) -> None:
        """Shows an event of `algoperf.trial.Trial`."""
        if event == "started":
            self._started(facts)
        elif event == "evaluated":
            self._evaluated(facts)
        elif event == "progress":
            self._progressed(facts["global_step"], facts["submission_s"])

    def _started(self, facts: Mapping[str, Any]) -> None:
        how = f"continues at step {facts['step']}" if facts["restarts"] else "starts"
        self._print(
            f"{self._title} {how}: batch size {facts['batch_size']}, budget {self._budget_s:g} s, {self._goals()}"
        )

    def _goals(self) -> str:
        target = self._target
        goals = {Split.VALIDATION: target.validation, Split.TEST: target.test}
        texts = [f"{goal:g} ({split})" for split, goal in goals.items() if goal is not None]
        if target.validation is None:
            return f"no target yet ({target.metric})"
        return f"target {target.metric} {'≤' if target.goal == 'min' else '≥'} {', '.join(texts)}"

    def _evaluated(self, row: Mapping[str, Any]) -> None:
        metric = self._target.metric
        names = [f"{split.log_name}/{metric}" for split in (Split.VALIDATION, Split.TEST)]
        values = ", ".join(f"{name} {row[name]:.5g}" for name in names if name in row)
        if self._bar is not None:
            goal = "none yet" if self._target.validation is None else f"{self._target.validation:g}"
            self._bar.update(self._bar.task_ids[0], metric=f"{metric} {row[names[0]]:.4g} (target {goal})")
        self._print(f"step {row['global_step']}, {row['accumulated_submission_time']:.1f} s: {values}")
        self._progressed(row["global_step"], row["accumulated_submission_time"])

    def _progressed(self, step: int, submission_s: float) -> None:
        if self._bar is None:
            return
        task, now = self._bar.task_ids[0], time.monotonic()
        if self._last is not None and step > self._last[0]:
            rate = (step - self._last[0]) / (now - self._last[1])
            self._bar.update(task, rate=f"{rate:.1f} steps/s")
        self._last = step, now
        left = max(self._budget_s - submission_s, 0.0)
        used = f"{submission_s:.0f} of {self._budget_s:.0f} s, {left:.0f} s left"
        self._bar.update(task, completed=submission_s, step=step, time=used)


def _bar(title: str, budget_s: float) -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn(_COLUMNS, markup=False), BarColumn(bar_width=20))
    console = Console(highlight=False, markup=False)
    bar = Progress(*columns, console=console, transient=True)
    bar.add_task(title, total=budget_s, step=0, rate="", time="starting", metric="")
    return bar
