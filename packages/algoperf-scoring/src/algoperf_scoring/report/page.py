"""Assembles the page."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from algoperf_scoring.document import Analysis
from algoperf_scoring.report import charts, colours, curves, tables, words
from algoperf_scoring.report.series import series
from algoperf_scoring.report.svg import Chart

_PACKAGE = "algoperf_scoring.report"


def render(analysis: Analysis, data: dict[str, Any]) -> tuple[str, list[Chart]]:
    """The page, and its charts. The same logs give the same bytes."""
    rules = analysis.board.logs.rules
    keys = series(data["submissions"])
    drawn = [charts.profiles(data, keys, rules.max_ratio), charts.targets(data, keys)]
    trained = {name: curves.curves(analysis.board, name, keys) for name in data["workloads"]}
    script = _text("script.js")
    html = (
        _environment(data)
        .get_template("page.html.j2")
        .render(
            data=data,
            rules=rules,
            studies=rules.rulesets[analysis.board.logs.ruleset],
            series=keys,
            charts={chart.name: Markup(chart.inline) for chart in drawn},
            curves={name: (one, Markup(one.chart.inline)) for name, one in trained.items()},
            colours=Markup(colours.css()),
            style=Markup(_text("style.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    return words.printable(html), [*drawn, *(one.chart for one in trained.values())]


def _text(name: str) -> str:
    return files(_PACKAGE).joinpath("templates", name).read_text(encoding="utf-8")


def _environment(data: dict[str, Any]) -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (
        words.breakable,
        words.duration,
        words.metric,
        words.percent,
        words.plural,
        words.ratio,
        words.score,
        words.short,
    )
    environment.filters |= {function.__name__: function for function in filters}
    environment.globals |= {"at": lambda *keys: _hook(data, keys), "tables": tables, "words": words}
    return environment


def _hook(data: Any, keys: tuple[str | int, ...]) -> Markup:
    """Attributes that say which number of the document an element shows (a JSON pointer, RFC 6901), and the number."""
    value = data
    for key in keys:
        value = value[key]
    pointer = "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)
    text = "" if value is None else json.dumps(value)
    return Markup(f'data-at="{escape(pointer)}" data-value="{escape(text)}"')
