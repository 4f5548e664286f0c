"""Training curves: the validation metric of every trial against the time that counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from algoperf_scoring import times
from algoperf_scoring.board import Board
from algoperf_scoring.logs import Trial
from algoperf_scoring.report import letters, svg, words
from algoperf_scoring.report.colours import SENTINELS
from algoperf_scoring.report.frames import Frame, frame
from algoperf_scoring.report.letters import Point
from algoperf_scoring.report.series import Series
from algoperf_scoring.report.svg import Chart
from algoperf_scoring.rules import WorkloadRules
from algoperf_scoring.times import Hit

_BETTER = {"min": "less", "max": "more"}


@dataclass(frozen=True, kw_only=True)
class Curves:
    """The curves of one workload.

    Attributes:
        chart: the picture.
        num_trials: how many trials there are.
        num_out_of_view: how many of them are nowhere near enough to the target to be seen.
    """

    chart: Chart
    num_trials: int
    num_out_of_view: int


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """What is drawn: a workload of a board, within a frame."""

    board: Board
    workload: str
    frame: Frame

    @property
    def facts(self) -> WorkloadRules:
        return self.board.logs.rules.workloads[self.workload]

    @property
    def budget_s(self) -> float:
        return self.board.logs.rules.budget_s(self.workload, self.board.logs.ruleset)

    @property
    def shows_budget(self) -> bool:
        return self.budget_s <= self.frame.end_s


def curves(board: Board, workload: str, series: dict[str, Series]) -> Curves:
    """All trials of all submissions on a workload; of the median study, the one that counts stands out."""
    studies = {name: [_study(board, name, workload, study) for study in board.times.studies] for name in series}
    trials = {name: [trial for study in found for trial, _ in study] for name, found in studies.items()}
    every = [trial for found in trials.values() for trial in found]
    picture = _Picture(board=board, workload=workload, frame=frame(board.logs, workload, every))
    facts = picture.facts
    with svg.drawing() as (figure, axes):
        _draw_limits(axes, picture)
        _draw_all(axes, picture, trials, series)
        points = list(_draw_counting(axes, picture, series))
        letters.beside(axes, points, series, is_above=facts.goal == "max")
        svg.head(figure, words.metric(facts.metric), f"╌╌ target {facts.target:g} or {_BETTER[facts.goal]}")
        chart = svg.finish(
            figure,
            name=f"curves-{words.file_name(workload)}",
            title=f"Training curves of {workload}",
            description=f"{words.metric(facts.metric)} on the validation split against submission time, "
            f"of {words.plural(len(every), 'trial')}; the target is {facts.target:g}.",
            legend=list(series.values()),
        )
    seen = sum(picture.frame.shows(board.logs.evaluations.metric[trial.rows]) for trial in every)
    return Curves(chart=chart, num_trials=len(every), num_out_of_view=len(every) - seen)


def _study(board: Board, name: str, workload: str, study: int) -> Sequence[tuple[Trial, Hit]]:
    found = board.times.trials.get((name, workload, study), [])
    return [(trial, hit) for trial, hit in found if trial.num_evaluations]


def _draw_limits(axes: Axes, picture: _Picture) -> None:
    """Axes, the target, and the end of the budget if it is in view."""
    seen, (size, unit) = picture.frame, picture.frame.unit
    axes.set(xlim=(0, seen.end_s / size), ylim=(seen.low, seen.high))
    axes.locator_params(nbins=6)
    axes.axhline(picture.facts.target, color=SENTINELS["ink"], linewidth=0.9, linestyle=(0, (4, 2.5)), zorder=1.9)
    budget = picture.budget_s / size
    if picture.shows_budget:
        axes.axvline(budget, color=SENTINELS["ink"], linewidth=0.9, zorder=1.8)
    where = "the line is the budget" if picture.shows_budget else f"budget {budget:.3g}, not in view"
    axes.set_xlabel(f"{unit} of submission time; {where}", loc="right")


def _draw_all(axes: Axes, picture: _Picture, trials: dict[str, list[Trial]], series: dict[str, Series]) -> None:
    number = sum(len(found) for found in trials.values())
    if not number:
        axes.text(0.5, 0.4, "no trials", transform=axes.transAxes, ha="center", color=SENTINELS["muted"])
    # The more there are, the fainter, so that those that count stand out.
    faint = min(0.4, max(0.12, 2.2 / max(number, 1) ** 0.5))
    for name in reversed(series):
        x, y = _lines(picture, trials[name])
        axes.plot(x, y, linewidth=0.7, alpha=faint, **svg.line(series[name]))


def _lines(picture: _Picture, trials: Sequence[Trial]) -> tuple[np.ndarray, np.ndarray]:
    """All trials as one line with gaps, which is drawn as one path; far out of view is just out of view."""
    rows, seen, gap = picture.board.logs.evaluations, picture.frame, [np.nan]
    time_s, metric = [np.array(gap)], [np.array(gap)]
    for trial in trials:
        keep = np.isfinite(rows.metric[trial.rows])
        time_s += [rows.time_s[trial.rows][keep], np.array(gap)]
        metric += [rows.metric[trial.rows][keep], np.array(gap)]
    height = seen.high - seen.low
    limited = np.clip(np.concatenate(metric), seen.low - height, seen.high + height)
    return np.concatenate(time_s) / seen.unit[0], limited


def _draw_counting(axes: Axes, picture: _Picture, series: dict[str, Series]) -> Iterator[Point]:
    """Draws the trials that count, and a dot where they reached the target; yields where their letters belong."""
    rows, seen = picture.board.logs.evaluations, picture.frame
    for name in reversed(series):
        counting = _counting(picture, name)
        if counting is None:
            continue
        trial, hit = counting
        axes.plot(*_lines(picture, [trial]), linewidth=1.5, **svg.line(series[name]))
        at = trial.rows.start + hit.index if hit.index >= 0 else trial.rows.stop - 1
        x = float(rows.time_s[at]) / seen.unit[0]
        y = float(np.clip(np.nan_to_num(rows.metric[at], nan=seen.low), seen.low, seen.high))
        if hit.index >= 0:
            axes.plot([x], [y], "o", markersize=4, color=SENTINELS[series[name].colour])
        yield Point(name=name, x=x, y=y)


def _counting(picture: _Picture, name: str) -> tuple[Trial, Hit] | None:
    """Of the median study (of an even number, one in the middle), the trial that counts, or the one nearest to it."""
    board = picture.board
    cell = board.cells[name, picture.workload]
    studies = sorted(cell.studies_s, key=lambda study: (cell.studies_s[study], study))
    if not studies:
        return None
    middle = (len(studies) - 1) // 2 if np.isfinite(cell.time_s) else len(studies) // 2
    found = _study(board, name, picture.workload, studies[middle])
    selected = times.select([hit for _, hit in found], board.selection)
    if selected.index >= 0:
        return next(one for one in found if one[1] == selected)
    return max(found, key=lambda one: _best(picture, one[0]))[0], times.NEVER


def _best(picture: _Picture, trial: Trial) -> float:
    """The best metric of a trial, negative if lower is better."""
    metric = picture.board.logs.evaluations.metric[trial.rows]
    finite = metric[np.isfinite(metric)] * (1.0 if picture.facts.goal == "max" else -1.0)
    return float(finite.max(initial=-np.inf))
