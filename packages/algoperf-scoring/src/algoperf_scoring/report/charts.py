"""Performance profiles, and scores at other targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from algoperf_scoring.report import letters, svg, words
from algoperf_scoring.report.colours import SENTINELS
from algoperf_scoring.report.series import Series
from algoperf_scoring.report.svg import Chart


def profiles(data: Mapping[str, Any], series: dict[str, Series], max_ratio: float) -> Chart:
    """On how many workloads each submission is within a factor of the fastest: exact steps, not points on a grid."""
    base = [name for name, facts in data["workloads"].items() if facts["base"] is None]
    ends: dict[str, float] = {}
    with svg.drawing() as (figure, axes):
        for name, facts in reversed(data["submissions"].items()):
            cells = (facts["workloads"][workload]["ratio"] for workload in base)
            x, y = steps([ratio for ratio in cells if ratio is not None], max_ratio)
            axes.plot(x, y, drawstyle="steps-post", linewidth=1.8, clip_on=False, **svg.line(series[name]))
            ends[name] = float(y[-1])
        axes.set(xlim=(1, max_ratio), ylim=(0, len(base) * 1.02))
        svg.head(figure, f"workloads, of {len(base)}")
        axes.set_xlabel("time to target, as a multiple of the fastest", loc="right")
        axes.xaxis.set_major_formatter("{x:g}×")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=9))
        letters.at_end(axes, ends, series)
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


def targets(data: Mapping[str, Any], series: dict[str, Series]) -> Chart:
    """Scores with all targets moved."""
    shifts = data["robustness"]["targets"]
    x = np.arange(len(shifts))
    num_harder = sum(shift["censored"] for shift in shifts)
    with svg.drawing() as (figure, axes):
        if num_harder:
            axes.axvspan(-0.3, num_harder - 0.5, color=SENTINELS["panel"], linewidth=0, zorder=0)
        for name in reversed(series):
            scores = [shift["score"][name] for shift in shifts]
            axes.plot(x, scores, linewidth=1.6, marker="o", markersize=3, clip_on=False, **svg.line(series[name]))
        labels = [f"{100 * shift['easier']:+g}".replace("-", "−") if shift["easier"] else "0" for shift in shifts]
        axes.set(xlim=(-0.3, len(shifts) - 0.7), ylim=(0, 1.02), xticks=x, xticklabels=labels)
        svg.head(figure, "score", "shaded: harder targets, cut off" if num_harder else "")
        axes.set_xlabel("targets easier by, in per cent", loc="right")
        axes.grid(visible=False, axis="x")
        letters.at_end(axes, {name: shifts[-1]["score"][name] for name in series}, series)
        return svg.finish(
            figure,
            name="targets",
            title="Scores with all targets moved",
            description="The same numbers are in the table beside the chart.",
            legend=list(series.values()),
        )
