"""How much a leaderboard depends on who takes part, on workloads, studies and targets."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf_scoring import board, profiles, robustness, times
from algoperf_scoring.evaluations import Evaluations
from algoperf_scoring.find import TrialFolder
from algoperf_scoring.logs import Logs, Trial
from algoperf_scoring.robustness import Scorer
from algoperf_scoring.rules import Rules, RulesetRules, WorkloadRules
from algoperf_scoring.times import Missing, Selection, StudyTimes

INF, NAN = math.inf, math.nan
RULES = Rules(
    name="test",
    hardware="none",
    base=("vision", "speech", "graph"),
    held_out={"vision": "vision_gelu", "graph": "graph_silu"},
    workloads={
        "vision": WorkloadRules(metric="accuracy", goal="max", target=0.5, budget_s=100),
        "vision_gelu": WorkloadRules(metric="accuracy", goal="max", target=0.4, budget_s=100),
        "speech": WorkloadRules(metric="wer", goal="min", target=0.2, budget_s=200),
        "graph": WorkloadRules(metric="loss", goal="min", target=0.3, budget_s=400),
        "graph_silu": WorkloadRules(metric="loss", goal="min", target=0.3, budget_s=400),
    },
    rulesets={
        "external": RulesetRules(studies=3, trials=1, budget_factor=1.0),
        "self": RulesetRules(studies=3, trials=1, budget_factor=1.5),
    },
)
SCORERS = [Scorer(rules=RULES, ruleset="external", missing=missing) for missing in Missing]
TIMES = st.sampled_from([1.0, 2.0, 3.0, 8.0, 8.5, 20.0, INF, NAN])


@st.composite
def study_times(draw, num_studies=3):
    names = draw(st.lists(st.sampled_from("stuvwxyz"), min_size=1, max_size=5, unique=True))
    size = len(names) * len(RULES.scored) * num_studies
    values = np.array(draw(st.lists(TIMES, min_size=size, max_size=size)))
    return StudyTimes(
        submissions=tuple(sorted(names)),
        workloads=RULES.scored,
        studies=(0, 2, 5)[:num_studies],
        time_s=values.reshape(len(names), len(RULES.scored), num_studies),
        trials={},
    )


def scores_of(names, time_s, scorer, rules=RULES, studies=3):
    """Scores from the parts, by name."""
    median = times.medians(time_s, scorer.missing, studies)
    return dict(zip(names, profiles.score(profiles.ratios(median, rules), rules).tolist(), strict=True))


@settings(max_examples=50, deadline=None)
@given(study_times(), st.sampled_from(SCORERS))
def test_leaving_one_out_is_scoring_the_rest(found, scorer):
    names = found.submissions
    expected = {}
    for out in names if len(names) > 1 else ():
        rest = [name for name in names if name != out]
        expected[out] = scores_of(rest, np.stack([found.time_s[names.index(name)] for name in rest]), scorer)
    assert robustness.without_each_submission(found, scorer) == expected
    # Which columns are left: a workload goes with its variant.
    expected = {}
    for out, columns in {"vision": [1, 2, 4], "speech": [0, 2, 3, 4], "graph": [0, 1, 3]}.items():
        held_out = {base: variant for base, variant in RULES.held_out.items() if base != out}
        rules = replace(RULES, base=tuple(base for base in RULES.base if base != out), held_out=held_out)
        expected[out] = scores_of(names, found.time_s[:, columns], scorer, rules)
    assert robustness.without_each_workload(found, scorer) == expected
    # One study less is also one less to ask for.
    expected = {
        study: scores_of(names, found.time_s[..., kept], scorer, studies=2)
        for study, kept in {0: [1, 2], 2: [0, 2], 5: [0, 1]}.items()
    }
    assert robustness.without_each_study(found, scorer) == expected


@settings(max_examples=10, deadline=None)
@given(study_times(num_studies=1))
def test_nothing_to_leave_out(found):
    assert robustness.without_each_study(found, SCORERS[0]) == {}
    single = replace(RULES, base=("speech",), held_out={})
    assert robustness.without_each_workload(found, replace(SCORERS[0], rules=single)) == {}
    one = replace(found, submissions=("x",), time_s=found.time_s[:1])
    assert robustness.without_each_submission(one, SCORERS[0]) == {}


def test_a_study_that_is_left_out_is_not_missing():
    """Three studies are asked for; of the two that are left after one goes, none is absent."""
    found = StudyTimes(
        submissions=("x",), workloads=RULES.scored, studies=(0, 1, 2), time_s=np.full((1, 5, 3), 7.0), trials={}
    )
    found.time_s[..., 2] = INF
    strict = replace(SCORERS[0], missing=Missing.NEVER_REACHED)
    assert robustness.without_each_study(found, strict) == {0: {"x": 0}, 1: {"x": 0}, 2: {"x": 1}}
    # As if only these two were there: of three that are asked for, two finite ones are a median as well.
    assert strict.score(found.time_s[..., :2]).tolist() == [1]
    assert strict.score(found.time_s[..., :1]).tolist() == [0]
    assert strict.score(found.time_s[..., :1], studies=1).tolist() == [1]


VALUES = st.lists(st.integers(0, 4), min_size=2, max_size=9)


@settings(max_examples=200, deadline=None)
@given(VALUES, st.data())
def test_kendall_tau(first, data):
    second = data.draw(st.lists(st.integers(0, 4), min_size=len(first), max_size=len(first)))
    ours = robustness.kendall_tau(np.array(first, float), np.array(second, float))
    assert ours == robustness.kendall_tau(np.array(second, float), np.array(first, float))
    expected = scipy.stats.kendalltau(first, second).statistic
    if len(set(first)) > 1 and len(set(second)) > 1:
        assert ours == pytest.approx(expected, abs=1e-12)
    else:
        # Without an order there is nothing to agree on; two that have none agree in that.
        assert math.isnan(expected)
        assert ours == (len(set(first)) == len(set(second)) == 1)


def test_kendall_tau_of_one_submission():
    assert robustness.kendall_tau(np.array([0.5]), np.array([0.25])) == 1


def test_wins():
    """By base workloads alone; equal is no win, and no time loses to any."""
    time_s = np.array([[1, 5, INF, 1, 1], [2, 5, 9, 0.5, 0.5], [NAN, 6, INF, 0.5, 0.5]], dtype=float)
    assert robustness.wins(time_s, RULES).tolist() == [[0, 1, 2], [1, 0, 3], [0, 0, 0]]


def test_speedups():
    time_s = np.array(
        [
            [50, 100, 300, 1, 1],
            [25, 200, INF, 2, 2],
            [100, NAN, 300, 3, 3],
        ],
        dtype=float,
    )
    found = robustness.speedups(time_s, 0, RULES, "external")
    # Twice as fast is 2; who missed needed a second more than the budget.
    assert found.tolist() == [[1, 1, 1], [2, 0.5, 300 / 401], [0.5, 100 / 201, 1]]
    found = robustness.speedups(time_s, 1, RULES, "self")
    assert found.tolist() == [[0.5, 2, 601 / 300], [1, 1, 1], [0.25, 200 / 301, 601 / 300]]
    both = robustness.speedups(np.stack([time_s, time_s * 2]), 0, RULES, "external")
    np.testing.assert_array_equal(both[1], robustness.speedups(time_s * 2, 0, RULES, "external"))
    nobody = np.full((2, 5), INF)
    assert robustness.speedups(nobody, 1, RULES, "external").tolist() == [[1, 1, 1]] * 2


def test_geometric_mean():
    values = np.array([[1.0, 2, 4], [0.5, 0.5, 0.5]])
    np.testing.assert_allclose(robustness.geometric_mean(values), [2, 0.5], rtol=1e-12)


def test_ranks():
    assert robustness.ranks({"x": 0.5, "y": 0.7, "z": 0.5, "w": 0.1}) == {"x": 2, "y": 1, "z": 2, "w": 4}
    assert robustness.ranks({}) == {}


def ramps():
    """Logs of metrics that improve evenly, each submission at its own pace."""
    trials, rows = [], []
    for submission, pace in {"fast": 1.0, "slow": 0.75, "noisy": 0.8}.items():
        for workload in RULES.scored:
            facts = RULES.workloads[workload]
            sign = 1 if facts.goal == "max" else -1
            for study in range(3):
                folder = TrialFolder(
                    submission=submission, workload=workload, study=study, number=1, framework="jax", path=Path("x")
                )
                trials.append(Trial(folder=folder, rows=slice(len(rows), len(rows) + 60)))
                shift = 0.01 * sign * (-1) ** study if submission == "noisy" else 0.0
                rows += [
                    (time_s, facts.target * (1 + sign * (pace * time_s - 40) / 100) + shift) for time_s in range(1, 61)
                ]
    time_s, metric = np.array(rows, dtype=float).T
    unknown = np.full(len(rows), NAN)
    return Logs(
        rules=RULES,
        ruleset="external",
        submissions={name: Path(name) for name in ("fast", "noisy", "slow")},
        trials=trials,
        evaluations=Evaluations(step=unknown, time_s=time_s, eval_s=unknown, logging_s=unknown, metric=metric),
        anomalies=[],
        sha256="",
    )


@pytest.mark.parametrize("selection", Selection)
def test_target_shifts_are_boards_by_other_targets(selection):
    logs = ramps()
    shifts = robustness.target_shifts(logs, selection, SCORERS[0])
    assert [shift.easier for shift in shifts] == list(robustness.EASIER)
    assert [shift.is_censored for shift in shifts] == [easier < 0 for easier in robustness.EASIER]
    at_target = board.score(logs, selection).score
    for shift in shifts:
        moved = {
            name: replace(facts, target=facts.target + facts.target * shift.easier * {"min": 1, "max": -1}[facts.goal])
            for name, facts in RULES.workloads.items()
        }
        expected = board.score(replace(logs, rules=replace(RULES, workloads=moved)), selection).score
        np.testing.assert_array_equal(shift.score, expected)
        assert shift.kendall_tau == robustness.kendall_tau(at_target, expected)
        assert (shift.score == at_target).all() or shift.easier != 0
    # The pace shows: an easier target is nearer for the slow ones, relative to the fast one.
    assert len({tuple(shift.score.tolist()) for shift in shifts}) > 3


def test_chosen_target_shifts():
    shifts = robustness.target_shifts(ramps(), Selection.FASTEST, SCORERS[0], [0.0, 0.3])
    assert [shift.easier for shift in shifts] == [0.0, 0.3]
    assert shifts[0].kendall_tau == 1
