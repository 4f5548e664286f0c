"""What the score does not count: time lost to evaluation and logging, and steps whose time differs between studies."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from algoperf_scoring.logs import Logs, Trial


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """Seconds that all trials of a workload in a framework spent, up to their last evaluation.

    Attributes:
        num_trials: how many trials that is.
        submission_s: training; what counts.
        evaluation_s: evaluation; NaN if a log does not say.
        logging_s: logging and checkpoints; likewise.
    """

    num_trials: int
    submission_s: float
    evaluation_s: float
    logging_s: float


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds per step of a submission on a workload.

    Attributes:
        studies_s: by study number, the median over the intervals between evaluations of all its trials.
        spread: (largest - smallest) / smallest over studies; 0 for a single one.
    """

    studies_s: dict[int, float]
    spread: float


def overheads(logs: Logs) -> dict[tuple[str, str], Overhead]:
    """By workload and framework, what all submissions together spent."""
    last: dict[tuple[str, str], list[int]] = defaultdict(list)
    for trial in logs.trials:
        if trial.num_evaluations:
            last[trial.folder.workload, trial.folder.framework].append(trial.rows.stop - 1)
    rows = logs.evaluations
    return {
        key: Overhead(
            num_trials=len(indices),
            submission_s=float(rows.time_s[indices].sum()),
            evaluation_s=float(rows.eval_s[indices].sum()),
            logging_s=float(rows.logging_s[indices].sum()),
        )
        for key, indices in sorted(last.items())
    }


def step_times(logs: Logs) -> dict[tuple[str, str], StepTime]:
    """By submission and workload."""
    found: dict[tuple[str, str], dict[int, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for trial in logs.trials:
        seconds = _seconds_per_step(logs, trial)
        if len(seconds):
            key = (trial.folder.submission, trial.folder.workload)
            found[key][trial.folder.study].append(seconds)
    result = {}
    for key, studies in found.items():
        medians = {study: float(np.median(np.concatenate(parts))) for study, parts in studies.items()}
        least = min(medians.values())
        result[key] = StepTime(studies_s=medians, spread=(max(medians.values()) - least) / least)
    return result


def _seconds_per_step(logs: Logs, trial: Trial) -> np.ndarray:
    """Of each interval between evaluations in which both the steps and the time went forward."""
    step, time_s = logs.evaluations.step[trial.rows], logs.evaluations.time_s[trial.rows]
    told = np.isfinite(step)
    forward = told[1:] & told[:-1] & (step[1:] > step[:-1]) & (time_s[1:] > time_s[:-1])
    before = np.flatnonzero(forward)
    return (time_s[before + 1] - time_s[before]) / (step[before + 1] - step[before])
