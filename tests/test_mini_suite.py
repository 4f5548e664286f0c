"""A real small workload, killed: it ends once, and with the numbers of an undisturbed run."""

import random

import pytest
import suites

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

NUM_MOMENTS = 3


@pytest.mark.timeout(1200)
def test_ogbg_killed_at_random_moments(data_dir, tmp_path):
    require(Framework.JAX)
    alone, killed, log = tmp_path / "alone", tmp_path / "killed", tmp_path / "log"
    options = {"ruleset": "external", "workloads": "ogbg", "studies": 2, "trials": 1, "max_steps": 150, "report": False}
    options |= {"retries": 100, "retry_after": 0.1, "preflight": False, "data_dir": data_dir}
    assert suites.start(suites.suite_arguments(alone, "nadamw", Framework.JAX, **options), log).wait() == 0
    seed = random.randrange(2**32)
    print("seed", seed)  # So that a failure can be looked into.
    command = suites.suite_arguments(killed, "nadamw", Framework.JAX, **options)
    suites.disturb(command, killed, log, random.Random(seed), NUM_MOMENTS, 25.0)
    assert suites.numbers(killed) == suites.numbers(alone)
    assert len(suites.numbers(killed)) == 2
    suites.assert_each_ended_once(killed)
