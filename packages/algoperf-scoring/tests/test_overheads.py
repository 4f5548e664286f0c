"""Time that the score does not count, and time per step."""

import math
from pathlib import Path

import numpy as np
import pytest

from algoperf_scoring import overheads
from algoperf_scoring.evaluations import Evaluations
from algoperf_scoring.find import TrialFolder
from algoperf_scoring.logs import Logs, Trial
from algoperf_scoring.overheads import Overhead
from algoperf_scoring.rules import published

NAN = math.nan


def logs_of(*trials):
    """Logs of trials (submission, workload, framework, study, rows of step, time, evaluation, logging)."""
    made, rows = [], []
    for number, (submission, workload, framework, study, evaluations) in enumerate(trials, 1):
        folder = TrialFolder(
            submission=submission, workload=workload, study=study, number=number, framework=framework, path=Path("x")
        )
        made.append(Trial(folder=folder, rows=slice(len(rows), len(rows) + len(evaluations))))
        rows += evaluations
    step, time_s, eval_s, logging_s = np.array(rows, dtype=float).reshape(-1, 4).T
    return Logs(
        rules=published("v0.6"),
        ruleset="external",
        submissions={name: Path(name) for name in sorted({trial[0] for trial in trials})},
        trials=made,
        evaluations=Evaluations(
            step=step, time_s=time_s, eval_s=eval_s, logging_s=logging_s, metric=np.full(len(rows), NAN)
        ),
        anomalies=[],
        sha256="",
    )


def test_overheads_are_those_at_the_last_evaluation_of_all_trials():
    found = overheads.overheads(
        logs_of(
            ("x", "wmt", "jax", 0, [(1, 1, 5, 0.5), (10, 100, 20, 2)]),
            ("y", "wmt", "jax", 1, [(1, 2, 6, 0.25)]),
            ("y", "wmt", "jax", 1, []),
            ("y", "wmt", "pytorch", 0, [(1, 30, 7, 1)]),
            ("x", "ogbg", "jax", 0, [(1, 3, NAN, 4)]),
            ("y", "ogbg", "jax", 0, [(1, 4, 1, 4)]),
            ("y", "fastmri", "jax", 0, []),
        )
    )
    assert list(found) == [("ogbg", "jax"), ("wmt", "jax"), ("wmt", "pytorch")]
    assert found["wmt", "jax"] == Overhead(num_trials=2, submission_s=102, evaluation_s=26, logging_s=2.25)
    assert found["wmt", "pytorch"] == Overhead(num_trials=1, submission_s=30, evaluation_s=7, logging_s=1)
    ogbg = found["ogbg", "jax"]
    assert (ogbg.num_trials, ogbg.submission_s, ogbg.logging_s) == (2, 7, 8)
    assert math.isnan(ogbg.evaluation_s)


def test_step_times():
    found = overheads.step_times(
        logs_of(
            # Seconds per step: 2 and 4; the time before the first evaluation holds compilation.
            ("x", "wmt", "jax", 0, [(1, 50, 0, 0), (11, 70, 0, 0), (21, 110, 0, 0)]),
            # Another trial of the same study: 3.
            ("x", "wmt", "jax", 0, [(1, 1, 0, 0), (2, 4, 0, 0)]),
            # Another study: 4.5.
            ("x", "wmt", "jax", 1, [(0, 0, 0, 0), (2, 9, 0, 0)]),
            ("x", "ogbg", "jax", 3, [(0, 0, 0, 0), (4, 1, 0, 0)]),
            # Nothing went forward, or there is no interval.
            ("y", "wmt", "jax", 0, [(5, 5, 0, 0)]),
            ("y", "ogbg", "jax", 0, []),
            ("y", "ogbg", "jax", 0, [(5, 5, 0, 0), (5, 9, 0, 0), (4, 10, 0, 0), (6, 10, 0, 0), (7, 8, 0, 0)]),
        )
    )
    assert set(found) == {("x", "wmt"), ("x", "ogbg")}
    assert found["x", "wmt"].studies_s == {0: 3, 1: 4.5}
    assert found["x", "wmt"].spread == pytest.approx(0.5)
    assert (found["x", "ogbg"].studies_s, found["x", "ogbg"].spread) == ({3: 0.25}, 0)


def test_intervals_that_go_back_are_left_out():
    rows = [(0, 0, 0, 0), (10, 10, 0, 0), (5, 11, 0, 0), (15, 31, 0, 0), (NAN, 40, 0, 0), (20, 45, 0, 0)]
    found = overheads.step_times(logs_of(("x", "wmt", "jax", 0, rows)))
    assert found["x", "wmt"].studies_s == {0: 1.5}


def test_intervals_do_not_reach_across_trials():
    found = overheads.step_times(
        logs_of(("x", "wmt", "jax", 0, [(1, 1, 0, 0)]), ("x", "wmt", "jax", 0, [(100, 500, 0, 0)]))
    )
    assert found == {}


def test_steps_that_are_no_numbers():
    rows = [(1, 1, 0, 0), (math.inf, 2, 0, 0), (math.inf, 3, 0, 0)]
    assert overheads.step_times(logs_of(("x", "wmt", "jax", 0, rows))) == {}


def test_no_trials():
    assert overheads.overheads(logs_of()) == {}
    assert overheads.step_times(logs_of()) == {}
