"""How fast Criteo's pipeline makes training batches of 262,144 rows from memory-mapped files. Prints JSON.

Nine million made-up rows lie in 23 files, as days do; their pages are in memory (`rows_per_cpu_s`,
`rows_per_s`), or have to be read from the disk again (`cold_rows_per_s`). A batch draws from a window of 4,194,304 rows
(`window`), as at full scale. `order_share` is the share of the time that drawing their order takes. `growth_mib` is
what the process grows by, without the pages of files, and `batch_mib` is one batch.
"""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from algoperf.data import BlockShuffledOrder, Shards
from algoperf.spec import Split
from algoperf_criteo.data import CriteoDataset, Rows
from algoperf_criteo.spec import CRITEO1TB, NUM_COLUMNS
from algoperf_criteo.store import StoredRows, write_rows

PARTS, PART_ROWS, BATCH_SIZE = 23, 2**18 + 2**17, 262_144
ROUNDS, BATCHES = 6, 16


def write(folder: Path) -> Rows:
    rng = np.random.default_rng(0)
    block = rng.random((2**16, NUM_COLUMNS), np.float32), rng.integers(0, 2, 2**16, np.uint8)
    for number in range(PARTS):
        write_rows(folder / str(number), PART_ROWS, (block for _ in range(PART_ROWS // 2**16)))
    return Rows([StoredRows.load(folder / str(number)) for number in range(PARTS)])


def forget_pages(folder: Path) -> None:
    for path in folder.rglob("*.npy"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def rate(batches: object, count: int) -> tuple[float, float]:
    """Rows per second of the wall clock, and of the processors."""
    start, start_cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        next(batches)  # type: ignore[call-overload]
    rows = count * BATCH_SIZE
    return rows / (time.perf_counter() - start), rows / (time.process_time() - start_cpu)


def own_memory() -> int:
    memory = psutil.Process().memory_info()
    return memory.rss - memory.shared


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = write(folder)
        batches = iter(CriteoDataset(CRITEO1TB, {Split.TRAIN: rows}).train(BATCH_SIZE, Shards(), seed=0))
        rate(batches, BATCHES)
        before = own_memory()
        rates = [rate(batches, BATCHES) for _ in range(ROUNDS)]
        growth = own_memory() - before
        del rows, batches
        forget_pages(folder)
        rows = Rows([StoredRows.load(folder / str(number)) for number in range(PARTS)])
        cold, _ = rate(iter(CriteoDataset(CRITEO1TB, {Split.TRAIN: rows}).train(BATCH_SIZE, Shards(), seed=1)), BATCHES)
    shuffling = CRITEO1TB.dataset.options
    order = BlockShuffledOrder(CRITEO1TB.num_train_examples, 0, shuffling.block, shuffling.window)
    start = time.process_time()
    for number in range(BATCHES):
        order.take(number * BATCH_SIZE, BATCH_SIZE)
    per_cpu_s = statistics.median(cpu for _, cpu in rates)
    order_s = (time.process_time() - start) / (BATCHES * BATCH_SIZE)
    result = {
        "rows_per_s": round(statistics.median(wall for wall, _ in rates)),
        "rows_per_cpu_s": round(per_cpu_s),
        "cold_rows_per_s": round(cold),
        "order_share": round(order_s * per_cpu_s, 3),
        "growth_mib": round(growth / 2**20, 1),
        "batch_mib": round(BATCH_SIZE * 4 * (NUM_COLUMNS + 1) / 2**20, 1),
    }
    print(
        json.dumps(
            {
                "benchmark": "criteo_data",
                "batch_size": BATCH_SIZE,
                "window": shuffling.block * shuffling.window,
                **result,
            }
        )
    )


if __name__ == "__main__":
    main()
