"""Makes SVG of Matplotlib's figures: small, without collisions between charts, in the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from algoperf_scoring.report import colours, words
from algoperf_scoring.report.colours import SENTINELS
from algoperf_scoring.report.series import Series

# In inches; text of 9.5 points is legible when a chart is scaled to the width of a phone.
SIZE = (4.2, 2.8)
TEXT_POINTS = 9.5
_FONT, _FONTS = "'DejaVu Sans', sans-serif", "system-ui, sans-serif"
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "algoperf-scoring",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": TEXT_POINTS,
    "text.color": SENTINELS["ink"],
    "text.parse_math": False,
    "axes.edgecolor": SENTINELS["mark"],
    "axes.labelcolor": SENTINELS["muted"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": SENTINELS["grid"],
    "grid.linewidth": 0.8,
    "xtick.color": SENTINELS["mark"],
    "ytick.color": SENTINELS["mark"],
    "xtick.labelcolor": SENTINELS["muted"],
    "ytick.labelcolor": SENTINELS["muted"],
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "path.simplify_threshold": 0.25,
}
_NUMBER = re.compile(r"-?\d+\.\d+")
_SPACE = re.compile(r"\s+(?=[A-Za-z])|(?<=[A-Za-z])\s+|\s+$")
_XMLNS = "http://www.w3.org/2000/svg"
_NAMESPACE = re.compile(r"\{[^}]*\}")
_REFERENCE = re.compile(r"#([A-Za-z_][\w.-]*)")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart.

    Attributes:
        name: of its file; the charts of a page have different ones.
        title: what it shows, in a few words.
        inline: for the page; its colours are the page's.
        alone: as a file of its own, in light colours and with a legend.
    """

    name: str
    title: str
    inline: str
    alone: str


@contextmanager
def drawing() -> Iterator[tuple[Figure, Axes]]:
    """A figure with axes; while it is drawn, settings are ours, whatever they are elsewhere."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        figure = Figure(figsize=SIZE)
        FigureCanvasSVG(figure)
        axes = figure.add_axes((0.125, 0.155, 0.79, 0.725))
        axes.tick_params(pad=4)
        yield figure, axes


def head(figure: Figure, left: str, right: str = "") -> None:
    """Says what the vertical axis is where the eye begins to read, and upright; and something more."""
    figure.text(0.012, 0.93, left, color=SENTINELS["muted"])
    figure.text(0.915, 0.93, right, ha="right")


def line(one: Series) -> dict[str, Any]:
    """How a submission's lines are drawn."""
    return {"color": SENTINELS[one.colour], "linestyle": (0, one.dashes) if one.dashes else "solid"}


def finish(figure: Figure, *, name: str, title: str, description: str, legend: Sequence[Series]) -> Chart:
    """The chart of a figure, within `drawing`.

    Args:
        figure: drawn with `SENTINELS` for colours.
        name: of the chart.
        title: as in `Chart`.
        description: what it shows in words, for those who do not see it.
        legend: of the file; the page has its own.
    """
    figure.patch.set_visible(False)
    figure.axes[0].patch.set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = _clean(ElementTree.fromstring(buffer.getvalue()), name)
    _describe(root, name, title, description)
    inline = colours.for_page(_text(root))
    _make_file(root, legend)
    alone = colours.for_file(f'<?xml version="1.0" encoding="utf-8"?>\n{_text(root)}\n')
    return Chart(name=name, title=title, inline=inline, alone=alone)


def _text(root: Element) -> str:
    return words.printable(ElementTree.tostring(root, encoding="unicode"))


def _clean(root: Element, name: str) -> Element:
    """Without what no reader needs; all ids begin with "chart" and its name."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    used = {found for one in root.iter() for value in one.attrib.values() for found in _REFERENCE.findall(value)}
    ids = {one.attrib["id"]: "" for one in root.iter() if one.attrib.get("id") in used}
    names = {old: f"chart-{name}-{index}" for index, old in enumerate(ids)}
    for one in root.iter():
        one.tag = _NAMESPACE.sub("", one.tag)
        attributes = {_NAMESPACE.sub("", key): value for key, value in one.attrib.items()}
        one.attrib.clear()
        for key, value in attributes.items():
            is_idle = value.startswith("rotate(-0 ") if key == "transform" else key == "id" and value not in names
            if not is_idle:
                one.attrib[key] = _attribute(key, value, names)
        if one.tag != "text":
            one.text = None
        one.tail = None
    return root


def _attribute(key: str, value: str, names: dict[str, str]) -> str:
    if key == "id":
        return names[value]
    value = _NUMBER.sub(lambda match: f"{float(match[0]):.1f}".removesuffix(".0"), value)
    if key == "d":
        return _SPACE.sub("", value)
    value = value.replace(_FONT, _FONTS).replace(": ", ":").replace("; ", ";")
    return _REFERENCE.sub(lambda match: f"#{names.get(match[1], match[1])}", value)


def _describe(root: Element, name: str, title: str, description: str) -> None:
    for attribute in ("width", "height", "version"):
        del root.attrib[attribute]
    root.attrib |= {
        "xmlns": _XMLNS,
        "role": "img",
        "aria-labelledby": f"chart-{name}-title chart-{name}-description",
        "style": "stroke-linejoin:round;stroke-linecap:butt",
    }
    for tag, text in (("description", description), ("title", title)):
        element = Element("desc" if tag == "description" else tag, {"id": f"chart-{name}-{tag}"})
        element.text = text
        root.insert(0, element)


def _make_file(root: Element, legend: Sequence[Series]) -> None:
    """Adds a background, a heading and a legend."""
    width, height = (72 * inches for inches in SIZE)
    top, line = 22.0, 14.0
    total = top + height + line * len(legend) + 8
    text = {"font-size": f"{TEXT_POINTS}px", "font-family": _FONTS, "fill": SENTINELS["ink"]}
    root.attrib |= {
        "viewBox": f"0 {-top:g} {width:g} {total:g}",
        "width": f"{width:g}pt",
        "height": f"{total:g}pt",
    }
    background = {"x": "0", "y": f"{-top:g}", "width": f"{width:g}", "height": f"{total:g}"}
    root.insert(2, Element("rect", {**background, "fill": SENTINELS["surface"]}))
    heading = SubElement(root, "text", {**text, "x": "4", "y": "-8", "font-weight": "600"})
    heading.text = root[0].text
    for index, one in enumerate(legend):
        y = height + line * (index + 0.5)
        dashes = " ".join(f"{length:g}" for length in one.dashes) or "none"
        stroke = {"stroke": SENTINELS[one.colour], "stroke-width": "2", "stroke-dasharray": dashes}
        SubElement(root, "path", {"d": f"M6 {y:g}H32", **stroke})
        SubElement(
            root, "text", {**text, "x": "38", "y": f"{y + 3.3:g}"}
        ).text = f"{one.letter}  {words.short(one.name, 40)}"
