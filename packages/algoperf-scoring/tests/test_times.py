"""From evaluations to hits, to the time of each study, to medians."""

import math
import statistics
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf_scoring import times
from algoperf_scoring.evaluations import Evaluations
from algoperf_scoring.find import TrialFolder
from algoperf_scoring.logs import Logs, Trial
from algoperf_scoring.rules import Rules, RulesetRules, WorkloadRules
from algoperf_scoring.times import NEVER, Hit, Missing, Selection

INF, NAN = math.inf, math.nan
RULES = Rules(
    name="test",
    hardware="none",
    base=("loss", "accuracy"),
    held_out={"loss": "likelihood"},
    workloads={
        "loss": WorkloadRules(metric="loss", goal="min", target=0.5, budget_s=100),
        "accuracy": WorkloadRules(metric="accuracy", goal="max", target=0.75, budget_s=200),
        # A target below zero: easier still means what its goal says.
        "likelihood": WorkloadRules(metric="likelihood", goal="max", target=-2.0, budget_s=100),
    },
    rulesets={
        "external": RulesetRules(studies=3, trials=2, budget_factor=1.0),
        "self": RulesetRules(studies=3, trials=1, budget_factor=3.0),
    },
)


def logs_of(trials, ruleset="external"):
    """Logs of trials in their order: ((submission, workload, study, number), [(time, metric), …])."""
    made, rows = [], []
    for (submission, workload, study, number), evaluations in trials:
        folder = TrialFolder(
            submission=submission,
            workload=workload,
            study=study,
            number=number,
            framework="jax",
            path=Path(submission, f"study_{study}", f"{workload}_jax", f"trial_{number}"),
        )
        made.append(Trial(folder=folder, rows=slice(len(rows), len(rows) + len(evaluations))))
        rows += evaluations
    time_s, metric = np.array(rows, dtype=float).reshape(-1, 2).T
    nothing = np.full(len(rows), NAN)
    return Logs(
        rules=RULES,
        ruleset=ruleset,
        submissions={name: Path(name) for name in sorted({key[0] for key, _ in trials})},
        trials=made,
        evaluations=Evaluations(step=nothing, time_s=time_s, eval_s=nothing, logging_s=nothing, metric=metric),
        anomalies=[],
        sha256="",
    )


def one_hit(workload, evaluations, selection=Selection.FASTEST, easier=0.0, ruleset="external"):
    return times.hits(logs_of([(("x", workload, 0, 1), evaluations)], ruleset), selection, easier)[0]


@pytest.mark.parametrize(("workload", "reached", "missed"), [("loss", 0.5, 0.5000001), ("accuracy", 0.75, 0.7499999)])
def test_target_itself_is_reached(workload, reached, missed):
    assert one_hit(workload, [(1, missed), (2, reached)]) == Hit(index=1, time_s=2.0)
    assert one_hit(workload, [(1, missed), (2, missed)]) == NEVER


@pytest.mark.parametrize("workload", ["loss", "accuracy"])
@pytest.mark.parametrize("metric", [NAN, INF, -INF])
def test_metric_that_is_no_number_reaches_nothing(workload, metric):
    assert one_hit(workload, [(1, metric), (2, metric)]) == NEVER


def test_first_hit_counts_although_the_target_is_lost_again():
    assert one_hit("loss", [(1, 0.9), (2, 0.4), (3, 0.9), (4, 0.1), (5, NAN)]) == Hit(index=1, time_s=2.0)


def test_trial_without_evaluations():
    trials = [(("x", "loss", 0, 1), []), (("x", "loss", 0, 2), [(7, 0.1)]), (("x", "loss", 0, 3), [])]
    assert times.hits(logs_of(trials)) == [NEVER, Hit(index=0, time_s=7.0), NEVER]


def test_logs_without_trials():
    assert times.hits(logs_of([])) == []


def test_budget():
    """On time is up to the budget and equal to it; the public scoring enforces none."""
    late = [(50, 0.9), (100.5, 0.4)]
    assert one_hit("loss", [(50, 0.9), (100, 0.4)]) == Hit(index=1, time_s=100.0)
    assert one_hit("loss", late) == Hit(index=1, time_s=100.5, is_late=True)
    assert one_hit("loss", late, Selection.REFERENCE) == Hit(index=1, time_s=100.5)
    assert one_hit("loss", late, ruleset="self") == Hit(index=1, time_s=100.5)
    assert one_hit("loss", [(300.5, 0.4)], ruleset="self").is_late
    logs = logs_of([(("x", "loss", 0, 1), late)])
    assert times.study_times(logs).time_s[0, 0].tolist() == [INF]
    assert times.study_times(logs, Selection.REFERENCE).time_s[0, 0].tolist() == [100.5]


@pytest.mark.parametrize(
    ("workload", "metric", "share"),
    [("loss", 0.55, 0.1), ("accuracy", 0.675, 0.1), ("likelihood", -2.2, 0.1)],
)
def test_easier_and_harder_targets(workload, metric, share):
    """Each metric misses its target by a tenth of it."""
    assert one_hit(workload, [(1, metric)]) == NEVER
    assert one_hit(workload, [(1, metric)], easier=share * 1.0001).index == 0
    assert one_hit(workload, [(1, metric)], easier=share * 0.9999) == NEVER
    better = 2 * RULES.workloads[workload].target - metric
    assert one_hit(workload, [(1, better)]).index == 0
    assert one_hit(workload, [(1, better)], easier=-share * 0.9999).index == 0
    assert one_hit(workload, [(1, better)], easier=-share * 1.0001) == NEVER


METRICS = st.sampled_from([0.3, 0.5, 0.55, 0.74, 0.75, 0.9, -1.9, -2.0, -2.1, NAN, INF, -INF])
EVALUATIONS = st.lists(st.tuples(st.sampled_from([1.0, 60.0, 100.0, 101.0, 250.0]), METRICS), max_size=5)
KEYS = st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(RULES.scored), st.integers(0, 2), st.integers(1, 4))
TRIALS = st.dictionaries(KEYS, EVALUATIONS, min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(TRIALS, st.sampled_from(Selection), st.sampled_from([-0.1, 0.0, 0.1]))
def test_hits_are_what_a_loop_finds(trials, selection, easier):
    for (key, evaluations), hit in zip(
        sorted(trials.items()), times.hits(logs_of(sorted(trials.items())), selection, easier), strict=True
    ):
        facts = RULES.workloads[key[1]]
        expected = NEVER
        for index, (time_s, metric) in enumerate(evaluations):
            if facts.goal == "min":
                is_good = math.isfinite(metric) and metric <= facts.target + abs(facts.target) * easier
            else:
                is_good = math.isfinite(metric) and metric >= facts.target - abs(facts.target) * easier
            if is_good:
                is_late = selection is Selection.FASTEST and time_s > facts.budget_s
                expected = Hit(index=index, time_s=time_s, is_late=is_late)
                break
        assert hit == expected


@settings(max_examples=50, deadline=None)
@given(TRIALS, st.sampled_from(Selection), st.data())
def test_study_times_do_not_depend_on_the_order_of_trials(trials, selection, data):
    before = times.study_times(logs_of(sorted(trials.items())), selection)
    after = times.study_times(logs_of(data.draw(st.permutations(sorted(trials.items())))), selection)
    assert (after.submissions, after.workloads, after.studies) == (before.submissions, before.workloads, before.studies)
    np.testing.assert_array_equal(after.time_s, before.time_s)


@settings(max_examples=50, deadline=None)
@given(TRIALS, st.sampled_from(Selection), st.sampled_from([0.125, 8.0]))
def test_a_slower_machine_with_a_larger_budget_has_longer_times(trials, selection, factor):
    before = times.study_times(logs_of(sorted(trials.items())), selection)
    slower = logs_of([(key, [(time_s * factor, metric) for time_s, metric in rows]) for key, rows in trials.items()])
    workloads = {name: replace(facts, budget_s=facts.budget_s * factor) for name, facts in RULES.workloads.items()}
    after = times.study_times(replace(slower, rules=replace(RULES, workloads=workloads)), selection)
    np.testing.assert_array_equal(after.time_s, before.time_s * factor)


def test_study_times():
    good, bad = [(10, 0.4)], [(10, 0.9)]
    trials = [
        (("x", "loss", 0, 1), bad),
        (("x", "loss", 0, 2), [(5, 0.9), (30, 0.4)]),
        (("x", "loss", 4, 1), good),
        (("x", "accuracy", 4, 1), []),
        (("y", "loss", 0, 1), bad),
        (("y", "loss", 7, 1), []),
        (("y", "loss", 7, 2), good),
    ]
    found = times.study_times(logs_of(trials))
    assert found.submissions == ("x", "y")
    assert found.workloads == RULES.scored == ("loss", "accuracy", "likelihood")
    assert found.studies == (0, 4, 7)
    nothing = [NAN, NAN, NAN]
    expected = [[[30, 10, NAN], nothing, nothing], [[INF, NAN, 10], nothing, nothing]]
    np.testing.assert_array_equal(found.time_s, expected)
    # A study none of whose trials can be read has no time, and its trials are kept.
    assert [hit for _, hit in found.trials["x", "accuracy", 4]] == [NEVER]
    assert [trial.folder.number for trial, _ in found.trials["y", "loss", 7]] == [1, 2]


def test_select():
    early_index, early_time = Hit(index=3, time_s=40.0), Hit(index=4, time_s=30.0)
    tied, late = Hit(index=3, time_s=35.0), Hit(index=0, time_s=1.0, is_late=True)
    for order in permutations([NEVER, late, early_index, early_time, tied]):
        assert times.select(order, Selection.FASTEST) is early_time
        assert times.select(order, Selection.REFERENCE) is tied
    for selection in Selection:
        assert times.select([], selection) == NEVER
        assert times.select([NEVER, late], selection) == NEVER


FINITE = st.floats(1e-3, 1e6)


@settings(max_examples=100, deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=8), st.integers(0, 3), st.data())
def test_medians_of_what_is_there(values, missing, data):
    """Complete data: the median. Absent studies are dropped, wherever they stand."""
    row = data.draw(st.permutations([*values, *[NAN] * missing]))
    result = times.medians(np.array([row]))
    assert result.shape == (1,)
    assert result[0] == statistics.median(values) == np.median(values)


@settings(max_examples=100, deadline=None)
@given(st.lists(FINITE | st.just(INF), min_size=1, max_size=7), st.integers(0, 3), st.integers(1, 9), st.data())
def test_medians_where_absent_studies_never_reached(values, missing, asked_for, data):
    row = np.array(data.draw(st.permutations([*values, *[NAN] * missing])))
    padded = [*values, *[INF] * (asked_for - len(values))]
    assert times.medians(row, Missing.NEVER_REACHED, asked_for) == statistics.median(padded)
    # Dropped: how many are asked for is nobody's business.
    assert times.medians(row, Missing.DROP, asked_for) == statistics.median(values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0, INF], 2.0),
        ([1.0, INF, INF], INF),
        ([1.0, 3.0], 2.0),
        ([1.0, INF], INF),
        ([1.0, 2.0, 4.0, INF], 3.0),
        ([1.0, 2.0, INF, INF], INF),
        ([NAN, 2.0, INF, 1.0, NAN], 2.0),
        ([INF, INF], INF),
        ([NAN, NAN], NAN),
        ([], NAN),
    ],
)
@pytest.mark.parametrize("missing", Missing)
def test_medians(values, expected, missing):
    """With as many studies asked for as there are, both ways to count absent ones agree; none at all is no data."""
    asked_for = sum(not math.isnan(value) for value in values)
    np.testing.assert_array_equal(times.medians(np.array(values), missing, asked_for), expected)


@pytest.mark.parametrize("missing", Missing)
def test_medians_of_many_at_once(missing):
    draws = np.random.default_rng(0)
    values = draws.choice([1.0, 2.0, 5.0, INF, NAN], (4, 3, 2, 5))
    together = times.medians(values, missing, 4)
    assert together.shape == (4, 3, 2)
    for index in np.ndindex(together.shape):
        np.testing.assert_array_equal(together[index], times.medians(values[index], missing, 4))
