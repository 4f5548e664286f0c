"""Two submissions side by side."""

import numpy as np
import pytest

from algoperf_scoring import board, comparison, logs


@pytest.fixture
def compare(tmp_path, rules, write_trial, trial_path):
    """Compares "a" with "b", of which is given per workload the seconds of each study; None is never."""

    def make(seconds, seed=0):
        for submission, workloads in seconds.items():
            for workload, studies in workloads.items():
                facts = rules.workloads[workload]
                for study, time_s in enumerate(studies):
                    missed = facts.target * (0.5 if facts.goal == "max" else 2.0)
                    values = [missed, missed if time_s is None else facts.target]
                    times = [1.0, time_s or 50.0]
                    write_trial(tmp_path / trial_path(submission, workload, study), times, values, metric=facts.metric)
        scored = board.score(logs.read([tmp_path], rules, "self"))
        return comparison.compare(scored, "a", "b", seed)

    return make


def test_above_one_the_first_is_faster(compare):
    found = compare({"a": {"speech": [10, 20, 30]}, "b": {"speech": [30, 50, 70]}})
    assert found.workloads == ("speech",)
    assert found.time_s.tolist() == [[20.0], [50.0]]
    assert found.speedup.tolist() == [2.5]
    assert found.mean == pytest.approx(2.5)
    assert (found.num_faster, found.num_slower, found.num_studies) == (1, 0, 3)
    low, high = found.interval[0]
    assert 30 / 30 <= low < 2.5 < high <= 70 / 10
    assert found.faster[0] > 0.95


def test_swapping_the_two_inverts_everything(compare, tmp_path):
    seconds = {"speech": [10, 20, 30], "vision": [5, 6, 7]}, {"speech": [15, 16, 90], "vision": [9, None, 9]}
    one = compare(dict(zip("ab", seconds, strict=True)))
    other = compare(dict(zip("ba", seconds, strict=True)))
    assert other.speedup == pytest.approx(1 / one.speedup)
    assert other.mean == pytest.approx(1 / one.mean)
    assert other.num_faster == one.num_slower


def test_a_missed_target_counts_the_budget_and_a_second(compare):
    found = compare({"a": {"speech": [100, 100, 100]}, "b": {"speech": [None, None, 100]}})
    # 200 s, times 1.5 for self-tuning.
    assert found.speedup.tolist() == [301 / 100]
    assert np.isinf(found.time_s[1, 0])


def test_where_neither_reached_it_nobody_is_faster(compare):
    found = compare({"a": {"speech": [None]}, "b": {"speech": [None]}})
    assert found.speedup.tolist() == [1.0]
    assert found.faster.tolist() == [0.5]
    assert (found.num_faster, found.num_slower) == (0, 0)


def test_a_workload_that_only_one_has_counts_and_one_that_nobody_has_does_not(compare):
    found = compare({"a": {"speech": [100], "vision": [10]}, "b": {"vision": [10]}})
    assert found.workloads == ("vision", "speech")
    assert found.speedup.tolist() == [1.0, 3.01]


def test_a_single_study_has_no_width(compare):
    found = compare({"a": {"speech": [10]}, "b": {"speech": [20]}})
    assert found.num_studies == 1
    assert found.interval.tolist() == [[2.0, 2.0]]


def test_the_seed_decides_the_intervals(compare):
    seconds = {"a": {"speech": [10, 20, 30]}, "b": {"speech": [11, 23, 37]}}
    first, again, other = (compare(seconds, seed) for seed in (0, 0, 1))
    assert first.faster == again.faster
    assert first.faster != other.faster


def test_submissions_without_a_common_or_scored_workload_are_told_apart(compare):
    with pytest.raises(ValueError, match="Neither a nor b has logs of a workload that rules test score"):
        compare({"a": {"vision_gelu": [10]}, "b": {"vision_gelu": [20]}})
