"""Every evaluation of OGBG covers every graph exactly once, and comes to the same, on any number of devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from algoperf import registry
from algoperf.spec import Framework, Scale
from algoperf.testing.frameworks import require

SCRIPT = Path(__file__).parent / "run_ogbg_devices.py"


def evaluate(framework, devices, data_dir):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [str(SCRIPT), framework.value, str(data_dir)]
    if framework is Framework.JAX:
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    elif devices > 1:
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(devices), *command]
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


@pytest.mark.parametrize(("framework", "counts"), [(Framework.JAX, (1, 2, 4)), (Framework.PYTORCH, (1, 2))])
@pytest.mark.timeout(900)
def test_metrics_do_not_depend_on_the_number_of_devices(framework, counts, data_dir):
    require(framework)
    spec = registry.workload_spec("ogbg").at(Scale.MINI)
    one, *others = (evaluate(framework, devices, data_dir) for devices in counts)
    assert one["validation/num_examples"] == spec.num_validation_examples
    for other in others:
        for name, value in one.items():
            # Graphs are packed differently, so float32 sums come in another order and near-ties change places.
            assert other[name] == pytest.approx(value, rel=2e-4), name
