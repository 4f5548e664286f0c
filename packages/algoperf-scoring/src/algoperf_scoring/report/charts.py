"""Performance profiles, and scores at other targets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from algoperf_scoring.report import svg, words
from algoperf_scoring.report.colours import SENTINELS
from algoperf_scoring.report.series import Series
from algoperf_scoring.report.svg import Chart

# Of the axes' height: what a line of text takes.
_LINE = 0.058


def profiles(data: Mapping[str, Any], series: Mapping[str, Series], max_ratio: float) -> Chart:
    """On how many workloads each submission is within a factor of the fastest: exact steps, not points on a grid."""
    base = [name for name, facts in data["workloads"].items() if facts["base"] is None]
    ends: dict[str, float] = {}
    with svg.drawing() as (figure, axes):
        for name, facts in reversed(data["submissions"].items()):
            cells = (facts["workloads"][workload]["ratio"] for workload in base)
            x, y = steps([ratio for ratio in cells if ratio is not None], max_ratio)
            axes.plot(x, y, drawstyle="steps-post", linewidth=1.8, clip_on=False, **style(series[name]))
            ends[name] = float(y[-1])
        axes.set(xlim=(1, max_ratio), ylim=(0, len(base) * 1.02))
        svg.head(figure, f"workloads, of {len(base)}")
        axes.set_xlabel("time to target, as a multiple of the fastest", loc="right")
        axes.xaxis.set_major_formatter("{x:g}×")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=9))
        end_letters(axes, ends, series)
        return svg.finish(
            figure,
            name="profiles",
            title="Performance profiles",
            description="; ".join(
                f"{series[name].letter}, {words.short(name)}: {ends[name]:g} of {len(base)} workloads within "
                f"{max_ratio:g} times the fastest"
                for name in series
            ),
            legend=list(series.values()),
        )


def steps(ratios: Sequence[float], max_ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """From each x on, how many of the ratios are at most x; from 1 to `max_ratio`."""
    ordered = np.sort(ratios)
    x = np.array([1.0, *ordered[ordered > 1], max_ratio])
    return x, np.searchsorted(ordered, x, side="right")


def targets(data: Mapping[str, Any], series: Mapping[str, Series]) -> Chart:
    """Scores with all targets moved."""
    shifts = data["robustness"]["targets"]
    x = np.arange(len(shifts))
    num_harder = sum(shift["censored"] for shift in shifts)
    with svg.drawing() as (figure, axes):
        if num_harder:
            axes.axvspan(-0.3, num_harder - 0.5, color=SENTINELS["panel"], linewidth=0, zorder=0)
            axes.text(-0.2, 1.0, "harder: lower bounds", color=SENTINELS["muted"], va="top", fontsize=8.5)
        for name in reversed(series):
            scores = [shift["score"][name] for shift in shifts]
            axes.plot(x, scores, linewidth=1.6, marker="o", markersize=3, clip_on=False, **style(series[name]))
        labels = [
            f"{100 * shift['easier']:+g}".replace("-", "−").replace("+0", "0", shift["easier"] == 0) for shift in shifts
        ]
        axes.set(xlim=(-0.3, len(shifts) - 0.7), ylim=(0, 1.02), xticks=x, xticklabels=labels)
        svg.head(figure, "score")
        axes.set_xlabel("targets easier by, in per cent", loc="right")
        axes.grid(visible=False, axis="x")
        end_letters(axes, {name: shifts[-1]["score"][name] for name in series}, series)
        return svg.finish(
            figure,
            name="targets",
            title="Scores with all targets moved",
            description="The same numbers are in the table beside the chart.",
            legend=list(series.values()),
        )


def style(one: Series) -> dict[str, Any]:
    """How a submission's lines are drawn."""
    return {"color": SENTINELS[one.colour], "linestyle": (0, one.dashes) if one.dashes else "solid"}


def end_letters(axes: Axes, ends: Mapping[str, float], series: Mapping[str, Series]) -> None:
    """Letters at the right, at the height where each line ends; those of one height in a row."""
    rows: dict[float, list[str]] = defaultdict(list)
    low, high = axes.get_ylim()
    for name, one in series.items():
        rows[round((ends[name] - low) / (high - low), 3)].append(one.letter)
    heights = spread(sorted(rows), _LINE)
    for height, letters in zip(heights, (rows[key] for key in sorted(rows)), strict=True):
        axes.text(
            1.012,
            height,
            _row(letters, list(series.values())),
            transform=axes.transAxes,
            va="center",
            fontweight="bold",
            fontsize=8.5,
        )


def _row(letters: Sequence[str], series: Sequence[Series]) -> str:
    """A row of letters that fits beside the axes: A B, or A–F if it has all between them, or A B…"""
    if len(letters) < 3:
        return " ".join(letters)
    order = [one.letter for one in series]
    first = order.index(letters[0])
    is_run = order[first : first + len(letters)] == list(letters)
    return f"{letters[0]}–{letters[-1]}" if is_run else f"{letters[0]} {letters[1]}…"


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Sorted positions, as near to where they are wanted as they can be with a gap between them."""
    groups: list[list[float]] = []
    for position in wanted:
        groups.append([position])
        while len(groups) > 1 and _span(groups[-1], gap)[0] < _span(groups[-2], gap)[1] + gap:
            last = groups.pop()
            groups[-1] += last
    return [_span(group, gap)[0] + gap * index for group in groups for index in range(len(group))]


def _span(group: Sequence[float], gap: float) -> tuple[float, float]:
    """First and last position of a group that stands around the mean of what its members want."""
    centre, half = sum(group) / len(group), gap * (len(group) - 1) / 2
    return centre - half, centre + half
