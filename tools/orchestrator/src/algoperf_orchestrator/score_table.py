"""A leaderboard in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from algoperf_scoring import anomalies
from algoperf_scoring.board import Cell, Reason
from algoperf_scoring.document import Analysis
from algoperf_scoring.robustness import geometric_mean, speedups
from algoperf_scoring.times import Missing, Selection

# What a cell says that counts as infinite, and what it means.
_SHORT = {
    Reason.NOT_REACHED: ("missed", "target not reached"),
    Reason.SLOWER: (">4x", "more than 4 times the fastest"),
    Reason.HELD_OUT_MISSED: ("held-out", "held-out variant missed"),
    Reason.BASE_MISSED: ("base", "base workload missed"),
    Reason.OVER_BUDGET: ("late", "reached after the budget"),
    Reason.CRASHED: ("crashed", "no trial got past its first evaluation without failing"),
    Reason.NO_DATA: ("no data", "no trials"),
    Reason.INCOMPLETE: ("lacking", "too few studies"),
}
# Where nobody's terminal sets the width: enough for nine workloads.
_MIN_WIDTH = 130
# A word of a workload's name, and what separates columns.
_COLUMN_WIDTH = 12


def show(analysis: Analysis) -> None:
    """Prints the leaderboard, the ratios behind it, and what is wrong with the logs."""
    console = Console(highlight=False, markup=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = max(console.width, _MIN_WIDTH)
    console.print(_title(analysis), style="bold")
    console.print(_leaderboard(analysis))
    console.print()
    for table in _ratios(analysis, console.width):
        console.print(table)
    for line in _notes(analysis):
        console.print(line)


def _title(analysis: Analysis) -> str:
    logs = analysis.board.logs
    return (
        f"Rules {logs.rules.name}, {logs.ruleset} tuning, {len(logs.rules.base)} workloads, {len(logs.trials)} trials"
    )


def _leaderboard(analysis: Analysis) -> Table:
    board, drawn = analysis.board, analysis.bootstrap
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rank", justify="right")
    table.add_column("submission", overflow="fold")
    for name in ("score", "95 % interval", "ranks", "first", "on grid"):
        table.add_column(name, justify="right", no_wrap=True)
    speedup = _speedups(analysis)
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
            str(1 + (board.score > board.score[row]).sum()),
            board.times.submissions[row],
            f"{board.score[row]:.4f}",
            *(chances if len(board.times.studies) > 1 else [""] * len(chances)),
            f"{board.grid_score[row]:.4f}",
            *([f"{speedup[row]:.3f}"] if analysis.baseline is not None else []),
        )
    return table


def _speedups(analysis: Analysis) -> list[float]:
    board = analysis.board
    if analysis.baseline is None:
        return []
    baseline = board.times.submissions.index(analysis.baseline)
    values = speedups(board.time_s, baseline, board.logs.rules, board.logs.ruleset)
    means: list[float] = geometric_mean(values).tolist()
    return means


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
        yield table


def _cell(cell: Cell) -> str:
    text = f"{cell.ratio:.2f}" if cell.reason is None else _SHORT[cell.reason][0]
    return text if cell.is_complete or cell.reason is Reason.NO_DATA else f"{text}*"


def _notes(analysis: Analysis) -> list[str]:
    board = analysis.board
    base = board.logs.rules.base
    cells = [cell for (_, workload), cell in board.cells.items() if workload in base]
    reasons = {cell.reason for cell in cells}
    lines = [f"{short}: {meaning}" for reason, (short, meaning) in _SHORT.items() if reason in reasons]
    if any(not cell.is_complete and cell.reason is not Reason.NO_DATA for cell in cells):
        lines.append("*: studies or trials are missing")
    notes = ["", "; ".join(lines) + "."] if lines else []
    if board.selection is Selection.REFERENCE:
        notes.append("As the public scoring: trials are chosen by evaluation index, and no budget is enforced.")
    if len(board.times.studies) == 1:
        notes.append("A single study says nothing about chance; run more studies for intervals.")
    notes += _missing_notes(analysis)
    if analysis.baseline is not None:
        notes.append(
            f"speed-up: times faster than {analysis.baseline}; geometric mean; a missed target counts its budget."
        )
    found = anomalies.count(analysis.anomalies)
    if found:
        notes += ["", "About the logs:", *(f"{number:6d} × {kind.value}" for kind, number in found.items())]
    return notes


def _missing_notes(analysis: Analysis) -> list[str]:
    board = analysis.board
    if board.missing is Missing.NEVER_REACHED:
        return ["Studies that are missing count as never reached."]
    changed = [
        f"{name} {score:.4f} → {analysis.if_never_reached[name]:.4f}"
        for name, score in zip(board.times.submissions, board.score.tolist(), strict=True)
        if analysis.if_never_reached[name] != score
    ]
    return [f"With --missing never-reached: {', '.join(changed)}."] if changed else []
