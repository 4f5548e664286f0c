"""The rules of a trial's time, for arbitrary durations of everything, with a fake time source."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from algoperf.clock import Account, WallClock
from algoperf.spec import Framework
from algoperf.trial import EndReason
from algoperf.trial_config import Outcome

BUDGET_S, PERIOD_S = 30.0, 1.0  # The toy's, in self-tuning.

durations = st.lists(st.floats(1e-3, 40.0), min_size=1, max_size=8)


class FakeRun:
    """A trial whose submission and evaluation do nothing but let time pass, as told."""

    def __init__(self, trial, steps, prepares, evaluations):
        self.now = 0.0
        self.spent = dict.fromkeys(Account, 0.0)
        self.starts: list[float] = []  # Submission time at which each evaluation started.
        self.trial = trial
        trial.clock = WallClock(now=lambda: self.now)
        unchanged = lambda **a: (a["optimizer_state"], a["current_param_container"], a["model_state"])  # noqa: E731
        functions = {
            "data_selection": lambda *arguments: {},
            "update_params": self.taking(steps, Account.SUBMISSION, unchanged),
            "prepare_for_eval": self.taking(prepares, Account.SUBMISSION, unchanged),
            "wants_train_state": False,
        }
        for name, function in functions.items():
            object.__setattr__(trial.submission, name, function)
        metrics = {"validation/accuracy": 0.0, "test/accuracy": 0.0, "validation/loss": 1.0}
        trial.workload.evaluate = self.taking(evaluations, Account.EVALUATION, lambda *arguments: dict(metrics))
        trial._save = lambda state, queue: None

    def taking(self, seconds, account, function):
        sequence: Iterator[float] = itertools.cycle(seconds)

        def call(*arguments, **keywords):
            if account is Account.EVALUATION:
                self.starts.append(self.spent[Account.SUBMISSION])
            duration = next(sequence)
            self.now += duration
            self.spent[account] += duration
            return function(*arguments, **keywords)

        return call

    def run(self) -> Outcome:
        outcome: Outcome = self.trial.run()
        return outcome


@given(steps=durations, prepares=durations, evaluations=durations)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_second_is_free_and_no_evaluation_is_late(make_trial, tmp_path_factory, steps, prepares, evaluations):
    trial = make_trial(Framework.PYTORCH, folder=tmp_path_factory.mktemp("trial"), max_steps=200)
    fake = FakeRun(trial, steps, prepares, evaluations)
    outcome = fake.run()

    # The accounts say what was spent, and add up to the wall time.
    for account, seconds in fake.spent.items():
        assert outcome.seconds[account] == pytest.approx(seconds)
    assert sum(outcome.seconds.values()) == pytest.approx(fake.now)

    # Every evaluation started within the budget, the first after step 1, the others no earlier than a period later.
    rows = outcome.evaluations
    assert len(rows) == len(fake.starts)
    assert all(start < BUDGET_S for start in fake.starts)
    assert [row["score"] for row in rows] == pytest.approx(fake.starts)
    if rows:
        assert rows[0]["global_step"] == 1
    for before, after in itertools.pairwise(rows):
        is_last = after is rows[-1] and outcome.end_reason is EndReason.STEPS
        assert is_last or after["score"] - before["score"] >= PERIOD_S * (1 - 1e-9)

    # A trial goes on until its budget or its steps are used up.
    assert outcome.end_reason in (EndReason.BUDGET, EndReason.STEPS)
    if outcome.end_reason is EndReason.BUDGET:
        assert fake.spent[Account.SUBMISSION] >= BUDGET_S * (1 - 1e-9)
    else:
        assert outcome.global_step == 200
