"""What ends a trial, and what a submission may do wrong."""

import math
import os
import re
from pathlib import Path

import pytest

from algoperf import record_files
from algoperf.clock import Account, WallClock
from algoperf.data import Batches
from algoperf.records import RecordsError, read_trial
from algoperf.search import as_hyperparameters
from algoperf.spec import Framework
from algoperf.submission import SubmissionError
from algoperf.trial import EndReason


def test_a_trial_ends_when_both_targets_are_reached(make_trial, framework):
    trial = make_trial(framework)
    outcome = trial.run()
    assert outcome.end_reason is EndReason.REACHED
    target = trial.workload.spec.target
    assert any(row["validation/accuracy"] >= target.validation for row in outcome.evaluations)
    assert any(row["test/accuracy"] >= target.test for row in outcome.evaluations)
    assert outcome.global_step < 300


def test_evaluations_come_after_step_1_and_then_every_period(make_trial, framework):
    trial = make_trial(framework, max_steps=35)
    trial._judge = lambda *args: None
    outcome = trial.run()
    assert outcome.end_reason is EndReason.STEPS
    # A step costs 20 s / 200 = 0.1 s, the period is 1 s; the last evaluation is due because training ends.
    assert [row["global_step"] for row in outcome.evaluations] == [1, 11, 21, 31, 35]
    assert [row["score"] for row in outcome.evaluations] == pytest.approx([0.1, 1.1, 2.1, 3.1, 3.5])


def test_a_trial_ends_with_its_budget_and_is_not_evaluated_past_it(make_trial, framework):
    trial = make_trial(framework)
    trial._judge = lambda *args: None
    outcome = trial.run()
    assert outcome.end_reason is EndReason.BUDGET
    assert outcome.global_step == 300  # Self-tuning has 1.5 times the budget of 200 hinted steps.
    assert max(row["score"] for row in outcome.evaluations) < 30.0


def test_records_are_what_the_outcome_says(make_trial, framework):
    trial = make_trial(framework, max_steps=25)
    outcome = trial.run()
    record = read_trial(trial.records.folder)
    assert record.end_reason == outcome.end_reason
    assert record.evaluations == outcome.evaluations
    assert record.outcome["seconds"] == outcome.seconds
    assert record.config == trial.config.as_json()
    assert type(trial.config).from_json(record.config) == trial.config
    if framework is Framework.JAX:
        assert len(record.measurements) == outcome.global_step


COMPLETE = """
_update = update_params
def update_params(**arguments):
    if arguments["global_step"] == 4:
        raise spec.TrainingCompleteError("enough")
    return _update(**{k: v for k, v in arguments.items() if k != "train_state"})
"""


def test_a_submission_may_end_its_training_and_gets_one_last_evaluation(make_trial, framework):
    outcome = make_trial(framework, patch=COMPLETE).run()
    assert outcome.end_reason is EndReason.COMPLETE
    assert outcome.global_step == 5
    assert outcome.evaluations[-1]["global_step"] == 5


DIVERGE = {
    Framework.JAX: """
_update = update_params
def update_params(**arguments):
    state, params, model_state = _update(**{k: v for k, v in arguments.items() if k != "train_state"})
    return state, jax.tree.map(lambda p: p * float("nan"), params), model_state
""",
    Framework.PYTORCH: """
_update = update_params
def update_params(**arguments):
    result = _update(**{k: v for k, v in arguments.items() if k != "train_state"})
    for parameter in result[1].parameters():
        parameter.data.fill_(float("nan"))
    return result
""",
}


def test_nan_parameters_are_a_result(make_trial, framework):
    trial = make_trial(framework, patch=DIVERGE[framework])
    outcome = trial.run()
    assert outcome.end_reason is EndReason.DIVERGED
    assert math.isnan(outcome.evaluations[-1]["validation/loss"])
    assert math.isnan(read_trial(trial.records.folder).evaluations[-1]["validation/loss"])


RAISE = """
_update = update_params
def update_params(**arguments):
    if arguments["global_step"] == 13:
        raise RuntimeError("the learning rate went away")
    return _update(**{k: v for k, v in arguments.items() if k != "train_state"})
"""


def test_an_exception_is_a_result_and_loses_no_evaluation(make_trial, framework):
    trial = make_trial(framework, patch=RAISE)
    outcome = trial.run()
    assert outcome.end_reason is EndReason.ERROR
    record = read_trial(trial.records.folder)
    assert record.outcome["error"]["message"] == "the learning rate went away"
    assert "submission.py" in record.outcome["error"]["traceback"]
    assert [row["global_step"] for row in record.evaluations] == [1, 11]


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ("def update_params(**arguments):\n    return None", "update_params of .* returned a NoneType"),
        ("def prepare_for_eval(**arguments):\n    return 1, 2", "prepare_for_eval of .* returned a tuple"),
        (
            "def prepare_for_eval(**arguments):\n    return 1, None, 2",
            "prepare_for_eval .* parameters that are a NoneType",
        ),
        (
            "def data_selection(*arguments):\n    return 1, 2",
            "data_selection of .* returned a tuple; it returns a batch",
        ),
    ],
)
def test_a_wrong_result_is_refused(make_trial, framework, patch, message):
    trial = make_trial(framework, patch=patch)
    with pytest.raises(SubmissionError, match=message):
        trial.run()
    # Once it is mended it may begin in the same folder.
    assert not list(trial.records.folder.iterdir())
    assert make_trial(framework, name="mended", max_steps=2).run().end_reason is EndReason.STEPS


def test_a_wrong_result_after_an_evaluation_is_the_result(make_trial, framework):
    patch = """
_update = update_params
def update_params(train_state=None, **arguments):
    return _update(**arguments) if arguments["global_step"] < 3 else None
"""
    outcome = make_trial(framework, patch=patch).run()
    assert outcome.end_reason is EndReason.ERROR
    assert re.search("update_params of .* returned a NoneType", outcome.error["message"])


NO_STATES = {
    Framework.JAX: ["None", "{}", "optax.chain(optax.identity(), optax.identity()).init(arguments[1])", "({}, {})"],
    Framework.PYTORCH: ["None"],
}


@pytest.mark.parametrize(("framework", "state"), [(f, state) for f, states in NO_STATES.items() for state in states])
def test_what_is_no_optimizer_state_is_refused_before_training(make_trial, framework, state):
    trial = make_trial(framework, patch=f"def init_optimizer_state(*arguments):\n    return {state}")
    with pytest.raises(
        SubmissionError, match=r"init_optimizer_state of .*submission.py returned a .*; in .* it returns"
    ):
        trial.run()
    assert not trial.records.folder.exists()


UNKNOWN = """
_init = init_optimizer_state
def init_optimizer_state(*arguments):
    rate = arguments[3].learning_rte
    return _init(*arguments)
"""


def test_an_unknown_hyperparameter_is_named_before_training(make_trial, framework):
    trial = make_trial(framework, patch=UNKNOWN)
    trial._hyperparameters = as_hyperparameters({"learning_rate": 0.1, "beta": 0.9})
    expected = (
        r"submission.py asks for the hyperparameter learning_rte, which is none of learning_rate, beta; add it to"
    )
    with pytest.raises(SubmissionError, match=expected):
        trial.run()


def test_self_tuning_has_no_hyperparameters(make_trial, framework, tmp_path):
    trial = make_trial(framework, patch=UNKNOWN.replace("arguments[3].", "(hyperparameters := arguments[3]).rate or "))
    # Which of the things that are None lacked something cannot be told from this code, so nothing is said.
    assert trial.run().end_reason is EndReason.ERROR
    code = UNKNOWN.replace("rate = arguments[3].", "hyperparameters = arguments[3]\n    rate = hyperparameters.")
    with pytest.raises(
        SubmissionError, match="learning_rte, and self-tuning gives none; run it with --ruleset external"
    ):
        make_trial(framework, patch=code, name="another", folder=tmp_path / "other").run()


def test_an_unknown_hyperparameter_in_a_late_step_is_the_result(make_trial, framework):
    patch = """
_update = update_params
def update_params(hyperparameters, train_state=None, **arguments):
    if arguments["global_step"] < 3:
        return _update(hyperparameters=hyperparameters, **arguments)
    return _update(hyperparameters=hyperparameters.learning_rte, **arguments)
"""
    outcome = make_trial(framework, patch=patch).run()
    assert outcome.end_reason is EndReason.ERROR
    assert "asks for the hyperparameter learning_rte" in outcome.error["message"]
    assert "return _update(hyperparameters=hyperparameters.learning_rte" in outcome.error["traceback"]


def test_a_submissions_own_file_error_is_its_error(make_trial, framework):
    patch = "def init_optimizer_state(*arguments):\n    open('/nowhere/at/all')"
    assert make_trial(framework, patch=patch).run().end_reason is EndReason.ERROR


def test_a_file_error_of_ours_is_ours_wherever_the_submission_lies(make_trial, framework):
    """Above us, and above the libraries: in a project that has its environment in it."""
    trial = make_trial(framework)
    above = Path(os.path.commonpath([record_files.__file__, pytest.__file__])) / "submission.py"
    object.__setattr__(trial.submission, "path", above)

    def read(position):
        record_files.write_atomic(Path("/nowhere/at/all"), "")

    trial.workload.dataset.train = lambda *arguments: Batches(read)
    assert trial.run().end_reason is EndReason.INFRASTRUCTURE


def test_it_leaves_at_a_step_and_goes_on(make_trial, framework):
    for step in (2, 3):
        trial = make_trial(framework)
        trial._leave_at = step
        assert trial.run() is None
        assert trial._state.global_step == step


def test_data_that_cannot_be_read_is_no_error_of_the_submission(make_trial, framework):
    trial = make_trial(framework)

    def read(position):
        raise OSError(5, "Input/output error")

    trial.workload.dataset.train = lambda *arguments: Batches(read)
    outcome = trial.run()
    assert outcome.end_reason is EndReason.INFRASTRUCTURE
    assert "Input/output error" in outcome.error["message"]


def test_out_of_memory_is_told_apart(make_trial, framework):
    patch = "def init_optimizer_state(*arguments):\n    raise MemoryError('no more')"
    assert make_trial(framework, patch=patch).run().end_reason is EndReason.OOM


def test_a_folder_of_another_configuration_is_refused_untouched(make_trial, framework, tmp_path):
    make_trial(framework, max_steps=3).run()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(RecordsError, match="max_steps"):
        make_trial(framework, max_steps=4).run()
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_full_disk_leaves_the_earlier_checkpoint(make_trial, framework, monkeypatch):
    trial = make_trial(framework)
    original = type(trial.checkpoints).save
    saves = []

    def save(self, step, state):
        saves.append(step)
        if len(saves) == 3:
            raise OSError(28, "No space left on device")
        original(self, step, state)

    monkeypatch.setattr(type(trial.checkpoints), "save", save)
    outcome = trial.run()
    assert outcome.end_reason is EndReason.INFRASTRUCTURE
    monkeypatch.undo()
    resumed = make_trial(framework)
    assert resumed.run().end_reason is EndReason.REACHED


PREPARE = """
import time
def prepare_for_eval(**arguments):
    time.sleep(0.05)
    return arguments["optimizer_state"], arguments["current_param_container"], arguments["model_state"]
"""


def test_preparing_for_evaluation_costs_submission_time(make_trial, framework):
    outcome = make_trial(framework, clock="wall", max_steps=1, patch=PREPARE).run()
    assert outcome.evaluations[0]["score"] >= 0.05
    accounts = [outcome.evaluations[0][f"accumulated_{name}_time"] for name in ("submission", "eval", "logging")]
    assert outcome.evaluations[0]["total_duration"] == pytest.approx(sum(accounts) + outcome.seconds["setup"])


class FakeTime:
    """Steps take as long as told; nothing else takes any time."""

    def __init__(self, step_s):
        self.seconds, self.step_s = 0.0, step_s

    def now(self):
        return self.seconds


def test_no_evaluation_starts_when_preparing_used_up_the_budget(make_trial, framework):
    trial = make_trial(framework, max_steps=100)
    fake = FakeTime(1.0)
    trial.clock = WallClock(now=fake.now)
    take = trial._take

    def timed_take(state, function, result):
        fake.seconds += 1.0 if function == "update_params" else 29.5
        take(state, function, result)

    trial._take = timed_take
    object.__setattr__(
        trial.submission,
        "prepare_for_eval",
        lambda **a: (a["optimizer_state"], a["current_param_container"], a["model_state"]),
    )
    outcome = trial.run()
    assert outcome.end_reason is EndReason.BUDGET
    assert outcome.evaluations == []
    assert outcome.seconds[Account.SUBMISSION] == 30.5


def test_a_finished_trial_is_not_trained_again(make_trial, framework):
    first = make_trial(framework).run()
    again = make_trial(framework)
    again._step = None  # Calling it would fail.
    second = again.run()
    assert second.end_reason is first.end_reason
    assert second.evaluations == first.evaluations


def test_the_train_state_is_there_and_read_only(make_trial, framework):
    patch = """
_update, SEEN = update_params, []
def update_params(train_state, **arguments):
    SEEN.append(dict(train_state))
    try:
        train_state["is_time_remaining"] = True
    except TypeError:
        SEEN[-1]["read_only"] = True
    return _update(**arguments)
"""
    trial = make_trial(framework, patch=patch, max_steps=5)
    trial.run()
    seen = trial.submission.update_params.__globals__["SEEN"]
    names = "validation_goal_reached test_goal_reached is_time_remaining last_eval_time training_complete"
    names += " accumulated_submission_time accumulated_eval_time accumulated_logging_time last_step_end_time"
    assert all(set(names.split()) < set(state) and state["read_only"] for state in seen)


def test_another_code_or_number_of_devices_is_refused(make_trial, framework):
    first = make_trial(framework, max_steps=3)
    first.run()
    for name, recorded in (("content_hash", "submission_sha256"), ("adapter", "submission_adapter")):
        again = make_trial(framework, max_steps=3)
        object.__setattr__(again.submission, name, "another")
        with pytest.raises(RecordsError, match=recorded):
            again.run()


def test_other_data_than_at_the_start_is_refused(make_trial, framework):
    first = make_trial(framework, max_steps=3)
    first._metadata = {"tokenizer_sha256": "aa", "hostname": "one"}
    first.run()
    again = make_trial(framework, max_steps=3)
    again._metadata = {"tokenizer_sha256": "bb", "hostname": "another"}
    with pytest.raises(RecordsError, match="was begun with tokenizer_sha256 aa, which is bb now; choose another"):
        again.run()


def test_what_a_submission_writes_into_its_results_changes_nothing(make_trial, framework):
    patch = """
_update = update_params
def update_params(**arguments):
    for _, row in arguments["eval_results"]:
        row.update({"validation/accuracy": 1.0, "test/accuracy": 1.0})
    return _update(**{k: v for k, v in arguments.items() if k != "train_state"})
"""
    outcome = make_trial(framework, patch=patch, max_steps=5).run()
    assert outcome.end_reason is EndReason.STEPS
    assert [row["global_step"] for row in outcome.evaluations] == [1, 5]
    assert all(row["validation/accuracy"] < 1.0 for row in outcome.evaluations)
