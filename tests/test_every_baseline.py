"""Every baseline on every workload at mini scale: it takes steps, learns, and goes on from a checkpoint."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mini_training import WORKLOADS

from algoperf import registry
from algoperf.checkpoint import Checkpoints
from algoperf.seeds import random_key
from algoperf.spec import Framework
from algoperf.testing.bench import Bench
from algoperf.testing.frameworks import require
from algoperf.testing.training import Training, train

NUM_STEPS = 100
BASELINES = [
    name
    for name in registry.submission_names()
    if registry.submission_spec(name).package.startswith("algoperf_baselines.")
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=WORKLOADS)
def workload_name(request: pytest.FixtureRequest) -> Any:
    """A base workload."""
    return request.param


@pytest.fixture(scope="module", params=Framework)
def bench(request: pytest.FixtureRequest, workload_name: str, data_dir: Path) -> Bench:
    """The workload in a framework, for all baselines."""
    require(request.param)
    return Bench(workload_name, request.param, data_dir, {})


@pytest.fixture
def training(bench: Bench, name: str) -> Iterator[Training]:
    """The baseline on the workload."""
    run = train(name, bench.workload)
    yield run
    run.close()


@pytest.mark.parametrize("name", BASELINES)
def test_it_learns_and_goes_on_from_a_checkpoint(bench: Bench, training: Training, tmp_path: Path) -> None:
    batch = training.step()
    before, _ = bench.driver.loss_and_gradients(training.state[1:], batch, random_key(0))
    for _ in range(NUM_STEPS - 1):
        training.step()
    after, _ = bench.driver.loss_and_gradients(training.state[1:], batch, random_key(0))
    assert after < before

    backend = training.workload.backend
    Checkpoints(tmp_path, backend).save(training.global_step, {"state": training.state})
    batches = [training.step() for _ in range(2)]
    expected = training.arrays()
    loaded = Checkpoints(tmp_path, backend).load({"state": training.state})
    assert loaded is not None
    training.state, training.global_step = loaded["state"], NUM_STEPS
    for one in batches:
        training.step(one)
    for parameter, array in training.arrays().items():
        np.testing.assert_array_equal(array, expected[parameter], err_msg=parameter)
