"""Small submissions with the traits of public ones train, and go on after a kill as if there had been none."""

from pathlib import Path

import pytest

from algoperf.records import read_evaluations
from algoperf.spec import Framework
from algoperf.trial import EndReason

SUBMISSIONS = Path(__file__).parent / "submissions"
PATHS = {
    "averaging_jax.py": Framework.JAX,
    "offloading_jax.py": Framework.JAX,
    "closures_pytorch.py": Framework.PYTORCH,
    "self_tuning/routed/submission.py": Framework.PYTORCH,
}
STEPS = 34


@pytest.fixture(params=PATHS)
def make(request, make_trial, tmp_path):
    def make(name, max_steps=STEPS):
        trial = make_trial(
            PATHS[request.param], path=SUBMISSIONS / request.param, folder=tmp_path / name, max_steps=max_steps
        )
        # Targets would end it before the step limit.
        trial._judge = lambda *arguments: None
        return trial

    return make


def rows(trial):
    found = read_evaluations(trial.records.folder / "eval_measurements.csv")
    return [{name: repr(value) for name, value in row.items() if name != "preemption_count"} for row in found]


def killed_at(trial, step):
    """A trial whose process dies before a step: nothing of it is saved or closed."""
    original = trial._step

    def dying(state, queue):
        if state.global_step == step:
            raise KeyboardInterrupt
        original(state, queue)

    trial._step = dying
    with pytest.raises(KeyboardInterrupt):
        trial.run()


def test_killed_and_resumed_twice_it_does_what_it_would_have_done(make):
    alone = make("alone")
    outcome = alone.run()
    assert outcome.end_reason is EndReason.STEPS, outcome.error
    assert [row["global_step"] for row in outcome.evaluations] == [1, 11, 21, 31, STEPS]
    losses = [row["validation/loss"] for row in outcome.evaluations]
    assert losses[-1] < 0.9 * losses[0]
    killed_at(make("killed"), 14)
    killed_at(make("killed"), 29)
    resumed = make("killed")
    assert resumed.run().end_reason is EndReason.STEPS
    assert resumed.records.preemption_count == 2
    assert rows(resumed) == rows(alone)


def test_it_may_end_at_the_step_hint(make_trial):
    trial = make_trial(Framework.PYTORCH, path=SUBMISSIONS / "self_tuning" / "routed" / "submission.py")
    trial._judge = lambda *arguments: None
    outcome = trial.run()
    assert outcome.end_reason is EndReason.COMPLETE
    assert outcome.global_step == trial.workload.step_hint + 1
    assert outcome.evaluations[-1]["global_step"] == outcome.global_step


def test_a_step_that_is_compiled_anew_is_traced_once(make_trial):
    """`jax.jit(train_step, …)` in each step finds what the first compiled: workload and functions are the same."""
    trial = make_trial(Framework.JAX, path=SUBMISSIONS / "averaging_jax.py", max_steps=5)
    functions = trial.submission.update_params.__globals__
    functions["NUM_TRACES"] = 0
    assert trial.run().end_reason is EndReason.STEPS
    assert functions["NUM_TRACES"] == 1


def test_other_parameters_than_those_that_train_may_be_evaluated(make_trial):
    """The slow ones of the offloading submission change every five steps, and those that train in each."""
    trial = make_trial(Framework.JAX, path=SUBMISSIONS / "offloading_jax.py", max_steps=4)
    assert trial.run().end_reason is EndReason.STEPS
    first, last = trial._state.evaluations
    assert (first["global_step"], last["global_step"]) == (1, 4)
    assert first["validation/loss"] == last["validation/loss"]


def test_evaluations_are_there_to_look_back_at(make_trial):
    trial = make_trial(Framework.PYTORCH, path=SUBMISSIONS / "closures_pytorch.py", max_steps=25)
    outcome = trial.run()
    assert trial._state.optimizer_state["has_improved"] is True
    seen = max(row["validation/accuracy"] for row in outcome.evaluations[:-1])
    assert trial._state.optimizer_state["best"] == -seen
