"""Charts: lines where the numbers are, within a frame that shows where targets are decided."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoperf_scoring import board, document, logs
from algoperf_scoring.report import charts, frames, letters, page, svg
from algoperf_scoring.rules import Rules, RulesetRules, WorkloadRules

GOALS = {"up": ("accuracy", "max"), "down": ("error_$x^2$", "min")}
RULESET = RulesetRules(studies=1, trials=1, budget_factor=1.0)
RULES = Rules(
    name="mini",
    hardware="any",
    base=tuple(GOALS),
    workloads={
        name: WorkloadRules(metric=metric, goal=goal, target=0.5, budget_s=100)
        for name, (metric, goal) in GOALS.items()
    },
    rulesets={"external": RULESET, "self": RULESET},
)


def read_trial(root, times, metrics, workload="up"):
    """The logs of one trial, as they are read."""
    folder = root / "a" / "study_0" / f"{workload}_jax" / "trial_1"
    folder.mkdir(parents=True)
    header = f"global_step,score,validation/{GOALS[workload][0]}"
    rows = [f"{10 * index},{time},{value}" for index, (time, value) in enumerate(zip(times, metrics, strict=True))]
    (folder / "eval_measurements.csv").write_text("\n".join([header, *rows, ""]))
    return logs.read([root], RULES, "external")


def render(read):
    analysis = document.Analysis(board=board.score(read))
    return page.render(analysis, document.as_data(analysis))


@given(st.lists(st.one_of(st.just(1.0), st.floats(1, 4)), max_size=9))
def test_profile_steps_count_ratios(ratios):
    x, y = charts.steps(ratios, 4.0)
    assert x[0] == 1
    assert x[-1] == 4
    assert y.tolist() == [sum(ratio <= point for ratio in ratios) for point in x]
    assert set(ratios) <= set(x)


@given(st.lists(st.floats(0, 1), max_size=15).map(sorted))
def test_spread_keeps_order_and_distance(wanted):
    found = letters.spread(wanted, 0.06)
    assert len(found) == len(wanted)
    assert all(after - before > 0.06 - 1e-9 for before, after in pairwise(found))
    assert all(position >= 0 for position in found)
    if all(after - before > 0.06 for before, after in pairwise(wanted)):
        assert np.allclose(found, wanted)


def test_letters_in_a_row():
    order = list("ABCDE")
    assert letters.in_a_row(["A", "C"], order) == "A C"
    assert letters.in_a_row(["B", "C", "D"], order) == "B–D"
    assert letters.in_a_row(["A", "C", "D"], order) == "A C…"


def test_a_curve_is_drawn_where_its_evaluations_are(tmp_path):
    """Back from points of the picture to seconds and metrics."""
    times, metrics = [10.0, 20.0, 50.0, 80.0], [0.44, 0.46, 0.45, 0.55]
    read = read_trial(tmp_path, times, metrics)
    _, drawn = render(read)
    chart = next(one for one in drawn if one.name == "curves-up")
    frame = frames.frame(read, "up", read.trials)
    width, height = (72 * inches for inches in svg.SIZE)
    left, bottom, across, up = (0.125 * width, 0.155 * height, 0.79 * width, 0.725 * height)
    paths = re.findall(r'd="(M[^"Z]*)"[^>]*style="[^"]*stroke:var\(--series-0\)', chart.inline)
    points = [tuple(map(float, point.split())) for point in re.split("[ML]", paths[0])[1:]]
    found = [
        ((x - left) / across * frame.end_s, frame.low + (height - bottom - y) / up * (frame.high - frame.low))
        for x, y in points
    ]
    # Coordinates are rounded to a tenth of a point.
    rounding = 0.051 * frame.end_s / across, 0.051 * (frame.high - frame.low) / up
    assert np.all(np.abs(np.array(found) - np.column_stack([times, metrics])) < rounding)


def test_labels_are_text_not_mathematics(tmp_path):
    _, drawn = render(read_trial(tmp_path, [1, 2], [0.6, 0.4], "down"))
    texts = [text for one in drawn for text in ElementTree.fromstring(one.inline).itertext()]
    assert "error $x^2$" in texts


@pytest.mark.parametrize("odd", [[math.nan] * 5, [math.inf, -math.inf] * 3, [1e300] * 3 + [-1e300]])
@pytest.mark.parametrize("workload", GOALS)
def test_frame_holds_the_target_whatever_diverges(tmp_path, odd, workload):
    metrics = [0.1, 0.3, 0.45, 0.49, *odd]
    read = read_trial(tmp_path, range(1, len(metrics) + 1), metrics, workload)
    frame = frames.frame(read, workload, read.trials)
    assert frame.low < 0.5 < frame.high
    assert frame.high - frame.low < 40
    assert frame.end_s >= len(metrics)


def test_frame_ends_near_the_budget_or_the_runs(tmp_path):
    ends = {}
    for last in (30, 90, 500):
        read = read_trial(tmp_path / str(last), [1, last], [0.1, 0.2])
        ends[last] = frames.frame(read, "up", read.trials).end_s
    assert ends[30] == pytest.approx(31.8)
    assert ends[90] == pytest.approx(103)
    assert ends[500] == pytest.approx(150)
