"""How fast fastMRI's pipeline makes training batches of 32 slices of 320 x 320 pixels. Prints JSON.

Made-up volumes of 36 slices lie in files, as published ones do, of which more are read than are kept open. K-space is
640 x 368, the usual size, and 320 x 320, the least there can be. Pages are in memory (`slices_per_s`,
`slices_per_cpu_s`), or have to be read from the disk again (`cold_slices_per_s`). `growth_mib` is what the process
grows by over some epochs, once it has gone through one, and `batch_mib` is one batch. `needed_slices_per_s` is what the
benchmark's accelerators take: such a batch a step, in the budget of time by the step hint.
"""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from algoperf.data import Shards
from algoperf.spec import Split
from algoperf_fastmri import volumes
from algoperf_fastmri.data import FastmriDataset
from algoperf_fastmri.spec import FASTMRI
from algoperf_fastmri.volumes import StoredSlices, write_index, write_volume

VOLUMES, SLICES, BATCH_SIZE = 16, 36, 32
SHAPES = ((640, 368), (320, 320))
OPEN, ROUNDS = 8, 5


def write(folder: Path, shape: tuple[int, int]) -> StoredSlices:
    rng = np.random.default_rng(0)
    parts = rng.standard_normal((SLICES, *shape, 2), np.float32)
    kspace, images = parts.view(np.complex64)[..., 0], np.abs(parts[:, :320, :320, 0])
    for number in range(VOLUMES):
        write_volume(folder / f"file{number:02}.h5", kspace, images)
    write_index(folder)
    return StoredSlices(folder)


def forget_pages(folder: Path) -> None:
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def rate(batches: object) -> tuple[float, float]:
    """Slices per second of the wall clock, and of the processors, over an epoch."""
    start, start_cpu = time.perf_counter(), time.process_time()
    count = VOLUMES * SLICES // BATCH_SIZE
    for _ in range(count):
        next(batches)  # type: ignore[call-overload]
    slices = count * BATCH_SIZE
    return slices / (time.perf_counter() - start), slices / (time.process_time() - start_cpu)


def measure(shape: tuple[int, int]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slices = write(folder, shape)
        batches = iter(FastmriDataset(FASTMRI, {Split.TRAIN: slices}).train(BATCH_SIZE, Shards(), seed=0))
        rate(batches)
        before = psutil.Process().memory_info().rss
        rates = [rate(batches) for _ in range(ROUNDS)]
        growth = psutil.Process().memory_info().rss - before
        forget_pages(folder)
        cold, _ = rate(batches)
    return {
        "slices_per_s": round(statistics.median(wall for wall, _ in rates)),
        "slices_per_cpu_s": round(statistics.median(cpu for _, cpu in rates)),
        "cold_slices_per_s": round(cold),
        "growth_mib": round(growth / 2**20, 1),
    }


def main() -> None:
    volumes._MAX_OPEN = OPEN
    results = {f"{height}x{width}": measure((height, width)) for height, width in SHAPES}
    batch_mib = round(BATCH_SIZE * 2 * 320 * 320 * 4 / 2**20, 1)
    needed = round(BATCH_SIZE * FASTMRI.step_hint / FASTMRI.budgets["v1.0"].max_runtime_s)
    facts = {"batch_size": BATCH_SIZE, "batch_mib": batch_mib, "needed_slices_per_s": needed}
    print(json.dumps({"benchmark": "fastmri_data", **facts, **results}))


if __name__ == "__main__":
    main()
