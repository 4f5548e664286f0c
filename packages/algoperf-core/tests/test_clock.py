"""The clock, driven by a fake time: accounts add up to wall time, and nothing is free."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf.clock import Account, VirtualClock, WallClock


class FakeTime:
    def __init__(self) -> None:
        self.seconds = 100.0
        self.waited = 0
        self.pending = 0.0  # Work that the devices have been given and not done yet.

    def now(self) -> float:
        return self.seconds

    def wait(self) -> None:
        self.waited += 1
        self.seconds += self.pending
        self.pending = 0.0


durations = st.floats(min_value=0.0, max_value=1e4, allow_nan=False)


@given(st.lists(st.tuples(st.sampled_from(list(Account)), durations, durations)))
def test_accounts_add_up_to_wall_time(events):
    fake = FakeTime()
    clock = WallClock(fake.wait, now=fake.now)
    expected = dict.fromkeys(Account, 0.0)
    for account, host_s, device_s in events:
        clock.enter(account)
        fake.seconds += host_s
        fake.pending += device_s
        expected[account] += host_s + device_s
    clock.read()
    assert clock.total_s == pytest.approx(fake.seconds - 100.0)
    for account, seconds in expected.items():
        assert clock.seconds[account] == pytest.approx(seconds, abs=1e-6)


@given(st.lists(st.floats(min_value=1e-4, max_value=20.0), min_size=1, max_size=300), st.floats(1.0, 500.0))
def test_a_passed_deadline_is_seen_and_never_early(step_times, deadline_s):
    fake = FakeTime()
    clock = WallClock(fake.wait, now=fake.now)
    clock.enter(Account.SUBMISSION)
    total = 0.0
    for step_s in step_times:
        fake.pending += step_s
        total += step_s
        clock.step()
        if clock.passed(deadline_s):
            assert total >= deadline_s * (1 - 1e-9)
            return
    # Unread steps are few, and the next readings find them.
    for _ in range(WallClock.MAX_STEPS_UNREAD + 1):
        clock.step()
        if clock.passed(deadline_s):
            break
    assert (clock.submission_s >= deadline_s) == (total >= deadline_s * (1 - 1e-9)) or total == pytest.approx(
        deadline_s
    )


@given(st.floats(1e-2, 3.0), st.floats(1.0, 100.0))
@settings(deadline=None)
def test_steps_of_one_length_overshoot_a_deadline_by_less_than_one_step(step_s, deadline_s):
    fake = FakeTime()
    clock = WallClock(fake.wait, now=fake.now)
    clock.enter(Account.SUBMISSION)
    steps = 0
    while True:
        fake.pending += step_s
        clock.step()
        steps += 1
        if clock.passed(deadline_s):
            break
    assert clock.submission_s < deadline_s + step_s * (1 + 1e-6)
    assert fake.waited <= steps + 1


def test_short_steps_are_not_waited_for_one_by_one():
    fake = FakeTime()
    clock = WallClock(fake.wait, now=fake.now)
    clock.enter(Account.SUBMISSION)
    fake.waited = 0
    for _ in range(10_000):
        fake.pending += 1e-3
        clock.step()
        assert not clock.passed(1000.0)
    assert fake.waited < 10_000 / 50


@given(st.lists(durations, min_size=1), durations)
def test_lost_time_is_charged_to_nobody(before, lost):
    fake = FakeTime()
    clock = WallClock(fake.wait, now=fake.now)
    clock.enter(Account.SUBMISSION)
    for seconds in before:
        fake.seconds += seconds
    clock.read()
    state = clock.state()
    fake.seconds += lost
    resumed = WallClock(fake.wait, now=fake.now)
    fake.seconds += lost
    resumed.restore(state)
    assert resumed.seconds == clock.seconds
    resumed.enter(Account.SUBMISSION)
    fake.seconds += 1.0
    assert resumed.read() == pytest.approx(clock.submission_s + 1.0)


def test_all_processes_are_charged_for_the_slowest():
    fake = FakeTime()
    clock = WallClock(fake.wait, latest=lambda seconds: max(seconds, 7.0), now=fake.now)
    clock.enter(Account.SUBMISSION)
    fake.seconds += 3.0
    assert clock.read() == 7.0


@given(st.integers(1, 5000), st.floats(1.0, 1e5))
def test_virtual_time_spends_the_budget_in_exactly_the_hinted_steps(step_hint, budget_s):
    clock = VirtualClock(budget_s, step_hint)
    clock.enter(Account.SUBMISSION)
    for _ in range(step_hint - 1):
        clock.step()
    assert not clock.passed(budget_s)
    clock.step()
    assert clock.passed(budget_s)
    assert clock.total_s == clock.submission_s


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_virtual_time_goes_on_after_a_restart(before, after):
    def run(clock, steps):
        for _ in range(steps):
            clock.step()

    whole, first, second = (VirtualClock(120.0, 777) for _ in range(3))
    run(whole, before + after)
    run(first, before)
    second.restore(first.state())
    run(second, after)
    assert second.seconds == whole.seconds
