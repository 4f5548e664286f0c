"""A leaderboard in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from algoperf_scoring import anomalies
from algoperf_scoring.board import Cell, Reason
from algoperf_scoring.document import Analysis
from algoperf_scoring.health import Flag
from algoperf_scoring.profiles import fastest
from algoperf_scoring.robustness import geometric_mean
from algoperf_scoring.times import Missing, Selection

# What a cell says that counts as infinite, and what it means.
_SHORT = {
    Reason.NOT_REACHED: ("missed", "target not reached"),
    Reason.SLOWER: (">4x", "more than 4 times the fastest"),
    Reason.HELD_OUT_MISSED: ("held-out", "held-out variant missed"),
    Reason.BASE_MISSED: ("base", "base workload missed"),
    Reason.OVER_BUDGET: ("late", "reached after the budget"),
    Reason.CRASHED: ("crashed", "in the studies that missed it, every trial failed"),
    Reason.UNFINISHED: ("running", "trials have not ended"),
    Reason.NO_DATA: ("no data", "no trials"),
    Reason.INCOMPLETE: ("lacking", "too few studies"),
}
# Where nobody's terminal sets the width: enough for nine workloads.
_MIN_WIDTH = 130
# From so many seconds on, tenths say nothing.
_LONG_S = 100
# With fewer, resampling sees too little of what could have been.
_MANY_STUDIES = 5
# A word of a workload's name, and what separates columns.
_COLUMN_WIDTH = 12


def show(analysis: Analysis) -> None:
    """Prints the leaderboard, the ratios behind it, and what is wrong with the logs."""
    console = Console(highlight=False, markup=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = max(console.width, _MIN_WIDTH)
    console.print(_title(analysis), style="bold")
    console.print(_leaderboard(analysis))
    console.print(analysis.standing.sentence)
    for flag in analysis.health:
        console.print(_health_line(flag))
    console.print()
    for table in _ratios(analysis, console.width):
        console.print(table)
    for line in _notes(analysis):
        console.print(line)


def _title(analysis: Analysis) -> str:
    logs = analysis.board.logs
    counts = {"workload": len(logs.rules.base), "trial": len(logs.trials)}
    told = ", ".join(f"{number} {what}{'s' * (number != 1)}" for what, number in counts.items())
    return f"Rules {logs.rules.name}, {logs.ruleset} tuning, {told}"


def _leaderboard(analysis: Analysis) -> Table:
    board, drawn = analysis.board, analysis.bootstrap
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rank", justify="right")
    table.add_column("submission", overflow="fold", min_width=10)
    table.add_column("framework")
    for name in ("score", "95 % interval", "ranks", "first", "on grid"):
        table.add_column(name, justify="right", no_wrap=True)
    if analysis.baseline is not None:
        table.add_column("speed-up", justify="right", no_wrap=True)
    for row in board.ranking:
        low, high = drawn.interval[row]
        first, last = drawn.rank_interval[row]
        chances = [
            f"{low:.3f}–{high:.3f}",
            f"{first}–{last}" if first < last else f"{first}",
            f"{drawn.first[row]:.0%}",
        ]
        table.add_row(
            str(board.ranks[row]),
            board.times.submissions[row],
            _frameworks(analysis, board.times.submissions[row]),
            f"{board.score[row]:.4f}",
            *(chances if board.most_studies > 1 else [""] * len(chances)),
            f"{board.grid_score[row]:.4f}",
            *([f"{geometric_mean(analysis.speedups[row]):.3f}"] if analysis.baseline is not None else []),
        )
    return table


def _health_line(flag: Flag) -> str:
    """Where steps took another time than elsewhere."""
    return (
        f"Step times: {flag.submission}, {flag.workload}, {flag.framework}, {flag.group.value} {flag.name}: "
        f"{flag.step_s:.3g} s per step, {flag.ratio:.2f} times the others; {flag.advice}."
    )


def _frameworks(analysis: Analysis, submission: str) -> str:
    cells = analysis.board.cells
    found = {name for (other, _), cell in cells.items() if other == submission for name in cell.frameworks}
    return " ".join(sorted(found))


def _ratios(analysis: Analysis, width: int) -> Iterator[Table]:
    """As many tables as it takes to show all workloads in the width."""
    board = analysis.board
    base = board.logs.rules.base
    name_width = min(max(len(name) for name in board.times.submissions), width // 3)
    at_a_time = max(1, (width - name_width) // _COLUMN_WIDTH)
    for start in range(0, len(base), at_a_time):
        workloads = base[start : start + at_a_time]
        table = Table(box=None, pad_edge=False, header_style="bold", title="Times the fastest" if start == 0 else None)
        table.title_justify = "left"
        table.add_column("submission", overflow="fold", vertical="bottom", min_width=name_width)
        for workload in workloads:
            table.add_column(workload.replace("_", "\n"), justify="right", vertical="bottom")
        for row in board.ranking:
            name = board.times.submissions[row]
            table.add_row(name, *(_cell(board.cells[name, workload]) for workload in workloads))
        best = fastest(board.time_s)[0]
        seconds = [best[board.times.workloads.index(workload)] for workload in workloads]
        table.add_row("fastest (s)", *(_seconds(one) for one in seconds), style="dim")
        yield table


def _seconds(time_s: float) -> str:
    if not math.isfinite(time_s):
        return ""
    return f"{time_s:,.0f}" if time_s >= _LONG_S else f"{time_s:.1f}"


def _cell(cell: Cell) -> str:
    text = f"{cell.ratio:.2f}" if cell.reason is None else _SHORT[cell.reason][0]
    return text if cell.is_complete or cell.reason is Reason.NO_DATA else f"{text}*"


def _notes(analysis: Analysis) -> Iterator[str]:
    """What the tables do not say by themselves."""
    board = analysis.board
    cells = [cell for (_, workload), cell in board.cells.items() if workload in board.logs.rules.base]
    reasons = {cell.reason for cell in cells}
    words = [f"{short}: {meaning}" for reason, (short, meaning) in _SHORT.items() if reason in reasons]
    if any(not cell.is_complete and cell.reason is not Reason.NO_DATA for cell in cells):
        words.append("*: studies or trials are missing")
    if words:
        yield ""
        yield "; ".join(words) + "."
    yield ""
    yield from _chance_notes(analysis)
    if board.selection is Selection.REFERENCE:
        yield "As the public scoring: trials are chosen by evaluation index, and no budget is enforced."
    yield from _missing_notes(analysis)
    if analysis.baseline is not None:
        yield f"speed-up: times faster than {analysis.baseline}; geometric mean; a missed target counts its budget."
    found = anomalies.count(analysis.anomalies)
    if found:
        yield ""
        yield "About the logs (--json and --html list each with its path):"
        yield from (f"{number:6d} × {kind.value}" for kind, number in found.items())


def _chance_notes(analysis: Analysis) -> Iterator[str]:
    num_studies = analysis.board.most_studies
    if len(analysis.board.times.submissions) == 1:
        yield "A score is relative to the field; of a single submission, it is the share of targets that it reached."
    if num_studies == 1:
        yield "A single study says nothing about chance; run more studies for intervals."
    elif num_studies > 1:
        few = (
            f"; {num_studies} studies are few, and intervals from them too narrow"
            if num_studies < _MANY_STUDIES
            else ""
        )
        yield f"Intervals, ranks, first (in how many boards): if studies were drawn again{few}."


def _missing_notes(analysis: Analysis) -> Iterator[str]:
    board = analysis.board
    if board.missing is Missing.NEVER_REACHED:
        yield "Studies that are missing count as never reached."
        return
    changed = [
        f"{name} {score:.4f} → {analysis.if_never_reached[name]:.4f}"
        for name, score in zip(board.times.submissions, board.score.tolist(), strict=True)
        if analysis.if_never_reached[name] != score
    ]
    if changed:
        yield f"With --missing never-reached: {', '.join(changed)}."
