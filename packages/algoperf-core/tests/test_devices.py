"""A result does not depend on how many devices a batch is divided among."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

SCRIPT = Path(__file__).parent / "run_devices.py"


def run(framework, folder, devices, clock="virtual", *submission):
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    command = [str(SCRIPT), framework.value, str(folder), clock, *submission]
    if framework is Framework.JAX:
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    elif devices > 1:
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(devices), *command]
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


def assert_close(first, second, relative):
    """Equal but for the order in which float32 sums are taken."""
    assert first["reason"] == second["reason"] == "steps"
    rows = [[*result["evaluations"], result["initial"]] for result in (first, second)]
    for one, other in zip(*rows, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            # Accuracies are counts: a sum in another order may move one of at least 100 examples over the edge.
            tolerance = {"abs": 0.011} if name.endswith("accuracy") else {"rel": relative}
            assert other[name] == pytest.approx(value, **tolerance), name


def test_jax_on_1_and_4_devices(tmp_path):
    require(Framework.JAX)
    one, four = (run(Framework.JAX, tmp_path / str(devices), devices) for devices in (1, 4))
    assert four["shards"] == 4
    assert_close(one, four, 1e-4)


def test_pytorch_on_1_and_2_processes(tmp_path):
    require(Framework.PYTORCH)
    one, two = (run(Framework.PYTORCH, tmp_path / str(devices), devices) for devices in (1, 2))
    assert two["shards"] == 2
    assert_close(one, two, 1e-4)


def test_two_processes_agree_on_the_wall_time(tmp_path):
    require(Framework.PYTORCH)
    result = run(Framework.PYTORCH, tmp_path / "wall", 2, "wall")
    times = [row["accumulated_submission_time"] for row in result["evaluations"]]
    assert result["reason"] == "steps"
    assert times == sorted(times)
    assert times[0] > 0


@pytest.fixture(scope="module")
def momentum(tmp_path_factory):
    require(Framework.JAX)
    return run(Framework.JAX, tmp_path_factory.mktemp("momentum"), 1)


PMAP = ("virtual", "pmap/submission.py", "pmap")


@pytest.fixture(scope="module")
def pmap_on_two(tmp_path_factory):
    require(Framework.JAX)
    return run(Framework.JAX, tmp_path_factory.mktemp("pmap"), 2, *PMAP)


def test_a_submission_by_pmap_trains_as_the_same_of_today(momentum, pmap_on_two, tmp_path):
    assert_close(momentum, run(Framework.JAX, tmp_path, 1, *PMAP), 1e-4)
    assert pmap_on_two["shards"] == 2
    assert_close(momentum, pmap_on_two, 1e-4)


def test_a_submission_by_pmap_goes_on_between_two_evaluations(pmap_on_two, tmp_path):
    """With the state as the submission had it, on all devices."""
    resumed = run(Framework.JAX, tmp_path, 2, *PMAP, "14")
    rows = [
        [{name: row[name] for name in row.keys() - {"preemption_count"}} for row in one["evaluations"]]
        for one in (pmap_on_two, resumed)
    ]
    assert rows[0] == rows[1]
