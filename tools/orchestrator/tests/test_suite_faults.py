"""Whatever is killed and whenever: every trial ends exactly once, and with the numbers of an undisturbed run."""

import random
import time
from collections.abc import Iterator
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
RESULTS = {"reached", "steps", "budget"}


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
    disturb(arguments(killed, learner), killed, log, random.Random(seed))
    assert suites.numbers(killed) == suites.numbers(alone)
    assert len(suites.numbers(killed)) == NUM_TRIALS
    for trial, reasons in suites.ends(killed).items():
        assert len([reason for reason in reasons if reason in RESULTS]) == 1, (trial, reasons)
        assert reasons[-1] in RESULTS
    assert not suites.trial_pids(killed)


def disturb(command: list[str], experiment: Path, log: Path, random_: random.Random) -> None:
    """Runs a suite to its end, and kills its processes at so many moments."""
    process = suites.start(command, log)
    for what in kinds(random_):
        time.sleep(random_.uniform(0.0, 3.0))
        assert process.poll() is None, "the suite ended before its last moment"
        # First the list, then the kills: "both" is to hit both before one can tell of the other.
        trials = suites.trial_pids(experiment)
        victims = {"orchestrator": [process.pid], "trial": trials[:1], "both": [process.pid, *trials]}[what]
        suites.kill(victims)
        if process.pid in victims:
            process.wait()
            process = suites.start(command, log)
    assert process.wait() == 0, log.read_text()


def kinds(random_: random.Random) -> Iterator[str]:
    """What to kill, each kind about as often."""
    for _ in range(NUM_MOMENTS):
        yield random_.choice(["orchestrator", "trial", "both"])
