"""The published shards of FineWeb-Edu: parquet files with a column of texts, a document a row."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from algoperf.data.preparation import DataError

URL = "https://huggingface.co/datasets/HuggingFaceFW/fineweb-edu/tree/main/sample/10BT"
TEXT = "text"
# Texts in memory at a time.
_BATCH = 1_000


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some thousand neighbouring documents of a shard.

    Attributes:
        shard: the file.
        row_groups: the parts of the file that they are in.
        num_rows: how many documents there are.
        num_bytes: of their texts, about.
    """

    shard: Path
    row_groups: range
    num_rows: int
    num_bytes: int

    @property
    def name(self) -> str:
        """A name for what is made of it, which another file of that name has not."""
        return f"{self.shard.name}-{self.shard.stat().st_size}/{self.row_groups.start:05}-{self.row_groups.stop:05}"

    def texts(self) -> Iterator[list[str]]:
        """The texts that are not empty, in batches. Raises DataError if the file is damaged."""
        with _named(self.shard), pq.ParquetFile(self.shard, pre_buffer=False) as file:
            for batch in file.iter_batches(_BATCH, list(self.row_groups), [TEXT], use_threads=False):
                yield [text for text in batch.column(0).to_pylist() if text]


def find_shards(source: Path | None) -> list[Path]:
    """The shards in a folder, by their names. Raises DataError, with what to do, if there are none."""
    remedy = f"download the parquet files of {URL} into a folder and run the same command with --source FOLDER"
    if source is None:
        raise DataError(f"Preparing this data needs a folder with the published shards; {remedy}.")
    shards = sorted(source.glob("*.parquet")) if source.is_dir() else []
    if not shards:
        raise DataError(f"{source} is no folder with parquet files; {remedy}.")
    return shards


def parts_of(shard: Path, num_rows: int) -> list[Part]:
    """A shard in parts of at least so many documents each, but for the last one.

    Raises:
        DataError: it is no whole parquet file, or has no texts.
    """
    with _named(shard), pq.ParquetFile(shard) as file:
        schema, metadata = file.schema_arrow, file.metadata
    column = schema.get_field_index(TEXT)
    if column < 0 or not (pa.types.is_string(schema.types[column]) or pa.types.is_large_string(schema.types[column])):
        raise DataError(f"{shard} has no column {TEXT!r} of texts; its columns are {', '.join(schema.names)}.")
    # Leaves come one by one, and a column may have several.
    leaf = metadata.schema.names.index(TEXT)
    parts, start, rows, size = [], 0, 0, 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        rows, size = rows + group.num_rows, size + group.column(leaf).total_uncompressed_size
        if rows >= num_rows or number == metadata.num_row_groups - 1:
            parts.append(Part(shard=shard, row_groups=range(start, number + 1), num_rows=rows, num_bytes=size))
            start, rows, size = number + 1, 0, 0
    return parts


@contextmanager
def _named(shard: Path) -> Iterator[None]:
    """Says in which file an error is."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{shard} cannot be read ({error}); if it is damaged, download it again.") from error
