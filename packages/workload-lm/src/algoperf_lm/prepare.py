"""Prepares FineWeb-Edu, the full-scale data, from the published shards as they are (see `algoperf_lm.shards`)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from algoperf.data.files import remove, writing
from algoperf.data.preparation import DataError, Preparation
from algoperf.data.sources import check_space
from algoperf.data.token_files import save_tokens
from algoperf_lm.documents import Documents, encode_parts, is_encoded
from algoperf_lm.gpt2 import MERGES, Gpt2Tokenizer, find_merges
from algoperf_lm.shards import Part, find_shards, parts_of
from algoperf_lm.split import Divide, as_published, by_document
from algoperf_lm.store import token_files

RECORD = "documents.json"
# Documents that a killed run loses at most per processor; twice their tokens are in memory.
_PART = 50_000
_WORK = "work"
# A token has 4.6 bytes of English on average, and takes two.
_BYTES_PER_BYTE_OF_TEXT = 0.5


@dataclass(frozen=True, kw_only=True)
class Splits:
    """What is made of the documents.

    Attributes:
        num_sequences: of each split.
        length: tokens of a sequence.
        divide: which documents each split gets; see `algoperf_lm.split`.
    """

    num_sequences: Mapping[str, int]
    length: int
    divide: Divide

    @property
    def num_tokens(self) -> dict[str, int]:
        """Tokens of each split."""
        return {split: number * self.length for split, number in self.num_sequences.items()}


# Of a tenth of the documents, which the public implementation writes, validation reads no more.
FINEWEB_EDU = Splits(num_sequences={"train": 8_749_870, "validation": 100_000}, length=1_025, divide=by_document)


def prepare_full(job: Preparation) -> list[Path]:
    """Turns the published shards into a file of tokens per split; see `algoperf_lm.store`.

    18 GB are written, and 20 GB on the way. An interrupted run goes on with the parts that are not tokens yet.

    Returns:
        The files of the prepared data; the last one records what they were made of.

    Raises:
        DataError: a shard is missing, damaged or without texts, or the tokenizer is another, or there is no room.
    """
    return prepare_files(job, FINEWEB_EDU)


def prepare_published_split(job: Preparation) -> list[Path]:
    """`prepare_full` with validation documents that are in training as well; see `algoperf_lm.split.as_published`."""
    return prepare_files(job, replace(FINEWEB_EDU, divide=as_published))


def prepare_files(job: Preparation, splits: Splits) -> list[Path]:
    """`prepare_full` with splits of any size."""
    files = [*token_files(job.folder).values(), job.folder / RECORD]
    # It is the last to be written.
    if not (job.folder / RECORD).exists():
        parts = [part for shard in find_shards(job.source) for part in parts_of(shard, _PART)]
        tokenizer = Gpt2Tokenizer(find_merges(job))
        work = job.folder / _WORK
        check_space(job.folder, _bytes_to_write(parts, work, splits))
        job.report(f"Making tokens of {sum(part.num_rows for part in parts):,} documents.")
        encode_parts(parts, work, tokenizer, job.report)
        _write_splits(job, Documents([work / part.name for part in parts]), splits, parts)
    remove(job.folder / _WORK)
    return files


def _bytes_to_write(parts: Sequence[Part], work: Path, splits: Splits) -> int:
    text = sum(part.num_bytes for part in parts if not is_encoded(part, work))
    return int(text * _BYTES_PER_BYTE_OF_TEXT) + 2 * sum(splits.num_tokens.values())


def _write_splits(job: Preparation, documents: Documents, splits: Splits, parts: Sequence[Part]) -> None:
    members = splits.divide(documents.hashes, documents.lengths, splits.num_tokens)
    for split, num_tokens in splits.num_tokens.items():
        found = int(documents.lengths[members[split]].sum(dtype=np.int64))
        if found < num_tokens:
            raise DataError(
                f"The documents of the {split} split have {found:,} tokens, and {num_tokens:,} are needed; put all of "
                f"the published shards into {job.source} and run the same command again."
            )
    used = {}
    for split, path in token_files(job.folder).items():
        job.report(f"Writing the {splits.num_sequences[split]:,} sequences of the {split} split.")
        num_tokens = splits.num_tokens[split]
        save_tokens(path, num_tokens, documents.tokens(members[split], num_tokens))
        ends = np.cumsum(documents.lengths[members[split]], dtype=np.int64)
        used[split] = {"documents": int(np.searchsorted(ends, num_tokens)) + 1, "tokens": num_tokens}
    shards: dict[str, int] = {}
    for part in parts:
        shards[part.shard.name] = shards.get(part.shard.name, 0) + part.num_rows
    record = {
        "divided": splits.divide.__name__,
        "tokenizer": MERGES.digest,
        "rows": shards,
        "documents": len(documents),
        "tokens": int(documents.lengths.sum(dtype=np.int64)),
        "splits": used,
    }
    with writing(job.folder / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=1))
