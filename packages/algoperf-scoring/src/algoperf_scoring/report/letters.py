"""Puts the submissions' letters into charts, so that they do not cover each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from algoperf_scoring.report.series import Series

# Of the axes' width and height: what a letter takes; and a little more than its height.
_LETTER = (0.045, 0.07)
_LINE = 0.06
# Where a letter may stand, in letters from its point, the best first.
_SPOTS = sorted(
    ((across, up) for across in np.arange(-4, 4.1, 0.5) for up in np.arange(0.8, 3.1, 0.4)),
    key=lambda spot: float(spot[0] ** 2 + spot[1] ** 2),
)
_TEXT: Mapping[str, Any] = {"va": "center", "fontweight": "bold", "fontsize": 8.5}


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a submission's letter belongs, in the units of the axes' data."""

    name: str
    x: float
    y: float


def at_end(axes: Axes, ends: Mapping[str, float], series: Mapping[str, Series]) -> None:
    """Letters right of the axes, at the heights where lines end; those of one height in a row."""
    rows: dict[float, list[str]] = defaultdict(list)
    low, high = axes.get_ylim()
    for name, one in series.items():
        if name in ends:
            rows[round((ends[name] - low) / (high - low), 3)].append(one.letter)
    order = [one.letter for one in series.values()]
    wanted = sorted(rows)
    for height, letters in zip(spread(wanted, _LINE), (rows[key] for key in wanted), strict=True):
        axes.text(1.012, height, in_a_row(letters, order), transform=axes.transAxes, **_TEXT)


def in_a_row(letters: Sequence[str], order: Sequence[str]) -> str:
    """Few enough to fit beside the axes: A B; A–F if that is all between them in the order; A B… if not."""
    if len(letters) < 3:
        return " ".join(letters)
    first = order.index(letters[0])
    is_run = list(order[first : first + len(letters)]) == list(letters)
    return f"{letters[0]}–{letters[-1]}" if is_run else f"{letters[0]} {letters[1]}…"


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Sorted positions, not below 0, as near to where they are wanted as they can be with a gap between them."""
    groups: list[list[float]] = []
    for position in wanted:
        groups.append([position])
        while len(groups) > 1 and _span(groups[-1], gap)[0] < _span(groups[-2], gap)[1] + gap:
            last = groups.pop()
            groups[-1] += last
    positions = [_span(group, gap)[0] + gap * index for group in groups for index in range(len(group))]
    return [max(position, gap * index) for index, position in enumerate(positions)]


def _span(group: Sequence[float], gap: float) -> tuple[float, float]:
    """First and last position of a group that stands around the mean of what its members want."""
    centre, half = sum(group) / len(group), gap * (len(group) - 1) / 2
    return centre - half, centre + half


def beside(axes: Axes, points: Iterable[Point], series: Mapping[str, Series], *, is_above: bool) -> None:
    """Letters above or below their points; right of the axes for those at the end."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    within = {point.name: ((point.x - left) / (right - left), (point.y - low) / (high - low)) for point in points}
    last = {name: low + (high - low) * y for name, (x, y) in within.items() if x > 1 - 1.2 * _LETTER[0]}
    at_end(axes, last, series)
    placed: list[tuple[float, float]] = []
    way = _LETTER[1] if is_above else -_LETTER[1]
    for name, (x, y) in sorted(within.items(), key=lambda one: one[1]):
        if name not in last:
            spots = ((x + _LETTER[0] * across, y + way * up) for across, up in _SPOTS)
            spot = next((spot for spot in spots if _is_free(spot, placed)), (x, y + 0.8 * way))
            placed.append(spot)
            axes.text(*spot, series[name].letter, transform=axes.transAxes, ha="center", **_TEXT)


def _is_free(spot: tuple[float, float], placed: Iterable[tuple[float, float]]) -> bool:
    x, y = spot
    is_inside = 0.01 <= x <= 0.99 and 0.02 <= y <= 1.0
    return is_inside and all(abs(x - one) >= _LETTER[0] or abs(y - other) >= _LETTER[1] for one, other in placed)
