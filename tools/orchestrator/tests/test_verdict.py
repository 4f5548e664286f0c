"""Whose failure is whose, and what is tried again."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoperf.records import TrialRecords
from algoperf.trial_config import EndReason
from algoperf_orchestrator import verdict
from algoperf_orchestrator.scheduler import Policy
from algoperf_orchestrator.verdict import Cause, State, Verdict

RESULTS = {
    EndReason.REACHED: State.DONE,
    EndReason.BUDGET: State.DONE,
    EndReason.STEPS: State.DONE,
    EndReason.COMPLETE: State.DONE,
    EndReason.DIVERGED: State.DONE,
    EndReason.ERROR: State.FAILED_ALGORITHM,
    EndReason.OOM: State.FAILED_ALGORITHM,
    EndReason.INFRASTRUCTURE: State.FAILED_INFRASTRUCTURE,
}


def test_every_end_reason_has_a_state() -> None:
    assert set(RESULTS) == set(EndReason)
    for reason, state in RESULTS.items():
        assert verdict.of_outcome({"end_reason": reason.value}).state is state


def test_only_the_infrastructure_is_tried_again() -> None:
    again = {cause for cause in Cause if verdict.of_cause(cause).may_be_retried}
    assert again == {
        Cause.HUNG,
        Cause.KILLED,
        Cause.DIED,
        Cause.NOT_STARTED,
        Cause.NO_HEARTBEAT,
        Cause.PREEMPTED,
        Cause.TIME_LIMIT,
    }
    assert not any(verdict.of_outcome({"end_reason": r}).may_be_retried for r in set(EndReason) - {"infrastructure"})
    assert not verdict.of_cause(Cause.HUNG, in_submission=True).may_be_retried


@given(failures=st.integers(0, 10), retries=st.integers(0, 5), backoff_s=st.floats(0, 100))
def test_retries_have_a_limit_and_wait_longer_and_longer(failures: int, retries: int, backoff_s: float) -> None:
    policy = Policy(retries=retries, backoff_s=backoff_s)
    killed = verdict.of_cause(Cause.KILLED)
    wait_s = policy.retry_in_s(killed, failures)
    assert (wait_s is None) == (failures >= retries)
    if wait_s is not None:
        assert wait_s == backoff_s * 4**failures
    assert policy.retry_in_s(verdict.of_cause(Cause.MEMORY), 0) is None
    assert policy.retry_in_s(Verdict(state=State.DONE, reason="reached"), 0) is None


@given(st.sampled_from(State), st.text(), st.text())
def test_a_verdict_is_read_as_it_was_written(state: State, reason: str, detail: str) -> None:
    one = Verdict(state=state, reason=reason, detail=detail)
    assert Verdict.from_json(one.as_json()) == one


@pytest.mark.parametrize("reason", list(EndReason))
def test_a_folder_tells_its_result(tmp_path: Path, reason: EndReason) -> None:
    assert verdict.of_folder(tmp_path / "none") is None
    records = TrialRecords(tmp_path)
    config: dict[str, Any] = {"seed": 1}
    records.start(config, {}, 0, [])
    assert verdict.of_folder(tmp_path) is None
    records.finish({"end_reason": reason.value, "error": {"type": "E", "message": "a\nb", "traceback": ""}})
    found = verdict.of_folder(tmp_path)
    if reason is EndReason.INFRASTRUCTURE:
        assert found is None, "it may be gone on with"
    else:
        assert found == Verdict(state=RESULTS[reason], reason=reason.value, detail="E: a b")
