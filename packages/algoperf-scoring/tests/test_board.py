"""A scored leaderboard: what each cell holds, and why one that does not count does not."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf_scoring import board, profiles
from algoperf_scoring.board import Reason
from algoperf_scoring.evaluations import Evaluations
from algoperf_scoring.find import TrialFolder
from algoperf_scoring.logs import Logs, Trial
from algoperf_scoring.rules import Rules, RulesetRules, WorkloadRules
from algoperf_scoring.times import Missing, Selection

INF, NAN = math.inf, math.nan
RULES = Rules(
    name="test",
    hardware="none",
    base=("vision", "speech"),
    held_out={"vision": "vision_gelu"},
    workloads={
        name: WorkloadRules(metric="loss", goal="min", target=1.0, budget_s=1000)
        for name in ("vision", "vision_gelu", "speech")
    },
    rulesets={"external": RulesetRules(studies=3, trials=2, budget_factor=1.0)},
)
MISS = [(50.0, 2.0), (100.0, 2.0)]
ONE = [(1.0, 2.0)]
NONE = []


def hit(seconds):
    """A trial that reaches the target at its second evaluation."""
    return [(seconds / 2, 2.0), (seconds, 1.0)]


def all_at(seconds):
    """Three studies of two trials, the second a little slower."""
    return [[hit(seconds), hit(seconds + 1)]] * 3


def logs_of(cells, rules=RULES, reasons=None, submissions=()):
    """Logs of {(submission, workload): studies of trials of (time, loss)}; end reasons by (submission, workload)."""
    trials, rows = [], []
    for (submission, workload), studies in sorted(cells.items()):
        for study, runs in enumerate(studies):
            for number, evaluations in enumerate(runs, 1):
                path = Path(submission, f"study_{study}", f"{workload}_jax", f"trial_{number}")
                names = {"submission": submission, "workload": workload, "study": study, "number": number}
                trials.append(
                    Trial(
                        folder=TrialFolder(framework="jax", path=path, **names),
                        rows=slice(len(rows), len(rows) + len(evaluations)),
                        end_reason=(reasons or {}).get((submission, workload)),
                    )
                )
                rows += evaluations
    time_s, metric = np.array(rows, dtype=float).reshape(-1, 2).T
    nothing = np.full(len(rows), NAN)
    return Logs(
        rules=rules,
        ruleset="external",
        submissions={name: Path(name) for name in sorted({*submissions, *(name for name, _ in cells)})},
        trials=trials,
        evaluations=Evaluations(step=nothing, time_s=time_s, eval_s=nothing, logging_s=nothing, metric=metric),
        anomalies=[],
        sha256="",
    )


def reason_of(scored, submission, workload):
    cell = scored.cells[submission, workload]
    return cell.reason, cell.detail


def reached(**times):
    """Cells of submissions that reach all three workloads, in this order, at these times."""
    return {(name, workload): all_at(at) for name, row in times.items() for workload, at in zip(RULES.scored, row)}


def test_cell_that_counts():
    cells = reached(x=(10, 40, 20), y=(15, 20, 50))
    cells["x", "vision"] = [[hit(30), MISS], [MISS, hit(10)], [hit(7), hit(20)]]
    scored = board.score(logs_of(cells))
    assert scored.times.submissions == ("x", "y")
    cell = scored.cells["x", "vision"]
    assert (cell.time_s, cell.ratio, cell.reason, cell.detail) == (10, 1, None, "")
    assert (cell.studies_s, cell.num_trials, cell.is_complete) == ({0: 30, 1: 10, 2: 7}, 6, True)
    assert scored.cells["y", "vision"].ratio == 1.5
    # A held-out variant is no part of the score: it has a time and no ratio.
    variant = scored.cells["y", "vision_gelu"]
    assert (variant.time_s, variant.ratio, variant.reason) == (50, INF, None)
    assert scored.score.tolist() == pytest.approx([(1 + 2 / 3) / 2, (2.5 / 3 + 1) / 2])
    assert scored.ratios.tolist() == [[1, 2], [1.5, 1]]


def test_not_reached():
    cells = reached(x=(10, 10, 10), y=(10, 10, 10))
    cells["y", "speech"] = [[hit(10), MISS], [MISS, MISS], [MISS, ONE]]
    scored = board.score(logs_of(cells))
    reason, detail = reason_of(scored, "y", "speech")
    assert reason is Reason.NOT_REACHED
    assert (
        detail == "1 of 3 studies and 1 of 6 trials reached it, 1 failed, or ended at or before their first evaluation"
    )
    assert scored.cells["y", "speech"].studies_s == {0: 10, 1: INF, 2: INF}
    assert scored.score.tolist() == [1, 0.5]


def test_slower_than_4x():
    scored = board.score(logs_of(reached(x=(10, 20, 10), y=(10, 90, 10), z=(10, 80, 10))))
    assert reason_of(scored, "y", "speech") == (Reason.SLOWER, "4.50 times the fastest")
    assert scored.cells["y", "speech"].time_s == 90
    assert reason_of(scored, "z", "speech") == (None, "")
    assert scored.cells["z", "speech"].ratio == 4


def test_slower_variant():
    """The fastest variant is the fastest of those whose base was reached."""
    cells = reached(x=(10, 10, 10), y=(10, 10, 20), z=(10, 10, 100))
    cells["x", "vision"] = [[MISS, MISS]] * 3
    scored = board.score(logs_of(cells))
    assert reason_of(scored, "z", "vision_gelu") == (Reason.SLOWER, "5.00 times the fastest")
    assert reason_of(scored, "x", "vision_gelu") == (Reason.BASE_MISSED, "vision was not reached")


# What the reason says of each one's variant.
DETAILS = {
    "x": "no data, no trials",
    "y": "not reached, 0 of 3",
    "z": "4.17 times the fastest",
    "v": "4.17 times the fastest",
}


def test_held_out_missed():
    cells = reached(x=(10, 10, 10), y=(10, 10, 10), z=(10, 10, 50))
    cells["y", "vision_gelu"] = [[MISS, MISS]] * 3
    del cells["x", "vision_gelu"]
    cells |= reached(w=(10, 10, 12), v=(40, 10, 50))
    scored = board.score(logs_of(cells))
    # At exactly four times the fastest, v is slow enough to live, and dies of its variant.
    for name in "vxyz":
        reason, detail = reason_of(scored, name, "vision")
        assert reason is Reason.HELD_OUT_MISSED
        assert detail.startswith("vision_gelu: ")
        assert DETAILS[name] in detail
    assert [reason_of(scored, name, "vision_gelu")[0] for name in "wxyz"] == [
        None,
        Reason.NO_DATA,
        Reason.NOT_REACHED,
        Reason.SLOWER,
    ]


def test_over_budget():
    cells = reached(x=(10, 10, 10), y=(10, 10, 10))
    cells["x", "speech"] = [[hit(1200), MISS], [hit(1500), MISS], [hit(900), MISS]]
    scored = board.score(logs_of(cells))
    words = "reached after 1,200 s, when the budget of 1,000 s was spent"
    assert reason_of(scored, "x", "speech") == (Reason.OVER_BUDGET, words)
    assert scored.cells["x", "speech"].studies_s == {0: INF, 1: INF, 2: 900}
    assert board.score(logs_of(cells), Selection.REFERENCE).cells["x", "speech"].time_s == 1200
    # Without a budget the median would be infinite all the same.
    cells["x", "speech"] = [[hit(1200), MISS], [MISS, MISS], [MISS, MISS]]
    assert reason_of(board.score(logs_of(cells)), "x", "speech")[0] is Reason.NOT_REACHED
    # Nor is it all the fault of crashes.
    cells["x", "speech"] = [[hit(1200), ONE], [ONE, ONE], [ONE, ONE]]
    assert reason_of(board.score(logs_of(cells)), "x", "speech")[0] is Reason.NOT_REACHED


def test_over_budget_beside_studies_that_cannot_be_read():
    """Those are dropped, so that the budget alone is why there is no time."""
    cells = {("x", "speech"): [[hit(1200)], [NONE], [NONE]]}
    scored = board.score(logs_of(cells))
    assert scored.cells["x", "speech"].studies_s == {0: INF}
    assert reason_of(scored, "x", "speech")[0] is Reason.OVER_BUDGET


@pytest.mark.parametrize("run", [ONE, NONE])
def test_crashed(run):
    scored = board.score(logs_of({("x", "speech"): [[run, run]] * 3, ("y", "speech"): all_at(10)}))
    reason, detail = reason_of(scored, "x", "speech")
    assert reason is Reason.CRASHED
    assert (
        detail == "0 of 3 studies and 0 of 6 trials reached it, 6 failed, or ended at or before their first evaluation"
    )


def test_end_reasons_are_believed():
    """However many evaluations there are."""
    key = "x", "speech"
    reasons = {"oom": Reason.CRASHED, "error": Reason.CRASHED, "infrastructure": Reason.UNFINISHED}
    for end, expected in {**reasons, "budget": Reason.NOT_REACHED, None: Reason.NOT_REACHED}.items():
        scored = board.score(logs_of({key: [[MISS, MISS]] * 3}, reasons={key: end}))
        assert reason_of(scored, *key)[0] is expected
    scored = board.score(logs_of({key: [[ONE, ONE]] * 3}, reasons={key: "step_limit"}))
    assert reason_of(scored, *key) == (Reason.NOT_REACHED, "0 of 3 studies and 0 of 6 trials reached it")


def test_no_data():
    scored = board.score(logs_of({("x", "speech"): all_at(10)}))
    cell = scored.cells["x", "vision"]
    assert (cell.reason, cell.detail, cell.num_trials, cell.is_complete) == (Reason.NO_DATA, "no trials", 0, False)
    assert math.isnan(cell.time_s)
    assert cell.studies_s == {}


def test_incomplete():
    cells = {("x", "speech"): [[hit(10), MISS]], ("y", "speech"): all_at(20), ("x", "vision"): all_at(5)}
    dropped = board.score(logs_of(cells))
    assert dropped.cells["x", "speech"].time_s == 10
    strict = board.score(logs_of(cells), missing=Missing.NEVER_REACHED)
    words = "1 of 3 studies reached it, others are missing"
    assert reason_of(strict, "x", "speech") == (Reason.INCOMPLETE, words)
    assert strict.cells["x", "speech"].time_s == INF
    assert strict.cells["y", "speech"].ratio == 1
    # Two of three are enough for a median.
    cells["x", "speech"] *= 2
    assert board.score(logs_of(cells), missing=Missing.NEVER_REACHED).cells["x", "speech"].time_s == 10


@pytest.mark.parametrize(
    ("studies", "is_complete"),
    [
        ([[MISS, MISS]] * 3, True),
        ([[MISS, MISS, MISS]] * 4, True),
        ([[MISS, MISS]] * 2, False),
        ([[MISS, MISS], [MISS, MISS], [MISS]], False),
        ([[MISS, MISS], [MISS, MISS], [MISS, NONE]], False),
        ([[MISS, MISS], [MISS, MISS], [MISS, ONE, NONE]], True),
    ],
)
def test_is_complete(studies, is_complete):
    cell = board.score(logs_of({("x", "speech"): studies})).cells["x", "speech"]
    assert cell.is_complete is is_complete


RUNS = st.sampled_from([hit(10), hit(20), hit(41), hit(100), hit(2000), MISS, ONE, NONE])
STUDIES = st.lists(st.lists(RUNS, min_size=1, max_size=3), min_size=1, max_size=4)
CELLS = st.dictionaries(st.tuples(st.sampled_from("wxyz"), st.sampled_from(RULES.scored)), STUDIES, min_size=1)


@settings(max_examples=150, deadline=None)
@given(CELLS, st.sampled_from(Selection), st.sampled_from(Missing))
def test_a_reason_where_a_time_does_not_count_and_only_there(cells, selection, missing):
    scored = board.score(logs_of(cells), selection, missing)
    effective = profiles.effective_times(scored.time_s, RULES)
    for (name, workload), cell in scored.cells.items():
        row, column = scored.times.submissions.index(name), RULES.scored.index(workload)
        assert (cell.reason is None) == bool(np.isfinite(effective[row, column])) == (cell.detail == "")
        if workload in RULES.base:
            assert (cell.reason is None) == math.isfinite(cell.ratio)
            assert cell.ratio == scored.ratios[row, column]
        assert (cell.reason is Reason.NO_DATA) == ((name, workload) not in cells)
        made_infinite = cell.reason in (Reason.SLOWER, Reason.HELD_OUT_MISSED, Reason.BASE_MISSED)
        assert made_infinite == (math.isfinite(cell.time_s) and cell.reason is not None)
        if selection is Selection.REFERENCE:
            assert cell.reason is not Reason.OVER_BUDGET
        if missing is Missing.DROP:
            assert cell.reason is not Reason.INCOMPLETE


@settings(max_examples=100, deadline=None)
@given(CELLS)
def test_over_budget_is_what_the_budget_alone_prevents(cells):
    scored = board.score(logs_of(cells))
    no_limit = {name: replace(facts, budget_s=INF) for name, facts in RULES.workloads.items()}
    without = board.score(logs_of(cells, replace(RULES, workloads=no_limit)))
    for key, cell in scored.cells.items():
        is_prevented = not math.isfinite(cell.time_s) and math.isfinite(without.cells[key].time_s)
        assert (cell.reason is Reason.OVER_BUDGET) == is_prevented


def test_one_submission():
    """Its score is the share of workloads that it reached."""
    scored = board.score(logs_of({("x", "speech"): all_at(10), ("x", "vision"): [[MISS, MISS]] * 3}))
    assert (scored.score.tolist(), scored.grid_score.tolist()) == ([0.5], [0.5])
    assert scored.ranking == [0]


def test_seventeen_submissions():
    """The ranking is by score, and by name where scores are equal."""
    times = {f"s{index:02}": (10.0 + index // 2,) * 3 for index in range(17)}
    scored = board.score(logs_of(reached(**dict(reversed(times.items())))))
    assert scored.ranking == list(range(17))
    expected = [(4 - (10 + index // 2) / 10) / 3 for index in range(17)]
    assert scored.score.tolist() == pytest.approx(expected)
    slower = replace(RULES, max_ratio=1.5)
    assert (board.score(logs_of(reached(**times), slower)).score > 0).sum() == 10


def test_nobody_reached_anything():
    scored = board.score(logs_of({(name, "speech"): [[MISS, MISS]] * 3 for name in "xy"}))
    assert (scored.score.tolist(), scored.grid_score.tolist()) == ([0, 0], [0, 0])
    assert scored.ranking == [0, 1]


def test_submission_without_trials():
    """It is on the board, whether or not others have some."""
    scored = board.score(logs_of({("x", "speech"): all_at(10)}, submissions=["empty"]))
    assert (scored.times.submissions, scored.score.tolist()) == (("empty", "x"), [0, 0.5])
    alone = board.score(logs_of({}, submissions=["empty"]))
    assert alone.score.tolist() == [0]
    assert {cell.reason for cell in alone.cells.values()} == {Reason.NO_DATA}


def test_selected_names_the_trial_that_counts_and_none_where_all_missed():
    cells = {("x", "speech"): [[hit(10), hit(5)], [MISS, hit(20)], [MISS, MISS]]}
    numbers = {study: number for study, number in board.score(logs_of(cells)).cells["x", "speech"].selected.items()}
    assert numbers == {0: 2, 1: 2}
