"""Preparation of shards that are as they should be, and of shards that are not."""

import json
import os
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import SPLITS, contents_of, documents, encoded, files_in, job, split_documents, write_merges, write_shard

from algoperf.data import DataError, sources
from algoperf.testing.killed_preparation import interrupt_at
from algoperf_lm import gpt2, prepare, shards
from algoperf_lm.documents import Documents
from algoperf_lm.gpt2 import END_OF_TEXT
from algoperf_lm.prepare import FINEWEB_EDU, prepare_files, prepare_full, prepare_published_split
from algoperf_lm.split import as_published, by_document


def prepared(corpus, folder, report=print, splits=SPLITS):
    return prepare_files(job(folder, corpus.folder, report), splits)


def pieces(corpus):
    """How often each run of tokens up to an end of text stands in the shards."""
    found = Counter()
    for tokens in encoded(corpus.documents, corpus.merges):
        start = 0
        for position, token in enumerate(tokens, start=1):
            if token == END_OF_TEXT:
                found[tokens[start:position]] += 1
                start = position
    return found


def test_both_splits_consist_of_documents_and_share_none(corpus, tmp_path):
    prepared(corpus, tmp_path / "full")
    found, there = split_documents(tmp_path / "full"), pieces(corpus)
    for members in found.values():
        # The last one is cut.
        assert Counter(members[:-1]) <= there
        assert len(members) > 4
    assert sum(map(len, found.values())) > 40
    assert not set(found["train"]) & set(found["validation"])


def test_the_splits_have_the_size_that_they_should_have(corpus, tmp_path):
    prepared(corpus, tmp_path / "full")
    for split, num_sequences in SPLITS.num_sequences.items():
        assert (tmp_path / "full" / f"{split}.npy").stat().st_size == 128 + 2 * 33 * num_sequences
    assert FINEWEB_EDU.num_sequences == {"train": 8_749_870, "validation": 100_000}
    assert (FINEWEB_EDU.length, FINEWEB_EDU.divide) == (1_025, by_document)


def test_the_order_of_the_shards_changes_nothing(corpus, straight, tmp_path):
    names = sorted(corpus.texts)
    for path in corpus.folder.glob("*.parquet"):
        path.unlink()
    for name, other in zip(names, names[::-1], strict=True):
        write_shard(corpus.folder / name, corpus.texts[other], row_group=7)
    prepared(corpus, tmp_path / "full")
    for split in SPLITS.num_sequences:
        assert (tmp_path / "full" / f"{split}.npy").read_bytes() == straight[f"{split}.npy"]


@pytest.mark.parametrize("part", [1, 23, 10**6])
def test_parts_change_nothing(corpus, straight, tmp_path, monkeypatch, part):
    monkeypatch.setattr(prepare, "_PART", part)
    prepared(corpus, tmp_path / "full")
    assert {str(path): content for path, content in contents_of(tmp_path / "full").items()} == straight


def test_the_files_are_returned_and_nothing_else_is_left(corpus, tmp_path):
    files = prepared(corpus, tmp_path / "full")
    assert set(files) == files_in(tmp_path / "full")
    assert {path.name for path in files} == {"train.npy", "validation.npy", "documents.json"}
    # What is all there needs no source.
    assert prepare_files(job(tmp_path / "full", None), SPLITS) == files


def test_what_the_data_was_made_of_is_recorded(corpus, tmp_path):
    record = json.loads(prepared(corpus, tmp_path / "full")[-1].read_bytes())
    assert record["divided"] == "by_document"
    assert record["rows"] == {name: len(texts) for name, texts in corpus.texts.items()}
    assert record["documents"] == len(corpus.documents)
    assert record["tokens"] == sum(map(len, encoded(corpus.documents, corpus.merges)))
    for split, members in split_documents(tmp_path / "full").items():
        entry = record["splits"][split]
        assert entry["tokens"] == sum(map(len, members))
        # One document holds an end of text.
        assert len(members) - 1 <= entry["documents"] <= len(members)


def test_each_line_that_is_said_is_short_and_new(corpus, tmp_path):
    said = []
    prepared(corpus, tmp_path / "full", said.append)
    assert len(said) == len(set(said))
    assert all("\n" not in line and len(line) < 200 for line in said)
    assert said[0] == "Making tokens of 135 documents."
    assert "135 of 135 documents are tokens (100%)." in said
    assert sum("documents are tokens" in line for line in said) > 5


def test_the_published_split_shares_most_of_its_documents(corpus, tmp_path):
    whole = replace(SPLITS, num_sequences={"train": 170, "validation": 7}, divide=as_published)
    prepared(corpus, tmp_path / "full", splits=whole)
    found = split_documents(tmp_path / "full")
    shared = sum(member in set(found["train"]) for member in found["validation"][:-1])
    assert shared >= 0.7 * len(found["validation"][:-1]) > 0
    assert json.loads((tmp_path / "full" / "documents.json").read_bytes())["divided"] == "as_published"


def test_both_ways_to_divide_are_offered(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "FINEWEB_EDU", SPLITS)
    for function, divided in ((prepare_full, "by_document"), (prepare_published_split, "as_published")):
        (*_, record) = function(job(tmp_path / divided, corpus.folder))
        assert json.loads(record.read_bytes())["divided"] == divided


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells which files are open")
def test_a_part_keeps_one_file_open(corpus, tmp_path):
    """There are two hundred parts, and on some systems a process may open 256 files."""
    interrupt_at(lambda report: prepare_files(job(tmp_path / "full", corpus.folder, report), SPLITS), "Writing the 7")
    folders = sorted((tmp_path / "full" / "work").glob("*/*"))
    before = len(os.listdir("/proc/self/fd"))
    documents = Documents(folders)
    assert len(documents) == len(corpus.documents)
    assert len(os.listdir("/proc/self/fd")) - before <= len(folders) == 10


# What is wrong.


@pytest.mark.parametrize("share", [0, 0.4, 0.99])
def test_a_shard_that_is_cut_short_is_named_before_anything_is_done(corpus, tmp_path, share):
    path = corpus.folder / "001_00000.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"001_00000\.parquet cannot be read \(.*\); if it is damaged, download it"):
        prepared(corpus, tmp_path / "full", pytest.fail)
    assert not files_in(tmp_path / "full")


def test_a_shard_that_is_damaged_inside_is_named_and_what_is_done_stays(corpus, straight, tmp_path):
    path = corpus.folder / "001_00000.parquet"
    content = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(3).column(1)
    start = column.dictionary_page_offset or column.data_page_offset
    path.write_bytes(
        content[:start] + bytes(column.total_compressed_size) + content[start + column.total_compressed_size :]
    )
    with pytest.raises(DataError, match=r"001_00000\.parquet cannot be read \("):
        prepared(corpus, tmp_path / "full")
    assert not (tmp_path / "full" / "train.npy").exists()
    path.write_bytes(content)
    prepared(corpus, tmp_path / "full")
    assert {str(path): content for path, content in contents_of(tmp_path / "full").items()} == straight


@pytest.mark.parametrize(("column", "values"), [("content", ["a", "b"]), ("text", [1, 2])])
def test_a_shard_without_texts_is_named(corpus, tmp_path, column, values):
    pq.write_table(pa.table({"id": ["a", "b"], column: values}), corpus.folder / "003.parquet")
    with pytest.raises(DataError, match=rf"003\.parquet has no column 'text' of texts; its columns are id, {column}\."):
        prepared(corpus, tmp_path / "full", pytest.fail)


@pytest.mark.parametrize(
    ("source", "message"),
    [(None, "needs a folder with the published shards"), ("empty", "empty is no folder with"), ("file", "no folder")],
)
def test_where_there_are_no_shards_is_said_what_to_do(tmp_path, source, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(
        DataError, match=rf"{message}.*; download .*{shards.URL}.*the same command with --source FOLDER"
    ):
        prepare_full(job(tmp_path / "full", source and tmp_path / source))


def test_a_tokenizer_of_another_vocabulary_is_refused(corpus, tmp_path):
    merges = corpus.merges.read_text(encoding="utf-8").split("\n")
    for changed in ([*merges[:-3], merges[-2], ""], [*merges[:5], merges[6], merges[5], *merges[7:]]):
        corpus.merges.write_text("\n".join(changed), encoding="utf-8")
        with pytest.raises(DataError, match=r"vocab\.bpe (has|is not the published) .*; download it\."):
            prepared(corpus, tmp_path / "full", pytest.fail)


def test_too_few_documents_are_noticed(corpus, tmp_path):
    (corpus.folder / "002_00000.parquet").unlink()
    (corpus.folder / "001_00000.parquet").unlink()
    splits = replace(SPLITS, num_sequences={"train": 110, "validation": 7})
    with pytest.raises(DataError, match=r"of the train split have [\d,]+ tokens, and 3,630 are needed; put all of the"):
        prepared(corpus, tmp_path / "full", splits=splits)


def test_a_text_that_the_tokenizer_cannot_read_is_named(corpus, tmp_path):
    write_shard(corpus.folder / "003.parquet", ["\n" * 10**6 + "x"])
    with pytest.raises(DataError, match=r"003\.parquet has a text that begins '.*' and is none \("):
        prepared(corpus, tmp_path / "full")


def test_room_on_the_disk_is_looked_for_first(corpus, tmp_path, monkeypatch):
    needed = 2 * 67 * 33 + sum(len(text.encode()) for text in corpus.documents) // 2
    for free, has_room in ((needed // 2, False), (2 * needed, True)):
        monkeypatch.setattr(sources.shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        if has_room:
            prepared(corpus, tmp_path / "full")
        else:
            with pytest.raises(DataError, match="make room or choose another --data-dir"):
                prepared(corpus, tmp_path / "full", pytest.fail)


def test_memory_does_not_grow_with_the_number_of_documents(tmp_path, monkeypatch):
    """Of Python and numpy, and of the parquet files' reader."""
    monkeypatch.setattr(prepare, "_PART", 20)
    monkeypatch.setattr("algoperf_lm.documents.num_processors", lambda: 1)
    peaks, sizes = [], []
    for number in (100, 400):
        folder, used = tmp_path / str(number), []
        folder.mkdir()
        monkeypatch.setattr(gpt2, "MERGES", write_merges(folder / "vocab.bpe"))
        texts = [text * 40 for text in documents(number, 0)]
        write_shard(folder / "0.parquet", texts, row_group=10)

        def begin(line, used=used):
            # The tokenizer is there, which takes more than these texts.
            if line.startswith("Making"):
                tracemalloc.reset_peak()
                used.append(tracemalloc.get_traced_memory()[0])

        tracemalloc.start()
        prepare_files(job(tmp_path / f"full {number}", folder, begin), SPLITS)
        peaks.append(tracemalloc.get_traced_memory()[1] - used[0] + pa.default_memory_pool().max_memory())
        tracemalloc.stop()
        sizes.append(sum(map(len, texts)))
    assert sizes[1] - sizes[0] > 8 * 10**5
    assert peaks[1] - peaks[0] < 0.1 * (sizes[1] - sizes[0])
