"""How fast the language model's pipeline makes batches of 64 sequences of 1,024 tokens from a memory-mapped file.

Prints JSON. Of two million made-up sequences, 4.1 GB, the pages are in memory; at full scale there are four times as
many. `tokens_per_s` are those of the inputs. `resume_s` is the time from opening to the first batch of a resumed run,
which draws the order of an epoch. `growth_mib` is what the process grows by, without the pages of the file.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from algoperf.data import Shards
from algoperf.data.token_files import save_tokens
from algoperf.spec import Split
from algoperf_lm.data import LmDataset
from algoperf_lm.spec import FINEWEBEDU_LM
from algoperf_lm.store import load_sequences

SEQUENCES, BATCH_SIZE, LENGTH = 2_000_000, 64, 1_024
ROUNDS, BATCHES = 8, 400


def write(path: Path) -> None:
    block = np.random.default_rng(0).integers(0, 50_257, (2_000, LENGTH + 1), np.uint16).ravel()
    save_tokens(path, SEQUENCES * (LENGTH + 1), (block for _ in range(SEQUENCES // 2_000)))


def own_memory() -> int:
    memory = psutil.Process().memory_info()
    return memory.rss - memory.shared


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "train.npy"
        write(path)
        start = time.perf_counter()
        dataset = LmDataset(FINEWEBEDU_LM, {Split.TRAIN: load_sequences(path, LENGTH)})
        batches = iter(dataset.train(BATCH_SIZE, Shards(), seed=0))
        batches.set_state({"position": 40_000 * BATCH_SIZE})
        next(batches)
        resume_s = time.perf_counter() - start
        rates, cpu_rates, before = [], [], own_memory()
        for _ in range(ROUNDS):
            start, start_cpu = time.perf_counter(), time.process_time()
            for _ in range(BATCHES):
                next(batches)
            tokens = BATCHES * BATCH_SIZE * LENGTH
            rates.append(tokens / (time.perf_counter() - start))
            cpu_rates.append(tokens / (time.process_time() - start_cpu))
        result = {
            "tokens_per_s": round(statistics.median(rates)),
            "tokens_per_cpu_s": round(statistics.median(cpu_rates)),
            "resume_s": round(resume_s, 2),
            "growth_mib": round((own_memory() - before) / 2**20, 1),
        }
    print(json.dumps({"benchmark": "lm_data", "batch_size": BATCH_SIZE, "length": LENGTH, **result}))


if __name__ == "__main__":
    main()
