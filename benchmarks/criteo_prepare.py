"""How fast Criteo's click logs become stored rows, in rows per second of one processor's time. Prints JSON.

The 200,000 rows are as those that are published: some 250 bytes each, a fifth of the integers and a tenth of the
categories are missing, and categories come as often as words in a language, so that gzip leaves about a third.
`shares` are those of the time from a compressed file: unzipping, the numbers of categories, and the rest of parsing;
`stored_rows_per_cpu_s` adds the writing of files. `cpu_hours` is what all 4.4 billion rows take.
"""

import gzip
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from isal import igzip

from algoperf.data.processors import num_processors
from algoperf_criteo.click_log import parse, read_click_log
from algoperf_criteo.farmhash import bucket_ids
from algoperf_criteo.published import PUBLISHED
from algoperf_criteo.store import write_rows

ROWS, ROUNDS, BLOCK_BYTES = 200_000, 5, 2**22
HASHED_ROWS = 500


def click_log() -> bytes:
    rng = np.random.default_rng(0)
    integers = rng.geometric(10.0 ** -rng.integers(0, 6, 13), (ROWS, 13)) - 1
    fields = [np.where(rng.random(ROWS) < 0.03, "1", "0")]
    for column in integers.T:
        missing = rng.choice(["", "-1"], ROWS, p=[0.9, 0.1])
        fields.append(np.where(rng.random(ROWS) < 0.2, missing, column.astype(str)))
    for column in range(26):
        # Multiplied so that all 8 digits are in use.
        numbers = (rng.zipf(1.3, ROWS) + column).astype(np.uint32) * np.uint32(2_654_435_761)
        texts = np.array([f"{number:08x}" for number in numbers.tolist()])
        fields.append(np.where(rng.random(ROWS) < 0.1, "", texts))
    return "".join("\t".join(row) + "\n" for row in zip(*fields)).encode()


def cpu_seconds(function: Callable[[], object]) -> float:
    """The least that it took: other programs slow this one down."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def exhaust(blocks: object) -> None:
    for _ in blocks:  # type: ignore[attr-defined]
        pass


def unzip(path: Path) -> None:
    with igzip.open(path) as file:
        while file.read(BLOCK_BYTES):
            pass


def blocks_of(text: bytes) -> list[bytes]:
    blocks, start = [], 0
    while start < len(text):
        end = text.rfind(b"\n", start, start + BLOCK_BYTES) + 1
        blocks.append(text[start:end])
        start = end
    return blocks


def main() -> None:
    text = click_log()
    blocks = blocks_of(text)
    words = np.random.default_rng(0).integers(0, 2**63, (26, HASHED_ROWS)).astype(np.uint64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "day.gz")
        path.write_bytes(gzip.compress(text, 6))
        from_text = cpu_seconds(lambda: exhaust(map(parse, blocks)))
        from_gzip = cpu_seconds(lambda: exhaust(read_click_log(path)))
        stored = cpu_seconds(lambda: write_rows(Path(folder, "rows"), ROWS, read_click_log(path)))
        unzipping = cpu_seconds(lambda: unzip(path))
        zipped = path.stat().st_size
    numbering = cpu_seconds(lambda: exhaust(map(bucket_ids, [words] * (ROWS // HASHED_ROWS))))
    shares = {
        "unzipping": unzipping / from_gzip,
        "numbers_of_categories": numbering / from_gzip,
        "rest": (from_gzip - unzipping - numbering) / from_gzip,
    }
    result = {
        "bytes_per_row": round(len(text) / ROWS, 1),
        "zipped": round(zipped / len(text), 3),
        "rows_per_cpu_s": round(ROWS / from_text),
        "unzipped_rows_per_cpu_s": round(ROWS / from_gzip),
        "stored_rows_per_cpu_s": round(ROWS / stored),
        "shares": {part: round(share, 3) for part, share in shares.items()},
        "cpu_hours": round(sum(day.num_rows for day in PUBLISHED) / (ROWS / stored) / 3_600, 2),
    }
    print(json.dumps({"benchmark": "criteo_prepare", "rows": ROWS, "processors": num_processors(), **result}))


if __name__ == "__main__":
    main()
