"""How fast OGBG's pipeline makes batches of the prepared mini molecules, and whether its memory grows. Prints JSON.

Needs the mini molecules: `algoperf-orchestrate data prepare ogbg --scale mini`.
"""

import json
import statistics
import time

import psutil

from algoperf import registry
from algoperf.data import Shards
from algoperf.data.preparation import open_prepared
from algoperf.data.queue import InputQueue
from algoperf.spec import Scale
from algoperf_orchestrator.environment import default_data_dir

BATCHES = 1000
ROUNDS = 10


def main() -> None:
    spec = registry.workload_spec("ogbg").at(Scale.MINI)
    dataset = open_prepared(spec, default_data_dir())
    process = psutil.Process()
    rates, memory = [], []
    with InputQueue(dataset.train(spec.batch_size, Shards(), seed=0), place=lambda batch: batch) as queue:
        for _ in range(ROUNDS):
            start, graphs = time.perf_counter(), 0.0
            for _ in range(BATCHES // ROUNDS):
                graphs += float(next(queue)["is_real"].sum())
            rates.append(graphs / (time.perf_counter() - start))
            memory.append(process.memory_info().rss)
    result = {
        "batch_size": spec.batch_size,
        "graphs_per_s": round(statistics.median(rates)),
        "batches": BATCHES,
        "memory_growth_mib_after_first_100": round((memory[-1] - memory[0]) / 2**20, 1),
    }
    print(json.dumps({"benchmark": "data_throughput", **result}))


if __name__ == "__main__":
    main()
