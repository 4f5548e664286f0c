"""A real small workload, killed: it ends once, and with the numbers of an undisturbed run."""

import random
import time

import pytest
import suites

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

NUM_MOMENTS = 3
# Steps of each trial. The second has batch-norm statistics, and kernels that lie in memory in another order.
CASES = [("criteo1tb", Framework.JAX, 300), ("imagenet_resnet", Framework.PYTORCH, 120)]


@pytest.mark.parametrize(("workload", "framework", "steps"), CASES)
@pytest.mark.timeout(1200)
def test_a_suite_killed_at_random_moments(workload, framework, steps, data_dir, tmp_path):
    require(framework)
    alone, killed, log = tmp_path / "alone", tmp_path / "killed", tmp_path / "log"
    options = {"ruleset": "external", "workloads": workload, "studies": 2, "trials": 1, "max_steps": steps}
    options |= {"report": False, "retries": 100, "retry_after": 0.1, "preflight": False, "data_dir": data_dir}
    begin = time.monotonic()
    assert suites.start(suites.suite_arguments(alone, "nadamw", framework, **options), log).wait() == 0
    # Kills make it longer: the last one comes before its end, however fast this machine is.
    within_s = 0.6 * (time.monotonic() - begin) / NUM_MOMENTS
    seed = random.randrange(2**32)
    print("seed", seed)  # So that a failure can be looked into.
    command = suites.suite_arguments(killed, "nadamw", framework, **options)
    suites.disturb(command, killed, log, random.Random(seed), NUM_MOMENTS, within_s)
    assert suites.numbers(killed) == suites.numbers(alone)
    assert len(suites.numbers(killed)) == 2
    suites.assert_each_ended_once(killed)
