"""The command `compare`: two submissions side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from algoperf_orchestrator.score import ScoreRequest, analyse, folders_of
from algoperf_scoring import comparison, find
from algoperf_scoring.board import Board
from algoperf_scoring.comparison import Comparison


def compare(first: Path, second: Path, request: ScoreRequest) -> tuple[Board, Comparison]:
    """Reads the logs of two submissions, folders or archives, and compares them.

    Raises:
        ValueError: a folder holds no submission or several, or both are the same.
    """
    with folders_of((first, second)) as opened:
        folders = [_only(path, folder) for path, folder in zip((first, second), opened, strict=True)]
        if folders[0] == folders[1]:
            raise ValueError(f"{first} and {second} are the same submission; name two.")
        board = analyse(replace(request, folders=folders)).board
    names = {folder: name for name, folder in board.logs.submissions.items()}
    return board, comparison.compare(board, names[folders[0]], names[folders[1]], request.seed)


def _only(path: Path, folder: Path) -> Path:
    """The one submission in what was named as `path` and is read from `folder`."""
    found, _ = find.submission_folders([folder])
    if len(found) > 1:
        example = path / next(iter(found.values())).relative_to(folder.resolve())
        what = "name" if folder == path else "unpack it and name"
        raise ValueError(f"{path} holds {len(found)} submissions; {what} one of them, such as {example}.")
    return next(iter(found.values()))


def as_data(result: Comparison) -> dict[str, Any]:
    """The comparison as plain data; a time that there is not is None."""
    data = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(result).items()}
    data["time_s"] = [[one if math.isfinite(one) else None for one in times] for times in data["time_s"]]
    return data


def show(board: Board, result: Comparison) -> None:
    """Prints the times, the speed-ups and what they amount to."""
    console = Console(highlight=False, markup=False)
    console.print(_table(board, result))
    for line in _sentences(board, result):
        console.print(line)


def _table(board: Board, result: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("time to target (s)", overflow="fold")
    for name in (*result.names, "speed-up"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("faster in", justify="right", no_wrap=True)
    for column, workload in enumerate(result.workloads):
        times = [_time(board, name, workload) for name in result.names]
        table.add_row(workload, *times, *_speedup(result, column))
    return table


def _time(board: Board, submission: str, workload: str) -> str:
    cell = board.cells[submission, workload]
    if math.isfinite(cell.time_s):
        return f"{cell.time_s:,.1f}"
    return "" if cell.reason is None else cell.reason.value.replace("_", " ")


def _speedup(result: Comparison, column: int) -> list[str]:
    """Where one missed its target, its budget stands for its time: the speed-up is a bound."""
    reached = np.isfinite(result.time_s[:, column])
    if not reached.any():
        return ["–", "", ""]
    bound = "" if reached.all() else "≥ " if reached[0] else "≤ "
    low, high = result.interval[column]
    chances = [f"{low:.3f}–{high:.3f}", f"{result.faster[column]:.0%}"]
    return [f"{bound}{result.speedup[column]:.3f}", *(chances if result.num_studies[column] > 1 else ["", ""])]


def _sentences(board: Board, result: Comparison) -> Iterator[str]:
    first, second = result.names
    low, high = result.mean_interval
    has_chances = (result.num_studies > 1).any()
    interval = f" (95 % interval {low:.3f} to {high:.3f})" if has_chances else ""
    yield ""
    yield (
        f"{first} is {result.mean:.3f} times as fast as {second}{interval}: faster on {result.num_faster}, slower on "
        f"{result.num_slower} of {len(result.workloads)} workload{'s' * (len(result.workloads) != 1)}."
    )
    if not has_chances:
        yield "A single study says nothing about chance; run more studies for intervals."
    elif low <= 1 <= high:
        yield f"That does not tell them apart: {first} is faster in {result.mean_faster:.0%} of resampled comparisons."
    else:
        yield f"{first} is faster in {result.mean_faster:.0%} of resampled comparisons."
    yield "Means are geometric; a missed target counts its budget (≥ and ≤), and the rules on the field do not apply."
    if result.left_out:
        yield f"Without logs of either, and left out: {', '.join(result.left_out)}."
    if mixed := _in_different_frameworks(board, result):
        where = "all" if len(mixed) == len(result.workloads) else ", ".join(mixed)
        yield f"In different frameworks, whose speed is part of the difference: {where}."


def _in_different_frameworks(board: Board, result: Comparison) -> list[str]:
    found = {name: [board.cells[one, name].frameworks for one in result.names] for name in result.workloads}
    return [name for name, (one, other) in found.items() if one and other and one != other]
