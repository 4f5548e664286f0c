"""At full size the embedding table, which is most of the model, is never in memory twice."""

import subprocess
import sys
from pathlib import Path

import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import BOTH, require

# Of the process's own status, not of `getrusage`, whose peak begins with that of the process that started this one.
EVALUATE = """
import sys
from pathlib import Path
import numpy as np
from algoperf import registry
from algoperf.seeds import random_key
from algoperf.spec import Framework

def memory(kind):
    fields = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return next(int(field[1]) * 1024 for field in fields if field[0] == kind)

workload = registry.make_workload(registry.workload_spec("criteo1tb"), Framework(sys.argv[1]))
workload.parameters()
before = memory("VmRSS:")
params, _ = workload.init_model_fn(random_key(0))
params = workload.backend.place_state(params)
workload.backend.wait(params)
after = memory("VmRSS:")
arrays = {"inputs": np.zeros((8, 39)), "targets": np.zeros((8, 1)), "weights": np.ones((8, 1))}
batch = workload.place_batch({name: array.astype(np.float32) for name, array in arrays.items()})
workload.backend.to_host(workload.compiled_eval_step(params, None, batch, None))
print(before, after, memory("VmHWM:"))
"""
SIZE = 539_267_457 * 4


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's peak of memory")
@pytest.mark.parametrize("framework", BOTH)
def test_parameters_are_made_placed_and_read_in_their_own_size(framework: Framework) -> None:
    require(framework)
    command = [sys.executable, "-c", EVALUATE, framework.value]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, after, peak = map(int, done.stdout.split())
    # All of it is really there: memory that nothing was written to would not count.
    assert after - before > 0.99 * SIZE
    assert peak - before < 1.3 * SIZE
