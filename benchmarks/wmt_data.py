"""How fast WMT's pipeline makes batches of packed rows, and how much of them is padding. Prints JSON.

The 300,000 sentence pairs have the lengths of news and parliament (log-normal, 31 and 30 tokens on average, up to 256);
their tokens are random. `next_fit_waste` is the padding that the public reference's packing leaves: one open row, in
groups of 256 pairs. `resume_s` is the time from opening to the first batch of a resumed run.
"""

import json
import statistics
import time

import numpy as np
import psutil

from algoperf.data import Shards
from algoperf.data.token_files import StoredSentences
from algoperf.spec import Split
from algoperf_wmt.data import WmtDataset
from algoperf_wmt.spec import WMT
from algoperf_wmt.store import StoredPairs

PAIRS, BATCH_SIZE, LENGTH = 300_000, 128, 256
ROUNDS, BATCHES = 8, 100


def pairs() -> StoredPairs:
    rng = np.random.default_rng(0)
    common = rng.lognormal(3.2, 0.65, PAIRS)
    sides = (common * rng.lognormal(mean, spread, PAIRS) for mean, spread in ((0.03, 0.18), (0.0, 0.12)))
    lengths = np.stack(list(sides), axis=1).astype(np.int64).clip(2, LENGTH)
    ends = np.append(0, np.cumsum(lengths.reshape(-1)))
    return StoredPairs(StoredSentences(rng.integers(3, 32_000, ends[-1], np.uint16), ends))


def next_fit_rows(lengths: np.ndarray) -> int:
    rows = 0
    for start in range(0, len(lengths), 256):
        rows += 1
        filled = np.zeros(2, np.int64)
        for length in lengths[start : start + 256]:
            if (filled + length > LENGTH).any():
                rows, filled = rows + 1, np.zeros(2, np.int64)
            filled += length
    return rows


def main() -> None:
    stored = pairs()
    dataset = WmtDataset(WMT, {Split.TRAIN: stored}, tokenizer=None)  # type: ignore[arg-type]
    start = time.perf_counter()
    batches = iter(dataset.train(BATCH_SIZE, Shards(), seed=0))
    batches.set_state({"position": 40 * 2_048})
    next(batches)
    resume_s = time.perf_counter() - start
    rates, shares, process = [], [], psutil.Process()
    before = process.memory_info().rss
    for _ in range(ROUNDS):
        start, tokens = time.perf_counter(), 0
        for _ in range(BATCHES):
            batch = next(batches)
            tokens += sum(int((batch[f"{side}_segmentation"] > 0).sum()) for side in ("inputs", "targets"))
        rates.append(tokens / (time.perf_counter() - start))
        shares.append(tokens / (BATCHES * BATCH_SIZE * LENGTH * 2))
    sample = stored.lengths[:20_000]
    result = {
        "tokens_per_s": round(statistics.median(rates)),
        "waste": round(1 - statistics.mean(shares), 4),
        "next_fit_waste": round(1 - float(sample.sum()) / (next_fit_rows(sample) * LENGTH * 2), 4),
        "resume_s": round(resume_s, 3),
        "memory_growth_mib": round((process.memory_info().rss - before) / 2**20, 1),
    }
    print(json.dumps({"benchmark": "wmt_data", "rows": BATCH_SIZE, "tokens_per_row": LENGTH, **result}))


if __name__ == "__main__":
    main()
