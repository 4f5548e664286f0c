"""A leaderboard as a page: one file that needs nothing but itself, and its charts as files of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from algoperf_scoring.document import Analysis


def write(analysis: Analysis, data: dict[str, Any], folder: Path) -> Path:
    """Writes `index.html` and `charts/<name>.svg` into `folder`, which is made if need be; returns the page's path.

    Args:
        analysis: the leaderboard; its logs give the training curves.
        data: the same as `document.as_data` has it; every number on the page is one of these.
        folder: where to write.

    Raises:
        ImportError: the libraries for charts and pages are not installed.
        OSError: the files cannot be written. A file that is there under its name is whole.
    """
    try:
        from algoperf_scoring.report.page import render
    except ImportError as error:
        raise ImportError(f"{error}. A report needs it: pip install 'algoperf-scoring[report]'.") from error
    html, charts = render(analysis, data)
    (folder / "charts").mkdir(parents=True, exist_ok=True)
    for chart in charts:
        _replace(folder / "charts" / f"{chart.name}.svg", chart.alone)
    # Last, so that a page never shows other charts than those beside it.
    _replace(folder / "index.html", html)
    return folder / "index.html"


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
