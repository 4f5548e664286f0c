"""Colours of the page and its charts, for light and for dark backgrounds.

Contrast is at least 4.5 to 1 for text and 3 to 1 for lines (WCAG 2.2, AA); neighbouring series stay apart for people
who see no red or no green.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SERIES = {
    "light": "#056eea #ad491a #03848c #5b019e #ba8705 #8d214c #1c1559 #381818 #4c9f7b #4a8dd5 #485889 #1f4502",
    "dark": "#4d82ac #f66f09 #7aca99 #ab8bff #dff33a #ecb3ff #7455f8 #c84620 #aaeb9e #e3e6f5 #8da6c1 #449a7b",
}
# From the fastest to `max_ratio` times that.
_HEAT = {
    "light": "#83c3e9 #9acfee #b0daf2 #c5e4f5 #d7edf8 #e6f3fa #f1f8fc",
    "dark": "#20639a #1f5988 #1e4f77 #1d4566 #1c3c56 #1b3347 #1a2b3a",
}
NUM_SERIES = 12
NUM_HEAT = 7


def _numbered(name: str, colours: str) -> dict[str, str]:
    return {f"{name}-{index}": colour for index, colour in enumerate(colours.split())}


LIGHT: Mapping[str, str] = {
    "ink": "#1b1e23",
    "muted": "#565d66",
    "surface": "#ffffff",
    "panel": "#f5f6f8",
    "rule": "#d8dce1",
    "grid": "#e4e7eb",
    "mark": "#7b838d",
    "accent": "#0b57b0",
    "warn": "#7a4300",
    "warn-surface": "#fdf1dd",
    "better": "#0b6634",
    "worse": "#a4262c",
    "none": "#eeeeec",
    "train": "#4a8dd5",
    "evaluate": "#b9c0c9",
    "log": "#7a4300",
    **_numbered("heat", _HEAT["light"]),
    **_numbered("series", _SERIES["light"]),
}
DARK: Mapping[str, str] = {
    "ink": "#e6e9ed",
    "muted": "#a4acb6",
    "surface": "#14171b",
    "panel": "#1c2025",
    "rule": "#363c44",
    "grid": "#2a2f36",
    "mark": "#868f9a",
    "accent": "#82b9ff",
    "warn": "#f3c67f",
    "warn-surface": "#36290f",
    "better": "#70d49b",
    "worse": "#ff9d97",
    "none": "#24282d",
    "train": "#4d82ac",
    "evaluate": "#5a626c",
    "log": "#f3c67f",
    **_numbered("heat", _HEAT["dark"]),
    **_numbered("series", _SERIES["dark"]),
}

# What charts are drawn with: colours that nobody would choose, each of which stands for a name.
SENTINELS: Mapping[str, str] = {name: f"#fe{index:02x}fd" for index, name in enumerate(LIGHT)}
_NAMES = {colour: name for name, colour in SENTINELS.items()}
_SENTINEL = re.compile("#fe[0-9a-f]{2}fd")


def for_page(text: str) -> str:
    """With colours that follow the page's scheme."""
    return _SENTINEL.sub(lambda match: f"var(--{_NAMES[match[0]]})", text)


def for_file(text: str) -> str:
    """With light colours."""
    return _SENTINEL.sub(lambda match: LIGHT[_NAMES[match[0]]], text)


def css() -> str:
    """Colours as custom properties: light ones on screens that do not ask for dark ones, and on paper."""
    light, dark = ("".join(f"--{name}:{colour};" for name, colour in scheme.items()) for scheme in (LIGHT, DARK))
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
