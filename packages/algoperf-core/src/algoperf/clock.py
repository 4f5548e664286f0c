"""Who pays for each second of a trial.

At every moment one account is charged. Changing the account first waits until the devices are idle, so that work
is charged to whoever asked for it, and no second falls between two accounts: they add up to the wall time.

Two clocks have the same methods. `WallClock` is the official one. With `VirtualClock` a step costs a fixed
time and nothing else costs anything, so a run is the same on every machine, however busy.
"""

from __future__ import annotations

import abc
import enum
import time
from collections.abc import Callable, Mapping
from typing import Any


class Account(enum.StrEnum):
    """What a second was spent on. Only `SUBMISSION` counts against the budget."""

    SETUP = "setup"
    SUBMISSION = "submission"
    EVALUATION = "evaluation"
    LOGGING = "logging"


class Clock(abc.ABC):
    """Seconds per account. Starts on `SETUP`."""

    name: str

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(Account, 0.0)
        self.account = Account.SETUP

    @property
    def submission_s(self) -> float:
        """Submission time as of the last reading, in seconds."""
        return self.seconds[Account.SUBMISSION]

    @property
    def total_s(self) -> float:
        """Time on all accounts as of the last reading, in seconds."""
        return sum(self.seconds.values())

    def enter(self, account: Account) -> None:
        """Charges what has passed to the account so far, and what comes to `account`."""
        self.read()
        self.account = account

    @abc.abstractmethod
    def read(self) -> float:
        """Charges what has passed to the current account, and returns the submission time."""

    @abc.abstractmethod
    def step(self) -> None:
        """To be called once after each step of training."""

    @abc.abstractmethod
    def passed(self, deadline_s: float) -> bool:
        """Whether submission time has reached a deadline. Meant to be asked after every step."""

    @property
    @abc.abstractmethod
    def processes_agree(self) -> bool:
        """Whether, after this step, all processes may talk to each other without a cost worth naming.

        True at the same steps in all of them, and often enough that a person does not wait.
        """

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of the clock; plain data."""
        return {"seconds": {str(account): seconds for account, seconds in self.seconds.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint: what has passed since then was lost, and is charged to nobody."""
        self.read()
        self.seconds = {account: float(state["seconds"][account]) for account in Account}


class WallClock(Clock):
    """Monotonic time, read when all devices of all processes are idle.

    Waiting for the devices after each step would cost JAX its asynchronous dispatch. So after each reading the
    clock decides for how many steps it need not look: as many as fit, at the speed just seen, into half of the
    time to the deadline, and at most `MAX_STEPS_UNREAD` and one second. All processes decide alike.

    Args:
        wait: returns when the devices are idle.
        latest: the largest of all processes' values; a collective call.
        now: a monotonic time in seconds.
    """

    name = "wall"
    MAX_STEPS_UNREAD = 100
    MAX_SECONDS_UNREAD = 1.0

    def __init__(
        self,
        wait: Callable[[], None] = lambda: None,
        latest: Callable[[float], float] = lambda seconds: seconds,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._wait, self._latest, self._now = wait, latest, now
        self._mark = now()
        self._steps_since_reading = 0
        self._steps_to_skip = 0

    def read(self) -> float:
        """Waits for the devices and charges the time since the last reading."""
        self._wait()
        now = self._now()
        self.seconds[self.account] += self._latest(now - self._mark)
        self._mark = now
        self._steps_since_reading = 0
        self._steps_to_skip = 0
        return self.submission_s

    def step(self) -> None:
        """Counts a step."""
        self._steps_since_reading += 1

    @property
    def processes_agree(self) -> bool:
        """Whether the time was read after this step: they have just waited for each other."""
        return self._steps_since_reading == 0

    def passed(self, deadline_s: float) -> bool:
        """Reads the time, unless the deadline is too far away for this step to matter."""
        if self._steps_since_reading < self._steps_to_skip:
            return False
        steps, before = self._steps_since_reading, self.submission_s
        seconds = self.read()
        step_s = (seconds - before) / max(steps, 1)
        horizon_s = min((deadline_s - seconds) / 2, self.MAX_SECONDS_UNREAD)
        if horizon_s > 0:
            affordable = horizon_s / step_s if step_s > 0 else self.MAX_STEPS_UNREAD
            self._steps_to_skip = int(min(affordable, self.MAX_STEPS_UNREAD))
        return seconds >= deadline_s


class VirtualClock(Clock):
    """A step costs `budget / step_hint` seconds of submission time; nothing else costs anything.

    Args:
        max_runtime_s: the workload's budget.
        step_hint: the workload's step hint.
    """

    name = "virtual"
    STEPS_BETWEEN_TALKS = 20

    def __init__(self, max_runtime_s: float, step_hint: int) -> None:
        super().__init__()
        self._max_runtime_s, self._step_hint = max_runtime_s, step_hint
        self._steps = 0

    def read(self) -> float:
        """The time as it is."""
        return self.submission_s

    def step(self) -> None:
        """Charges one step."""
        self._steps += 1
        # A product, not a running sum: `step_hint` steps cost exactly the budget.
        self.seconds[Account.SUBMISSION] = self._max_runtime_s * (self._steps / self._step_hint)

    @property
    def processes_agree(self) -> bool:
        """Whether this is one of every `STEPS_BETWEEN_TALKS` steps."""
        return self._steps % self.STEPS_BETWEEN_TALKS == 0

    def passed(self, deadline_s: float) -> bool:
        """Whether the steps so far cost `deadline_s` or more."""
        # Deadlines are sums of such products; their rounding must not cost a step.
        return self.submission_s >= deadline_s * (1 - 1e-12)

    def state(self) -> dict[str, Any]:
        """The seconds and the steps."""
        return super().state() | {"steps": self._steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint."""
        super().restore(state)
        self._steps = int(state["steps"])
