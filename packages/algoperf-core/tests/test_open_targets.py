"""Workloads without a test split, and those whose target nobody has set yet."""

from dataclasses import replace

from algoperf.spec import Split, Target
from algoperf.testing.toy import TOY
from algoperf.trial import EndReason


def without_test(trial, validation):
    """A trial whose workload has no test split, and this target."""
    spec = trial.workload.spec
    target = replace(spec.target, validation=validation, test=None)
    trial.workload.spec = replace(spec, target=target, num_test_examples=0)
    return trial


def test_a_target_that_is_not_set_is_never_reached_on_validation():
    target = Target(metric="accuracy", goal="max", validation=None, test=None)
    for value in (1.0, float("inf"), float("-inf"), float("nan")):
        assert not target.reached(Split.VALIDATION, {"validation/accuracy": value})


def test_where_there_is_no_test_target_validation_alone_decides():
    target = replace(TOY.target, test=None)
    assert target.reached(Split.TEST, {})
    assert target.reached(Split.VALIDATION, {"validation/accuracy": 0.83})
    assert not target.reached(Split.VALIDATION, {"validation/accuracy": 0.82})


def test_a_trial_ends_when_the_only_target_is_reached(make_trial, framework):
    trial = without_test(make_trial(framework), 0.83)
    outcome = trial.run()
    assert outcome.end_reason is EndReason.REACHED
    assert outcome.evaluations[-1]["validation/accuracy"] >= 0.83
    assert all(row["validation/accuracy"] < 0.83 for row in outcome.evaluations[:-1])
    assert not [name for row in outcome.evaluations for name in row if name.startswith("test/")]
    assert {"train/loss", "validation/loss", "validation/num_examples"} <= set(outcome.evaluations[0])


def test_a_trial_without_a_target_trains_until_its_budget_is_used_up(make_trial, framework):
    outcome = without_test(make_trial(framework), None).run()
    assert outcome.end_reason is EndReason.BUDGET


def test_submissions_are_told_that_there_is_no_target(make_trial, framework):
    workload = without_test(make_trial(framework), None).workload
    assert (workload.validation_target_value, workload.test_target_value) == (None, None)
    assert workload.num_test_examples == 0
    assert not workload.has_reached_validation_target({"validation/accuracy": 1.0})
    assert workload.has_reached_test_target({"validation/accuracy": 1.0})
