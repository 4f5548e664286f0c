"""A scored leaderboard as tables, for CSV."""

from __future__ import annotations

import polars as pl

from algoperf_scoring.board import Board
from algoperf_scoring.bootstrap import Bootstrap


def tables(board: Board, drawn: Bootstrap) -> dict[str, pl.DataFrame]:
    """By the name of the table.

    "scores" has a row per submission, from the best on, "times" one per submission and workload, "trials" one per
    trial that was read. A time is empty if it was not reached.
    """
    return {"scores": _scores(board, drawn), "times": _times(board), "trials": _trials(board)}


def _scores(board: Board, drawn: Bootstrap) -> pl.DataFrame:
    order = board.ranking
    return pl.DataFrame(
        {
            "rank": [board.ranks[row] for row in order],
            "submission": [board.times.submissions[row] for row in order],
            "score": board.score[order],
            "score_grid": board.grid_score[order],
            "score_low": drawn.interval[order, 0],
            "score_high": drawn.interval[order, 1],
            "rank_low": drawn.rank_interval[order, 0],
            "rank_high": drawn.rank_interval[order, 1],
            "first": drawn.first[order],
        }
    )


def _times(board: Board) -> pl.DataFrame:
    rows = [
        {
            "submission": board.times.submissions[row],
            "workload": workload,
            "time_to_target_s": cell.time_s,
            "ratio": cell.ratio,
            "reason": cell.reason and cell.reason.value,
            "detail": cell.detail,
            "frameworks": " ".join(cell.frameworks),
            "complete": cell.is_complete,
            "trials": cell.num_trials,
            **{f"study_{study}_s": cell.studies_s.get(study) for study in board.times.studies},
        }
        for row in board.ranking
        for workload in board.times.workloads
        for cell in [board.cells[board.times.submissions[row], workload]]
    ]
    return _without_infinity(pl.DataFrame(rows, infer_schema_length=None))


def _trials(board: Board) -> pl.DataFrame:
    rows = [
        {
            "submission": submission,
            "workload": workload,
            "framework": trial.folder.framework,
            "study": study,
            "trial": trial.folder.number,
            "evaluations": trial.num_evaluations,
            "end_reason": trial.end_reason,
            "reached_at_evaluation": hit.index if hit.index >= 0 else None,
            "time_to_target_s": hit.time_s,
            "after_budget": hit.is_late,
            "counts": trial.folder.number == board.cells[submission, workload].selected.get(study),
        }
        for (submission, workload, study), trials in board.times.trials.items()
        for trial, hit in trials
    ]
    return _without_infinity(pl.DataFrame(rows, infer_schema_length=None))


def _without_infinity(table: pl.DataFrame) -> pl.DataFrame:
    floats = [name for name, dtype in table.schema.items() if dtype == pl.Float64]
    return table.with_columns(
        pl.when(pl.col(name).is_finite()).then(pl.col(name)).otherwise(None).alias(name) for name in floats
    )
