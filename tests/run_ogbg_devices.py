"""Prints OGBG's mini metrics of fresh parameters on this process's devices: `run_ogbg_devices.py FRAMEWORK DATA`."""

import json
import sys
from pathlib import Path

from algoperf import registry
from algoperf.seeds import random_key
from algoperf.spec import Framework, Scale


def main() -> None:
    spec = registry.workload_spec("ogbg").at(Scale.MINI)
    workload = registry.make_workload(spec, Framework(sys.argv[1]), Path(sys.argv[2]))
    params, model_state = workload.init_model_fn(random_key(0))
    # `finalize` refuses a split of which it has not seen every graph once.
    metrics = workload.evaluate(params, model_state, random_key(1))
    if workload.backend.rank == 0:
        print("RESULT " + json.dumps(metrics), flush=True)


if __name__ == "__main__":
    main()
