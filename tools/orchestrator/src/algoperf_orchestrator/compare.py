"""The command `compare`: two submissions side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from algoperf_orchestrator.score import ScoreRequest, analyse
from algoperf_scoring import comparison, find
from algoperf_scoring.board import Board
from algoperf_scoring.comparison import Comparison


def compare(first: Path, second: Path, request: ScoreRequest) -> tuple[Board, Comparison]:
    """Reads the logs of two submissions and compares them.

    Raises:
        ValueError: a folder holds no submission or several, or both are the same.
    """
    folders = [_only(path) for path in (first, second)]
    if folders[0] == folders[1]:
        raise ValueError(f"{first} and {second} are the same submission; name two.")
    board = analyse(replace(request, folders=folders)).board
    names = {folder: name for name, folder in board.logs.submissions.items()}
    return board, comparison.compare(board, names[folders[0]], names[folders[1]], request.seed)


def _only(path: Path) -> Path:
    found, _ = find.submission_folders([path])
    if len(found) > 1:
        example = path / next(iter(found.values())).relative_to(path.resolve())
        raise ValueError(f"{path} holds {len(found)} submissions; name one of them, such as {example}.")
    return next(iter(found.values()))


def show(board: Board, result: Comparison) -> None:
    """Prints the times, the speed-ups and what they amount to."""
    console = Console(highlight=False, markup=False)
    console.print(_table(board, result))
    for line in _sentences(board, result):
        console.print(line)


def _table(board: Board, result: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("time to target (s)")
    for name in (*result.names, "speed-up"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("faster", justify="right", no_wrap=True)
    for column, workload in enumerate(result.workloads):
        low, high = result.interval[column]
        table.add_row(
            workload,
            *(_time(board, name, workload) for name in result.names),
            f"{result.speedup[column]:.3f}",
            f"{low:.3f}–{high:.3f}" if result.num_studies > 1 else "",
            f"{result.faster[column]:.0%}" if result.num_studies > 1 else "",
        )
    return table


def _time(board: Board, submission: str, workload: str) -> str:
    cell = board.cells[submission, workload]
    if math.isfinite(cell.time_s):
        return f"{cell.time_s:,.1f}"
    return "" if cell.reason is None else cell.reason.value.replace("_", " ")


def _sentences(board: Board, result: Comparison) -> Sequence[str]:
    first, second = result.names
    low, high = result.mean_interval
    sure = f" (95 % interval {low:.3f} to {high:.3f})" if result.num_studies > 1 else ""
    lines = [
        "",
        f"{first} is {result.mean:.3f} times as fast as {second}{sure}: faster on {result.num_faster}, slower on "
        f"{result.num_slower} of {len(result.workloads)} workloads.",
        "Above 1, the first is faster; means are geometric; a target that was missed counts its budget.",
    ]
    if result.num_studies == 1:
        lines.append("A single study says nothing about chance; run more studies for intervals.")
    clocks = {trial.folder.framework for trial in board.logs.trials}
    if len(clocks) > 1:
        lines.append("The two were run in different frameworks, whose speed is part of the difference.")
    return lines
