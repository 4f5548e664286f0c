"""Training curves: the validation metric of every trial against the time that counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from algoperf_scoring import times
from algoperf_scoring.board import Board
from algoperf_scoring.logs import Trial
from algoperf_scoring.report import charts, svg, words
from algoperf_scoring.report.colours import SENTINELS
from algoperf_scoring.report.series import Series
from algoperf_scoring.report.svg import Chart
from algoperf_scoring.times import Hit

_BETTER = {"min": "less", "max": "more"}
_UNITS = ((7200.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
# Of the axes' width and height: what a letter takes.
_LETTER = (0.045, 0.07)
# Where a letter may stand, in letters from its point, the best first.
_SPOTS = sorted(
    ((across, up) for across in np.arange(-4, 4.1, 0.5) for up in np.arange(0.8, 3.1, 0.4)),
    key=lambda spot: spot[0] ** 2 + spot[1] ** 2,
)


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
class _Frame:
    """What a picture shows: time from 0 to `end_s`, metrics from `low` to `high`."""

    end_s: float
    low: float
    high: float

    def shows(self, metric: np.ndarray) -> np.ndarray:
        return np.isfinite(metric) & (metric >= self.low) & (metric <= self.high)


def curves(board: Board, workload: str, series: Mapping[str, Series]) -> Curves:
    """All trials of all submissions on a workload; of the median study, the one that counts stands out."""
    facts = board.logs.rules.workloads[workload]
    trials = {
        name: [trial for study in board.times.studies for trial, _ in _study(board, name, workload, study)]
        for name in series
    }
    every = [trial for found in trials.values() for trial in found]
    frame = _frame(board, workload, every)
    size, unit = next((size, unit) for least, size, unit in _UNITS if frame.end_s >= least)
    with svg.drawing() as (figure, axes):
        axes.set(xlim=(0, frame.end_s / size), ylim=(frame.low, frame.high))
        for name in reversed(series):
            lines = _lines(board, trials[name], frame)
            axes.plot(lines[0] / size, lines[1], linewidth=0.7, alpha=0.4, **charts.style(series[name]))
        _letters(axes, _draw_counting(axes, board, workload, series, frame, size), series, is_above=facts.goal == "max")
        _draw_limits(axes, board, workload, frame, size)
        if not every:
            axes.text(0.5, 0.4, "no trials", transform=axes.transAxes, ha="center", color=SENTINELS["muted"])
        svg.head(figure, words.metric(facts.metric), f"╌╌ target {facts.target:g} or {_BETTER[facts.goal]}")
        axes.set_xlabel(f"{unit} of submission time; {_budget(board, workload, frame, size)}", loc="right")
        axes.locator_params(nbins=6)
        chart = svg.finish(
            figure,
            name=f"curves-{words.file_name(workload)}",
            title=f"Training curves of {workload}",
            description=f"{words.metric(facts.metric)} on the validation split against submission time, "
            f"of {words.plural(len(every), 'trial')}; the target is {facts.target:g}.",
            legend=list(series.values()),
        )
    seen = sum(bool(frame.shows(board.logs.evaluations.metric[trial.rows]).any()) for trial in every)
    return Curves(chart=chart, num_trials=len(every), num_out_of_view=len(every) - seen)


def _study(board: Board, name: str, workload: str, study: int) -> Sequence[tuple[Trial, Hit]]:
    found = board.times.trials.get((name, workload, study), [])
    return [(trial, hit) for trial, hit in found if trial.num_evaluations]


def _frame(board: Board, workload: str, trials: Sequence[Trial]) -> _Frame:
    """From below what most trials reach after the start to just beyond the best: where targets are decided."""
    facts, rows = board.logs.rules.workloads[workload], board.logs.evaluations
    sign = 1.0 if facts.goal == "max" else -1.0
    time_s = np.concatenate([[0.0], *(rows.time_s[trial.rows] for trial in trials)])
    metric = np.concatenate([[facts.target], *(rows.metric[trial.rows] for trial in trials)])
    budget_s = board.logs.rules.budget_s(workload, board.logs.ruleset)
    last_s = float(time_s.max())
    # A budget that nobody came near would only take the room.
    end_s = budget_s * 1.03 if last_s > 0.7 * budget_s else last_s * 1.06 or budget_s
    is_finite = np.isfinite(metric)
    missing = sign * (facts.target - metric)
    late = missing[is_finite & (time_s >= 0.25 * last_s)]
    worst = 1.6 * float(np.quantile(late, 0.75)) if len(late) else 0.0
    least = 0.02 * abs(facts.target) or 0.02
    beyond = max(float(-np.quantile(missing[is_finite], 0.002)), least / 4)
    worst = max(worst, 2 * beyond, least)
    low, high = sorted((facts.target - sign * worst, facts.target + sign * (beyond + 0.16 * worst)))
    return _Frame(end_s=max(end_s, last_s * 1.01), low=low, high=high)


def _lines(board: Board, trials: Sequence[Trial], frame: _Frame) -> tuple[np.ndarray, np.ndarray]:
    """All trials as one line with gaps, which is drawn as one path; far out of view is just out of view."""
    rows, gap = board.logs.evaluations, [np.nan]
    keep = [np.isfinite(rows.metric[trial.rows]) for trial in trials]
    time_s = [[*rows.time_s[trial.rows][kept], *gap] for trial, kept in zip(trials, keep, strict=True)]
    metric = [[*rows.metric[trial.rows][kept], *gap] for trial, kept in zip(trials, keep, strict=True)]
    height = frame.high - frame.low
    limited = np.clip(np.concatenate([gap, *metric]), frame.low - height, frame.high + height)
    return np.concatenate([gap, *time_s]), limited


def _draw_counting(
    axes: Axes, board: Board, workload: str, series: Mapping[str, Series], frame: _Frame, size: float
) -> Iterator[tuple[str, float, float]]:
    """Draws the trial that counts, and a dot where it reached the target; yields names and points."""
    for name in reversed(series):
        counting = _counting(board, name, workload)
        if counting is not None:
            trial, hit = counting
            time_s, metric = _lines(board, [trial], frame)
            axes.plot(time_s / size, metric, linewidth=1.5, **charts.style(series[name]))
            at = trial.rows.start + hit.index if hit.index >= 0 else trial.rows.stop - 1
            rows = board.logs.evaluations
            x, y = rows.time_s[at] / size, float(np.clip(rows.metric[at], frame.low, frame.high))
            y = y if np.isfinite(y) else frame.low
            if hit.index >= 0:
                axes.plot([x], [y], "o", markersize=4, color=SENTINELS[series[name].colour])
            yield name, x, y


def _counting(board: Board, name: str, workload: str) -> tuple[Trial, Hit] | None:
    """Of the median study (of an even number, one in the middle), the trial that counts, or the one nearest to it."""
    cell = board.cells[name, workload]
    studies = sorted(cell.studies_s, key=lambda study: (cell.studies_s[study], study))
    if not studies:
        return None
    middle = (len(studies) - 1) // 2 if np.isfinite(cell.time_s) else len(studies) // 2
    found = _study(board, name, workload, studies[middle])
    selected = times.select([hit for _, hit in found], board.selection)
    if selected.index >= 0:
        return next(one for one in found if one[1] == selected)
    sign = 1.0 if board.logs.rules.workloads[workload].goal == "max" else -1.0
    metric = board.logs.evaluations.metric
    best = max(
        found,
        key=lambda one: float(
            np.max(sign * metric[one[0].rows], where=np.isfinite(metric[one[0].rows]), initial=-np.inf)
        ),
    )
    return best[0], times.NEVER


def _draw_limits(axes: Axes, board: Board, workload: str, frame: _Frame, size: float) -> None:
    """The target, and the end of the budget if it is in view."""
    target = board.logs.rules.workloads[workload].target
    budget_s = board.logs.rules.budget_s(workload, board.logs.ruleset)
    axes.axhline(target, color=SENTINELS["ink"], linewidth=0.9, linestyle=(0, (4, 2.5)), zorder=1.9)
    if budget_s <= frame.end_s:
        axes.axvline(budget_s / size, color=SENTINELS["ink"], linewidth=0.9, zorder=1.8)


def _budget(board: Board, workload: str, frame: _Frame, size: float) -> str:
    budget_s = board.logs.rules.budget_s(workload, board.logs.ruleset)
    return "the line is the budget" if budget_s <= frame.end_s else f"budget {budget_s / size:.3g}, not in view"


def _letters(
    axes: Axes, points: Iterable[tuple[str, float, float]], series: Mapping[str, Series], *, is_above: bool
) -> None:
    """Letters beside their points, where curves have not been; right of the axes for those that went on to the end."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    within = {name: ((x - left) / (right - left), (y - low) / (high - low)) for name, x, y in points}
    at_end = {name: low + (high - low) * y for name, (x, y) in within.items() if x > 1 - 1.2 * _LETTER[0]}
    charts.end_letters(axes, at_end, {name: one for name, one in series.items() if name in at_end})
    placed: list[tuple[float, float]] = []
    way = _LETTER[1] if is_above else -_LETTER[1]
    for name, (x, y) in sorted(within.items(), key=lambda one: one[1]):
        if name not in at_end:
            spots = ((x + _LETTER[0] * across, y + way * up) for across, up in _SPOTS)
            x, y = next(filter(lambda spot: _is_free(spot, placed), spots), (x, y + 0.8 * way))
            placed.append((x, y))
            text = {"ha": "center", "va": "center", "fontweight": "bold", "fontsize": 8.5}
            axes.text(x, y, series[name].letter, transform=axes.transAxes, **text)


def _is_free(spot: tuple[float, float], placed: Iterable[tuple[float, float]]) -> bool:
    x, y = spot
    return (
        0.01 <= x <= 0.99
        and 0.02 <= y <= 1.0
        and all(abs(x - other_x) >= _LETTER[0] or abs(y - other_y) >= _LETTER[1] for other_x, other_y in placed)
    )
