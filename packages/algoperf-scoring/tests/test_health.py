"""Studies and hosts on which steps took another time than elsewhere."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoperf_scoring import health
from algoperf_scoring.evaluations import Evaluations
from algoperf_scoring.find import TrialFolder
from algoperf_scoring.logs import Logs, Trial
from algoperf_scoring.provenance import Origin, Status
from algoperf_scoring.rules import published

SECONDS = st.floats(1e-3, 1e3)
NAMED = st.lists(SECONDS, min_size=1, max_size=6).map(lambda values: dict(zip("abcdef", values, strict=False)))


def made(*trials):
    """Logs and origins of trials: (submission, workload, framework, study, seconds per step, host, is_wall_clock)."""
    found, origins, times = [], [], []
    for number, (submission, workload, framework, study, step_s, host, is_wall_clock) in enumerate(trials, 1):
        folder = TrialFolder(
            submission=submission, workload=workload, study=study, number=number, framework=framework, path=Path("x")
        )
        found.append(Trial(folder=folder, rows=slice(len(times), len(times) + 3)))
        times += [7.0, 7.0 + 10 * step_s, 7.0 + 20 * step_s]
        hosts = (host,) if isinstance(host, str) else tuple(host or ())
        origins.append(
            Origin(
                submission=submission,
                status=Status.UNKNOWN,
                reason="",
                accelerators=(),
                hosts=hosts,
                is_wall_clock=is_wall_clock,
            )
        )
    nothing = np.full(len(times), math.nan)
    rows = Evaluations(
        step=np.tile([0.0, 10, 20], len(trials)),
        time_s=np.array(times),
        eval_s=nothing,
        logging_s=nothing,
        metric=nothing,
    )
    logs = Logs(
        rules=published("v0.6"),
        ruleset="external",
        submissions={},
        trials=found,
        evaluations=rows,
        anomalies=[],
        sha256="",
    )
    return logs, origins


def trial(study, step_s, host="one", *, submission="adam", workload="wmt", framework="jax", is_wall_clock=True):
    return submission, workload, framework, study, step_s, host, is_wall_clock


def flags(*trials, factor=health.FACTOR):
    return [
        (flag.submission, flag.workload, flag.group.value, flag.name, pytest.approx(flag.step_s), round(flag.ratio, 3))
        for flag in health.check(*made(*trials), factor)
    ]


def test_a_slow_study_among_three():
    (flag,) = health.check(*made(trial(0, 8.0), trial(1, 1.0), trial(2, 1.1)))
    assert (flag.submission, flag.workload, flag.framework) == ("adam", "wmt", "jax")
    assert (flag.group, flag.name, flag.step_s) == (health.Group.STUDY, "0", 8.0)
    assert flag.ratio == pytest.approx(8 / 1.05)
    assert flag.advice == "run it again"


def test_a_fast_study_among_three():
    assert flags(trial(0, 1.0), trial(1, 1.3), trial(2, 1.3)) == [("adam", "wmt", "study", "0", 1.0, 0.769)]


def test_of_two_the_slower_one_stands_out():
    assert flags(trial(0, 1.0), trial(1, 1.3)) == [("adam", "wmt", "study", "1", 1.3, 1.3)]


def test_the_factor_itself_is_not_beyond_it():
    assert health.outliers({"a": 1.0, "b": 1.25}, 1.25) == {}
    assert health.outliers({"a": 1.0, "b": 1.25}, 1.24) == {"b": 1.25}


def test_a_slow_host():
    found = health.check(
        *made(
            trial(0, 1.0, "one"),
            trial(0, 2.0, "two"),
            trial(1, 2.0, "two"),
            trial(1, 1.0, "one"),
        )
    )
    assert [(flag.group.value, flag.name, flag.ratio, flag.advice) for flag in found] == [
        ("host", "two", 2.0, "look at that host")
    ]


def test_a_trial_of_unknown_or_several_hosts_says_nothing_of_hosts():
    assert flags(trial(0, 1.0, "one"), trial(0, 2.0, ("one", "two")), trial(0, 3.0, None)) == []


def test_only_the_clock_on_the_wall_counts():
    assert flags(trial(0, 1.0), trial(1, 9.0, is_wall_clock=False)) == []


def test_only_the_same_is_compared():
    different = ({"submission": "sgd"}, {"workload": "ogbg"}, {"framework": "pytorch"})
    assert flags(trial(0, 1.0), *(trial(1, 9.0, "two", **other) for other in different)) == []


def test_one_group_is_not_compared():
    assert flags(trial(0, 1.0), trial(0, 9.0)) == []
    assert flags() == []


def test_the_order_of_studies_is_that_of_their_numbers():
    slow = {2: 5.0, 10: 9.0}
    found = flags(*(trial(study, slow.get(study, 1.0)) for study in range(12)))
    assert [flag[3] for flag in found] == ["2", "10"]


def test_documents_do_not_name_hosts():
    found = health.check(*made(trial(0, 1.0, "amber"), trial(0, 3.0, "blue")))
    data = health.as_data(found, ["amber", "blue"])
    assert "blue" not in json.dumps(data)
    (flag,) = data["flags"]
    assert (data["hosts"], flag["group"], flag["name"], flag["ratio"]) == (2, "host", "host 2", 3.0)


@given(NAMED, st.integers(-8, 8))
def test_scaling_all_times_changes_nothing(medians, exponent):
    # By a power of two, which rounds nothing.
    assert health.outliers({name: value * 2.0**exponent for name, value in medians.items()}) == health.outliers(medians)


@given(SECONDS, st.integers(1, 6))
def test_equal_times_flag_nothing(value, number):
    assert health.outliers({str(name): value for name in range(number)}) == {}


@given(NAMED)
def test_what_is_left_is_close_and_what_is_flagged_is_not(medians):
    found = health.outliers(medians)
    assert all(max(ratio, 1 / ratio) > health.FACTOR for ratio in found.values())
    left = {name: value for name, value in medians.items() if name not in found}
    assert left
    assert health.outliers(left) == {}


@given(NAMED)
def test_names_do_not_matter(medians):
    turned = dict(reversed(medians.items()))
    assert sorted(health.outliers(turned).values()) == sorted(health.outliers(medians).values())
