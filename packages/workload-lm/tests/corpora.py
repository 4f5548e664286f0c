"""Small shards that are laid out as the published ones are, and a list of merges, for tests."""

import hashlib
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from algoperf.data.archives import Archive
from algoperf.data.preparation import Preparation
from algoperf.data.token_files import load_tokens
from algoperf_lm.gpt2 import END_OF_TEXT, Gpt2Tokenizer
from algoperf_lm.prepare import Splits
from algoperf_lm.split import by_document

LENGTH = 33
SPLITS = Splits(num_sequences={"train": 60, "validation": 7}, length=LENGTH, divide=by_document)
# Neither of documents that are found, nor of letters.
ODD = ["", "漢字 and ð", "One.<|endoftext|>Two.", " \n\n\t ", None, "twice", "twice"]


def silent(_):
    pass


def job(folder, source, report=silent):
    folder.mkdir(parents=True, exist_ok=True)
    return Preparation(folder=folder, source=source, report=report)


def write_merges(path):
    """As many merges as there are in the published list: those of the first 50,000 pairs of bytes."""
    visible = [chr(byte) for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    characters = visible + [chr(256 + number) for number in range(256 - len(visible))]
    pairs = [f"{first} {second}" for first in characters for second in characters][:50_000]
    path.write_text("\n".join(["#version: 0.2", *pairs, ""]), encoding="utf-8")
    return Archive(
        name=path.name,
        obtain="download it",
        digest=f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
        size=path.stat().st_size,
    )


def documents(number, seed):
    rng = random.Random(seed)
    words = ["".join(rng.choices("abdeiklmnorstu", k=rng.randint(1, 7))) for _ in range(300)]
    return [" ".join(rng.choices(words, k=rng.randint(1, 30))) for _ in range(number)]


def write_shard(path, texts, row_group=5):
    """Group by group, so that the library never has more than one in memory."""
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(texts), row_group):
            group = texts[start : start + row_group]
            numbers = [str(number) for number in range(start, start + len(group))]
            writer.write_table(pa.table({"id": numbers, "text": group}, schema))


class Shards:
    """Small shards, and what they are made of."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.texts = {f"{number:03}_00000.parquet": documents(40 + 5 * number, number) for number in range(3)}
        self.texts["000_00000.parquet"][4 : 4 + len(ODD)] = ODD
        # In two shards.
        self.texts["002_00000.parquet"][-1] = self.texts["000_00000.parquet"][20]
        self.write()

    def write(self):
        for name, texts in self.texts.items():
            write_shard(self.folder / name, texts)

    @property
    def documents(self):
        """All texts that are not empty, in their order."""
        return [text for texts in self.texts.values() for text in texts if text]


def split_documents(folder):
    """The documents that each split of prepared data consists of, as tuples of tokens; the last one may be cut."""
    found = {}
    for split in SPLITS.num_sequences:
        tokens = load_tokens(folder / f"{split}.npy")
        ends = np.flatnonzero(tokens == END_OF_TEXT) + 1
        found[split] = [tuple(part.tolist()) for part in np.split(tokens, ends) if len(part)]
    return found


def encoded(texts, merges):
    tokenizer = Gpt2Tokenizer(merges)
    return [tuple(tokenizer.encode(text).tolist()) for text in texts]


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def contents_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in files_in(folder)}
