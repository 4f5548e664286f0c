"""How a submission is told apart in every chart and table: a letter, a colour and, beyond the colours, dashes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from algoperf_scoring.report import colours

# Lengths of dashes and gaps, in units of the chart; the first is a solid line.
_DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.5), (6, 2, 1.5, 2))


@dataclass(frozen=True, kw_only=True)
class Series:
    """One submission.

    Attributes:
        name: as in the logs.
        letter: A for the first in the ranking.
        colour: name of its colour.
        dashes: lengths of dashes and gaps; none for a solid line.
    """

    name: str
    letter: str
    colour: str
    dashes: tuple[float, ...]


def series(ranking: Iterable[str]) -> dict[str, Series]:
    """By name, in the order of the ranking."""
    return {
        name: Series(
            name=name,
            letter=letter(index),
            colour=f"series-{index % colours.NUM_SERIES}",
            dashes=_DASHES[index // colours.NUM_SERIES % len(_DASHES)],
        )
        for index, name in enumerate(ranking)
    }


def letter(index: int) -> str:
    """A to Z, then AA, AB and so on."""
    return (letter(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)
