"""Whatever is killed and whenever: every trial ends exactly once, and with the numbers of an undisturbed run."""

import random
from pathlib import Path

import pytest
import suites

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

NUM_TRIALS = 12
NUM_MOMENTS = 20


@pytest.fixture
def learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    require(Framework.JAX)
    # Short, because there are many trials; long enough for things to happen between two steps.
    monkeypatch.setenv("PAUSE_S", "0.05")
    return suites.write_learner(tmp_path / "learner")


def arguments(experiment: Path, learner: Path) -> list[str]:
    options = {"studies": NUM_TRIALS, "retries": 1000, "retry_after": 0.1, "preflight": False, "report": False}
    return suites.suite_arguments(experiment, learner, Framework.JAX, **options)


@pytest.mark.timeout(1200)
def test_killed_at_random_moments(learner: Path, tmp_path: Path) -> None:
    alone, killed, log = tmp_path / "alone", tmp_path / "killed", tmp_path / "log"
    assert suites.start(arguments(alone, learner), log).wait() == 0
    seed = random.randrange(2**32)
    print("seed", seed)  # So that a failure can be looked into.
    suites.disturb(arguments(killed, learner), killed, log, random.Random(seed), NUM_MOMENTS, 3.0)
    assert suites.numbers(killed) == suites.numbers(alone)
    assert len(suites.numbers(killed)) == NUM_TRIALS
    suites.assert_each_ended_once(killed)
