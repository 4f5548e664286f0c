"""Click logs as small as tests need them, and what is in them, worked out a field at a time."""

import gzip
import math
import random
from pathlib import Path

import numpy as np

from algoperf.data.preparation import Preparation
from algoperf_criteo.farmhash import NUM_BUCKETS
from algoperf_criteo.published import Day
from algoperf_criteo.store import StoredRows

NUM_TRAINED, NUM_TEST, NUM_VALIDATION = (40, 70, 30), 25, 15


def rows(number, seed=0):
    """Fields of rows as they are published: some 20% of integers and 10% of categories are empty."""
    rng = random.Random(seed)
    return [
        [
            rng.choices(["0", "1"], [3, 1])[0],
            *(rng.choices(["", "-1", "-2", str(int(10 ** rng.uniform(0, 10)))], [20, 4, 2, 74])[0] for _ in range(13)),
            *(rng.choices(["", "-1", f"{rng.getrandbits(32):08x}"], [10, 1, 89])[0] for _ in range(26)),
        ]
        for _ in range(number)
    ]


def text(some_rows):
    return "".join("\t".join(row) + "\n" for row in some_rows).encode()


def fingerprint64(key):
    """FarmHash's Fingerprint64 of 8 to 16 bytes, a number at a time."""
    assert 8 <= len(key) <= 16
    everything, k2 = 2**64 - 1, 0x9AE16A3B2F90404F
    mul = k2 + 2 * len(key) & everything

    def rotated(value, bits):
        return (value >> bits | value << 64 - bits) & everything

    a = int.from_bytes(key[:8], "little") + k2 & everything
    b = int.from_bytes(key[-8:], "little")
    u = rotated(b, 37) * mul + a & everything
    v = (rotated(a, 25) + b) * mul & everything
    first = (u ^ v) * mul & everything
    first ^= first >> 47
    second = (v ^ first) * mul & everything
    second ^= second >> 47
    return second * mul & everything


def expected(some_rows):
    """Inputs and labels that the rows should become."""
    inputs, labels = [], []
    for label, *fields in some_rows:
        integers = [max(0, int(field or 0)) for field in fields[:13]]
        dense = [np.float32(math.log(np.float32(np.float32(integer) + np.float32(1)))) for integer in integers]
        categories = [field if field not in ("", "-1") else "00000000" for field in fields[13:]]
        hashes = [fingerprint64(f"{category}{column}".encode()) for column, category in enumerate(categories)]
        ids = [np.float32(hashed % size) for hashed, size in zip(hashes, NUM_BUCKETS, strict=True)]
        inputs.append([*dense, *ids])
        labels.append(label == "1")
    return np.array(inputs, np.float32).reshape(-1, 39), np.array(labels, np.uint8)


def silent(_):
    pass


def job(folder, source, report=silent):
    folder.mkdir(parents=True, exist_ok=True)
    return Preparation(folder=folder, source=source, report=report)


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def contents_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in files_in(folder)}


class ClickLogs:
    """Small files, laid out as the published ones, and what is in them: per folder of the prepared data its rows."""

    def __init__(self, folder):
        self.folder = folder
        sizes = [{f"day_{number:02}": size} for number, size in enumerate(NUM_TRAINED)]
        sizes += [{"test": NUM_TEST, "validation": NUM_VALIDATION}]
        self.published = [
            Day(name=f"day_{number}.gz", obtain=f"download day {number}", parts=parts)
            for number, parts in enumerate(sizes)
        ]
        self.rows = {part: rows(size, part) for day in self.published for part, size in day.parts.items()}
        folder.mkdir()
        for day in self.published:
            self.write(day.name, text([row for part in day.parts for row in self.rows[part]]))

    def write(self, name, content):
        (self.folder / name).write_bytes(gzip.compress(content, mtime=0))

    def check(self, folder):
        """Compares what was prepared with what the files were made of."""
        for part, some_rows in self.rows.items():
            check_rows(folder / part, some_rows)


def check_rows(folder: Path, some_rows):
    stored = StoredRows.load(folder)
    inputs, labels = expected(some_rows)
    np.testing.assert_array_equal(stored.inputs, inputs)
    np.testing.assert_array_equal(stored.labels, labels)
