"""Ratios, profiles and scores: against a plain implementation of the published algorithm, and what is always true."""

import csv
import math
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf_scoring import board, logs, profiles
from algoperf_scoring.rules import Rules, RulesetRules, WorkloadRules
from algoperf_scoring.times import Selection

INF, NAN = math.inf, math.nan
RULES = Rules(
    name="test",
    hardware="none",
    base=("vision", "speech", "graph"),
    held_out={"vision": "vision_gelu", "graph": "graph_silu"},
    workloads={
        "vision": WorkloadRules(metric="accuracy", goal="max", target=0.5, budget_s=50),
        "vision_gelu": WorkloadRules(metric="accuracy", goal="max", target=0.4, budget_s=50),
        "speech": WorkloadRules(metric="wer", goal="min", target=0.3, budget_s=20),
        "graph": WorkloadRules(metric="loss", goal="min", target=0.3, budget_s=1000),
        "graph_silu": WorkloadRules(metric="loss", goal="min", target=0.3, budget_s=1000),
    },
    rulesets={"external": RulesetRules(studies=3, trials=2, budget_factor=1.0)},
)
PLAIN = replace(RULES, held_out={})


def plain_hit(path, facts, selection):
    """(index, time) of the first evaluation that reached the target, or None."""
    with path.open(newline="") as file:
        for index, row in enumerate(csv.DictReader(file)):
            value = row[f"validation/{facts.metric}"]
            metric = float(value) if value else NAN
            reached = metric <= facts.target if facts.goal == "min" else metric >= facts.target
            if reached and math.isfinite(metric):
                seconds = float(row["score"])
                return None if selection is Selection.FASTEST and seconds > facts.budget_s else (index, seconds)
    return None


def plain_times(root, rules, selection):
    """Median times as {submission: {workload: time}}; a workload without a study is not in it."""
    found = {}
    for submission in sorted(root.iterdir()):
        found[submission.name] = {}
        for workload in rules.scored:
            studies = []
            for study in submission.glob("study_*"):
                files = list(study.glob(f"{workload}_jax/trial_*/eval_measurements.csv"))
                hits = [hit for hit in (plain_hit(path, rules.workloads[workload], selection) for path in files) if hit]
                if selection is Selection.FASTEST:
                    hits = [(0, seconds) for _, seconds in hits]
                if files:
                    studies.append(min(hits)[1] if hits else INF)
            if studies:
                found[submission.name][workload] = statistics.median(studies)
    return found


def plain_effective(found, rules):
    """{submission: {workload: time}}, infinite where a time does not count, step by step as it was published."""
    times = {name: {w: row.get(w, NAN) for w in rules.scored} for name, row in found.items()}
    for row in times.values():
        for base, variant in rules.held_out.items():
            if not math.isfinite(row[base]):
                row[variant] = INF
    for workload in rules.scored:
        best = min((row[workload] for row in times.values() if math.isfinite(row[workload])), default=INF)
        for row in times.values():
            if row[workload] > 4 * best:
                row[workload] = INF
    for row in times.values():
        for base, variant in rules.held_out.items():
            if not math.isfinite(row[variant]):
                row[base] = INF
    return times


def plain_ratios(found, rules):
    """{submission: {base workload: ratio}}."""
    times = plain_effective(found, rules)
    result = {name: {} for name in times}
    for workload in rules.base:
        finite = [row[workload] for row in times.values() if math.isfinite(row[workload])]
        for name, row in times.items():
            result[name][workload] = row[workload] / min(finite) if math.isfinite(row[workload]) else INF
    return result


def plain_score(ratios):
    """The area in closed form, and by the trapezoidal rule on 100 points."""
    closed = sum((4 - ratio) / 3 for ratio in ratios if ratio <= 4) / len(ratios)
    taus = np.linspace(1, 4, 100).tolist()
    shares = [sum(ratio <= tau for ratio in ratios) / len(ratios) for tau in taus]
    grid = sum((shares[i] + shares[i + 1]) / 2 * (taus[i + 1] - taus[i]) for i in range(99)) / 3
    return closed, grid


# Few values, so that there are ties and exactly four times the fastest; and some of their own.
TIMES = st.sampled_from([1.0, 2.0, 3.0, 4.0, 8.0, 12.0, 12.5, INF, NAN]) | st.floats(0.5, 50)


@st.composite
def median_times(draw, rules=RULES):
    rows = st.lists(TIMES, min_size=len(rules.scored), max_size=len(rules.scored))
    return np.array(draw(st.lists(rows, min_size=1, max_size=6)))


@settings(max_examples=300, deadline=None)
@given(median_times())
def test_against_the_published_algorithm(time_s):
    found = {str(i): {w: v for w, v in zip(RULES.scored, row) if not math.isnan(v)} for i, row in enumerate(time_s)}
    expected = [list(row.values()) for row in plain_ratios(found, RULES).values()]
    ratios = profiles.ratios(time_s, RULES)
    assert ratios.tolist() == expected
    scores = np.array([plain_score(row) for row in expected])
    np.testing.assert_allclose(profiles.score(ratios, RULES), scores[:, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(profiles.grid_score(ratios, RULES), scores[:, 1], rtol=0, atol=1e-12)


EVALUATIONS = st.lists(
    st.tuples(
        st.sampled_from([5.0, 10.0, 20.0, 20.5, 40.0, 50.5, 80.0, 100.0]),
        st.sampled_from(["0.2", "0.3", "0.35", "0.45", "0.5", "0.9", "", "nan", "inf", "-inf"]),
    ),
    min_size=1,
    max_size=4,
)
# Submission, workload, study, trial, and whether it left a file.
KEYS = st.tuples(
    st.sampled_from("xyz"), st.sampled_from(RULES.scored), st.integers(0, 2), st.integers(1, 2), st.booleans()
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(KEYS, EVALUATIONS, min_size=1, max_size=40), st.sampled_from(Selection))
def test_from_files_to_scores(trials, selection):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        for (submission, workload, study, number, has_file), rows in trials.items():
            trial = root / submission / f"study_{study}" / f"{workload}_jax" / f"trial_{number}"
            trial.mkdir(parents=True, exist_ok=True)
            lines = [f"{step},{time_s},{metric},1" for step, (time_s, metric) in enumerate(rows)]
            header = f"global_step,score,validation/{RULES.workloads[workload].metric},validation/num_examples"
            if has_file:
                (trial / "eval_measurements.csv").write_text("\n".join([header, *lines, ""]))
        scored = board.score(logs.read([root], RULES, "external"), selection)
        found = plain_times(root, RULES, selection)
    names = scored.times.submissions
    assert list(names) == list(found)
    expected = [[found[name].get(workload, NAN) for workload in RULES.scored] for name in names]
    np.testing.assert_array_equal(scored.time_s, expected)
    ratios = plain_ratios(found, RULES)
    assert scored.ratios.tolist() == [list(ratios[name].values()) for name in names]
    scores = np.array([plain_score(list(ratios[name].values())) for name in names])
    np.testing.assert_allclose(scored.score, scores[:, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(scored.grid_score, scores[:, 1], rtol=0, atol=1e-12)


def scores(time_s, rules=RULES):
    return profiles.score(profiles.ratios(np.array(time_s), rules), rules)


@settings(max_examples=200, deadline=None)
@given(median_times())
def test_scores_and_ratios_are_in_range(time_s):
    ratios = profiles.ratios(time_s, RULES)
    finite = ratios[np.isfinite(ratios)]
    assert ((finite >= 1) & (finite <= 4)).all()
    closed, grid = profiles.score(ratios, RULES), profiles.grid_score(ratios, RULES)
    assert ((closed >= 0) & (closed <= 1)).all()
    assert ((grid >= 0) & (grid <= 1 + 1e-12)).all()
    # Between two points of the grid, a step h apart, the trapezoidal rule counts half a step of height one over a
    # width of three: it is off by at most h / 6 for a workload, and by nothing for the fastest.
    assert (np.abs(closed - grid) <= 3 / 99 / 6 + 1e-12).all()
    profile = profiles.profile(ratios, profiles.grid(RULES))
    assert (np.diff(profile, axis=-1) >= 0).all()


@pytest.mark.parametrize(
    ("ratio", "closed", "grid"),
    [(1.0, 1.0, 1.0), (1 + 1e-9, 1.0, 1 - 1 / 198), (4.0, 0.0, 1 / 198), (2.5, 0.5, 0.5)],
)
def test_grid_and_closed_form(ratio, closed, grid):
    """By hand: just above the fastest the grid loses half a step of 3/99 over 3; at four times it wins it."""
    ratios = np.array([[ratio]])
    assert profiles.score(ratios, RULES)[0] == pytest.approx(closed, abs=1e-8)
    assert profiles.grid_score(ratios, RULES)[0] == pytest.approx(grid, abs=1e-8)


def test_four_times_the_fastest_survives():
    ratios = profiles.ratios(np.array([[3.0], [12.0], [np.nextafter(12.0, 13.0)]]), replace(PLAIN, base=("speech",)))
    assert ratios.tolist() == [[1.0], [4.0], [INF]]


def test_held_out_rules_by_hand():
    """Columns: base, variant. Limits come from all base times, and from the variants whose base was reached."""
    rules = replace(RULES, base=("vision",), held_out={"vision": "vision_gelu"})
    time_s = np.array(
        [
            [10.0, INF],  # The fastest base, without its variant: it is the limit of the others and no denominator.
            [20.0, 5.0],
            [30.0, 20.0],  # Exactly four times the fastest variant.
            [30.0, 20.5],  # A variant too slow takes the base with it.
            [41.0, 5.0],  # More than four times the fastest base.
            [INF, 1.0],  # Without its base, the fastest variant counts nothing.
            [30.0, NAN],
            [NAN, 1.0],
        ]
    )
    assert profiles.ratios(time_s, rules)[:, 0].tolist() == [INF, 1.0, 1.5, INF, INF, INF, INF, INF]
    effective = profiles.effective_times(time_s, rules)
    # The variant of the base that was too slow still counts for the limit of variants.
    assert effective[:, 1].tolist()[:5] == [INF, 5.0, 20.0, INF, 5.0]
    # Without the fastest base, 41 s are no longer beyond four times the fastest.
    assert profiles.ratios(time_s[1:], rules)[:4, 0].tolist() == [1.0, 1.5, INF, 41 / 20]


@settings(max_examples=100, deadline=None)
@given(median_times(), st.data())
def test_a_submission_that_is_nowhere_faster_changes_nobody(time_s, data):
    slowest = np.where(np.isfinite(time_s), time_s, 0).max(axis=0)
    added = [data.draw(st.sampled_from([max(slow, 1), slow * 1.5 + 1, INF, NAN])) for slow in slowest]
    assert scores([*time_s, added])[:-1].tolist() == scores(time_s).tolist()


@settings(max_examples=100, deadline=None)
@given(median_times(PLAIN), median_times(PLAIN))
def test_without_variants_nobody_wins_by_a_rival(time_s, more):
    together = scores(np.concatenate([time_s, more]), PLAIN)[: len(time_s)]
    assert (together <= scores(time_s, PLAIN)).all()


def test_with_variants_a_rival_can_help():
    """A fast variant takes the fastest base away, and with it everybody else's denominator."""
    rules = replace(RULES, base=("vision",), held_out={"vision": "vision_gelu"})
    assert scores([[10.0, 16.0], [20.0, 8.0]], rules).tolist() == pytest.approx([1, 2 / 3])
    assert scores([[10.0, 16.0], [20.0, 8.0], [40.0, 3.0]], rules).tolist() == pytest.approx([0, 1, 2 / 3])


@settings(max_examples=200, deadline=None)
@given(median_times(), st.data())
def test_a_faster_time_never_lowers_the_own_score(time_s, data):
    row = data.draw(st.integers(0, len(time_s) - 1))
    column = data.draw(st.integers(0, time_s.shape[1] - 1))
    faster = time_s.copy()
    slow = time_s[row, column]
    faster[row, column] = data.draw(st.sampled_from([0.25, 1.0, 7.0] if not slow < 7 else [slow / 2, slow / 8]))
    before, after = (profiles.ratios(one, RULES)[row] for one in (time_s, faster))
    assert (after <= before).all()
    assert scores(faster)[row] >= scores(time_s)[row]


@settings(max_examples=100, deadline=None)
@given(median_times(), st.lists(st.integers(-8, 8), min_size=5, max_size=5), st.randoms())
def test_units_and_order_do_not_matter(time_s, powers, random):
    """Each column may be in its own unit; a power of two is exact."""
    ratios = profiles.ratios(time_s, RULES)
    assert profiles.ratios(time_s * 2.0 ** np.array(powers), RULES).tolist() == ratios.tolist()
    order = random.sample(range(len(time_s)), len(time_s))
    assert profiles.ratios(time_s[order], RULES).tolist() == ratios[order].tolist()
    base = random.sample(RULES.base, 3)
    other = replace(RULES, base=tuple(base))
    columns = [RULES.scored.index(workload) for workload in other.scored]
    moved = profiles.ratios(time_s[:, columns], other)
    assert moved.tolist() == ratios[:, columns[:3]].tolist()
    np.testing.assert_allclose(profiles.score(moved, other), profiles.score(ratios, RULES), rtol=0, atol=1e-12)


def test_many_boards_at_once():
    draws = np.random.default_rng(0).choice([1.0, 2.0, 8.0, 9.0, INF, NAN], (3, 5, 4, 5))
    ratios = profiles.ratios(draws, RULES)
    assert (ratios.shape, profiles.profile(ratios, profiles.grid(RULES)).shape) == ((3, 5, 4, 3), (3, 5, 4, 100))
    for index in np.ndindex(3, 5):
        one = profiles.ratios(draws[index], RULES)
        np.testing.assert_array_equal(ratios[index], one)
        np.testing.assert_array_equal(profiles.score(ratios, RULES)[index], profiles.score(one, RULES))
        np.testing.assert_array_equal(profiles.grid_score(ratios, RULES)[index], profiles.grid_score(one, RULES))


def test_few_submissions():
    """Of a single one, the score is the share of workloads that count; of none there is no score."""
    assert scores([[7.0, INF, 9.0, 70.0, 90.0]]).tolist() == [2 / 3]
    assert scores([[INF, NAN, 9.0, 70.0, INF]]).tolist() == [0]
    assert scores(np.empty((0, 5))).tolist() == []


def test_time_of_zero():
    """Whoever reached the target at once is the fastest, and beyond any multiple of it are all others."""
    ratios = profiles.ratios(np.array([[0.0], [0.0], [1.0]]), replace(PLAIN, base=("speech",)))
    assert ratios.tolist() == [[1.0], [1.0], [INF]]
