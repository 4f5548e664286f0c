"""Evaluates ten million rows of Criteo, as the harness does, in memory that does not grow. Prints JSON.

Made-up rows lie in memory-mapped files of `rows_mib`. The model and its batches of 8,192 rows are those of mini scale,
so that what is measured is the loop. `peak_first_tenth_mib` is the largest memory of the process, without the pages of
files, until a tenth of the time was over, `peak_mib` that of the whole evaluation.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from algoperf import registry
from algoperf.seeds import random_key
from algoperf.spec import Framework, Scale, Split
from algoperf.testing.frameworks import is_installed
from algoperf_criteo.data import CriteoDataset, Rows
from algoperf_criteo.spec import CRITEO1TB, NUM_COLUMNS
from algoperf_criteo.store import StoredRows, write_rows

ROWS, BLOCK = 10_000_000, 50_000


def write(folder: Path) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.random((BLOCK, NUM_COLUMNS), np.float32)
    inputs[:, 13:] *= 2**24
    block = inputs, rng.integers(0, 2, BLOCK, np.uint8)
    write_rows(folder, ROWS, (block for _ in range(ROWS // BLOCK)))


class Memory(threading.Thread):
    """Watches the memory that is this process's own."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[int] = []

    def run(self) -> None:
        """Until the program ends."""
        process = psutil.Process()
        while True:
            memory = process.memory_info()
            self.samples.append(memory.rss - memory.shared)
            time.sleep(0.05)


def measure(framework: Framework, folder: Path) -> dict[str, float]:
    spec = replace(CRITEO1TB.at(Scale.MINI), num_test_examples=ROWS)
    workload = registry.make_workload(spec, framework)
    workload.dataset = CriteoDataset(spec, {Split.TEST: Rows([StoredRows.load(folder)])})
    state = workload.init_model_fn(random_key(0))
    memory, start = Memory(), time.perf_counter()
    memory.start()
    metrics = workload.evaluate(*state, random_key(1), [Split.TEST])
    assert metrics["test/num_examples"] == ROWS
    seconds, samples = time.perf_counter() - start, memory.samples
    return {
        "seconds": round(seconds, 1),
        "rows_per_s": round(ROWS / seconds),
        "peak_first_tenth_mib": round(max(samples[: len(samples) // 10]) / 2**20, 1),
        "peak_mib": round(max(samples) / 2**20, 1),
    }


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(measure(Framework(sys.argv[1]), Path(sys.argv[2]))))
        return
    result = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "rows"
        write(folder)
        for framework in [f for f in Framework if is_installed(f)]:
            command = [sys.executable, __file__, framework.value, str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            result[framework.value] = json.loads(done.stdout.splitlines()[-1])
    rows_mib = round(ROWS * 4 * NUM_COLUMNS / 2**20)
    print(json.dumps({"benchmark": "criteo_evaluation", "rows": ROWS, "rows_mib": rows_mib, **result}))


if __name__ == "__main__":
    main()
