"""A scored leaderboard as plain data, for JSON: everything that is known about it. The format is in docs/scores.md."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from algoperf_scoring import (
    anomalies,
    bootstrap,
    find,
    health,
    overheads,
    profiles,
    provenance,
    robustness,
    submission_info,
)
from algoperf_scoring import board as boards
from algoperf_scoring.board import Board, Cell
from algoperf_scoring.bootstrap import Bootstrap
from algoperf_scoring.provenance import Provenance, Standing
from algoperf_scoring.robustness import Scorer
from algoperf_scoring.times import Missing

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """A leaderboard and what can be asked about it; each answer is computed when it is asked for.

    Attributes:
        board: the leaderboard.
        baseline: the submission to give speed-ups against, if one is named.
        seed: of the bootstrap.
    """

    board: Board
    baseline: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        names = self.board.times.submissions
        if self.baseline is not None and self.baseline not in names:
            raise ValueError(
                f"There is no submission {self.baseline!r} to compare with; choose from {', '.join(names)}."
            )

    @cached_property
    def scorer(self) -> Scorer:
        """Scores other study times as this board's."""
        logs = self.board.logs
        return Scorer(rules=logs.rules, ruleset=logs.ruleset, missing=self.board.missing)

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """How sure the scores are."""
        rules = self.scorer.rules
        studies = rules.rulesets[self.scorer.ruleset].studies
        return bootstrap.bootstrap(self.board.times.time_s, rules, self.board.missing, studies, seed=self.seed)

    @cached_property
    def speedups(self) -> np.ndarray:
        """Against the baseline, which has to be named, float64 (S, B); see `robustness.speedups`."""
        assert self.baseline is not None
        logs, row = self.board.logs, self.board.times.submissions.index(self.baseline)
        return robustness.speedups(self.board.time_s, row, logs.rules, logs.ruleset)

    @cached_property
    def provenance(self) -> Provenance:
        """Where the logs come from."""
        return provenance.read(self.board.logs)

    @cached_property
    def standing(self) -> Standing:
        """What the times are good for together."""
        return provenance.standing(self.provenance.origins)

    @cached_property
    def health(self) -> list[health.Flag]:
        """Studies and hosts on which steps took another time than elsewhere."""
        return health.check(self.board.logs, self.provenance.origins)

    @cached_property
    def anomalies(self) -> list[anomalies.Anomaly]:
        """All that is wrong with the logs, sorted."""
        return sorted([*self.board.logs.anomalies, *self.provenance.anomalies])

    @cached_property
    def if_never_reached(self) -> dict[str, float]:
        """Scores if absent studies counted as never reached, whatever this board counts them."""
        other = boards.score(self.board.logs, self.board.selection, Missing.NEVER_REACHED)
        return dict(zip(other.times.submissions, other.score.tolist(), strict=True))


def as_data(analysis: Analysis) -> dict[str, Any]:
    """Everything, as dictionaries, lists, strings, numbers, booleans and None; no number is infinite or NaN."""
    board, logs = analysis.board, analysis.board.logs
    return {
        "format": FORMAT,
        "version": version("algoperf-scoring"),
        "rules": logs.rules.name,
        "ruleset": logs.ruleset,
        "hardware": logs.rules.hardware,
        "selection": board.selection.value,
        "missing": board.missing.value,
        "logs_sha256": logs.sha256,
        "submissions": {board.times.submissions[row]: _submission(analysis, row) for row in board.ranking},
        "workloads": {name: _workload(board, name) for name in board.times.workloads},
        "profiles": _profiles(board),
        "bootstrap": _bootstrap(analysis),
        "robustness": _robustness(analysis),
        "speedup": _speedup(analysis),
        "time": _time(board),
        "health": health.as_data(analysis.health, analysis.provenance.hosts),
        "results_status": _results_status(analysis),
        "machines": analysis.provenance.machines,
        "anomalies": _anomalies(analysis),
    }


def _submission(analysis: Analysis, row: int) -> dict[str, Any]:
    board = analysis.board
    name = board.times.submissions[row]
    info = submission_info.read(board.logs.submissions[name])
    drawn = analysis.bootstrap
    return {
        "rank": board.ranks[row],
        "score": float(board.score[row]),
        "score_grid": float(board.grid_score[row]),
        "score_if_missing_never_reached": analysis.if_never_reached[name],
        "interval": drawn.interval[row].tolist(),
        "rank_interval": drawn.rank_interval[row].tolist(),
        "first": float(drawn.first[row]),
        "complete": all(board.cells[name, workload].is_complete for workload in board.times.workloads),
        "info": info.facts,
        "info_problem": info.problem,
        "workloads": {workload: _cell(board.cells[name, workload]) for workload in board.times.workloads},
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "time_to_target_s": _finite(cell.time_s),
        "ratio": _finite(cell.ratio),
        "reason": cell.reason,
        "detail": cell.detail,
        "complete": cell.is_complete,
        "studies_s": {str(study): _finite(time_s) for study, time_s in cell.studies_s.items()},
        "selected_trials": {str(study): number for study, number in cell.selected.items()},
        "frameworks": list(cell.frameworks),
        "trials": cell.num_trials,
    }


def _workload(board: Board, name: str) -> dict[str, Any]:
    logs = board.logs
    facts = logs.rules.workloads[name]
    bases = {variant: base for base, variant in logs.rules.held_out.items()}
    times = board.time_s[:, board.times.workloads.index(name)]
    return {
        "base": bases.get(name),
        "metric": facts.metric,
        "goal": facts.goal,
        "target": facts.target,
        "budget_s": logs.rules.budget_s(name, logs.ruleset),
        "fastest_s": _finite(float(profiles.fastest(times[:, None])[0, 0])),
    }


def _profiles(board: Board) -> dict[str, Any]:
    tau = profiles.grid(board.logs.rules)
    shares = profiles.profile(board.ratios, tau)
    return {"tau": tau.tolist(), "share": {name: row.tolist() for name, row in _by_name(board, shares).items()}}


def _bootstrap(analysis: Analysis) -> dict[str, Any]:
    board = analysis.board
    return {
        "studies": board.most_studies,
        "resamples": bootstrap.RESAMPLES,
        "level": bootstrap.LEVEL,
        "seed": analysis.seed,
        "beats": {name: _by_name(board, row) for name, row in _by_name(board, analysis.bootstrap.beats).items()},
    }


def _robustness(analysis: Analysis) -> dict[str, Any]:
    board, scorer = analysis.board, analysis.scorer
    wins = robustness.wins(board.time_s, scorer.rules)
    shifts = robustness.target_shifts(board.logs, board.selection, scorer)
    without_study = robustness.without_each_study(board.times, scorer)
    return {
        "wins": {name: _by_name(board, row) for name, row in _by_name(board, wins).items()},
        "without_submission": robustness.without_each_submission(board.times, scorer),
        "without_workload": robustness.without_each_workload(board.times, scorer),
        "without_study": {str(study): scores for study, scores in without_study.items()},
        "targets": [
            {
                "easier": shift.easier,
                "score": _by_name(board, shift.score),
                "kendall_tau": shift.kendall_tau,
                "censored": shift.is_censored,
            }
            for shift in shifts
        ],
    }


def _speedup(analysis: Analysis) -> dict[str, Any] | None:
    if analysis.baseline is None:
        return None
    means = robustness.geometric_mean(analysis.speedups)
    return {
        "baseline": analysis.baseline,
        "submissions": {
            name: {
                "geometric_mean": float(mean),
                "workloads": {
                    workload: _finite(value) for workload, value in zip(analysis.scorer.rules.base, row, strict=True)
                },
            }
            for name, mean, row in zip(analysis.board.times.submissions, means, analysis.speedups.tolist(), strict=True)
        },
    }


def _time(board: Board) -> dict[str, Any]:
    spent: dict[str, dict[str, Any]] = {}
    for (workload, framework), lost in overheads.overheads(board.logs).items():
        spent.setdefault(workload, {})[framework] = {
            "trials": lost.num_trials,
            "submission_s": lost.submission_s,
            "evaluation_s": _finite(lost.evaluation_s),
            "logging_s": _finite(lost.logging_s),
        }
    steps: dict[str, dict[str, Any]] = {}
    for (submission, workload), one in overheads.step_times(board.logs).items():
        studies = {str(study): seconds for study, seconds in one.studies_s.items()}
        steps.setdefault(submission, {})[workload] = {"studies_s": studies, "spread": one.spread}
    return {"accounts": spent, "steps": steps}


def _results_status(analysis: Analysis) -> dict[str, Any]:
    board, origins = analysis.board, analysis.provenance.origins
    names = [board.times.submissions[row] for row in board.ranking]
    parts = {name: [origin for origin in origins if origin.submission == name] for name in names}
    return {
        **analysis.standing.as_data(),
        "meaning": analysis.standing.sentence,
        "submissions": {name: provenance.standing(part).as_data() for name, part in parts.items()},
    }


def _anomalies(analysis: Analysis) -> dict[str, Any]:
    counts = anomalies.count(analysis.anomalies)
    folders = analysis.board.logs.submissions
    return {
        "counts": {kind.name.lower(): number for kind, number in counts.items()},
        "meaning": {kind.name.lower(): kind.value for kind in counts},
        "found": [
            {"kind": one.kind.name.lower(), "path": _path(one.path, folders), "detail": find.printable(one.detail)}
            for one in analysis.anomalies
        ],
    }


def _path(path: Path, folders: Mapping[str, Path]) -> str:
    """From the submission on: what is above is somebody's machine."""
    for name, folder in folders.items():
        if path.is_relative_to(folder):
            return find.printable("/".join([name, *path.relative_to(folder).parts]))
    return find.printable(path.name)


def _by_name(board: Board, values: np.ndarray) -> dict[str, Any]:
    return dict(zip(board.times.submissions, values.tolist() if values.ndim == 1 else list(values), strict=True))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
