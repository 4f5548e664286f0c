"""Whatever is killed and whenever: every trial ends exactly once, and with the numbers of an undisturbed run."""

import random
from pathlib import Path

import pytest
import suites

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

NUM_TRIALS = 12
NUM_MOMENTS = 20
SUBMISSION = Path(__file__).parents[3] / "packages/algoperf-core/tests/submissions"
SLOW = """
_update = update_params

def update_params(**arguments):
    time.sleep(0.01)
    return _update(**arguments)
"""


@pytest.fixture
def learner(tmp_path: Path) -> Path:
    """A submission that learns the toy workload, and leaves time between its steps for things to happen."""
    require(Framework.JAX)
    folder = tmp_path / "learner"
    folder.mkdir()
    code = (SUBMISSION / "momentum_jax.py").read_text()
    (folder / "submission.py").write_text(f"import time\n{code}\n{SLOW}")
    return folder


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
