"""Preparation of files that are as they should be, and of files that are not."""

import hashlib
from dataclasses import replace

import pytest
from wmt_files import VOCAB_SIZE, contents_of, files_in, job, lines, sgml, tar_gz, write_tokenizer

from algoperf.data import DataError, preparation
from algoperf.data.token_files import MAX_VOCAB_SIZE
from algoperf.data.tokenizer import TOKENIZER
from algoperf_wmt import prepare
from algoperf_wmt.prepare import GIVEN_TOKENIZER, prepare_files, prepare_full
from algoperf_wmt.published import PUBLISHED
from algoperf_wmt.spec import WMT
from algoperf_wmt.store import StoredPairs

ARCHIVES = list(dict.fromkeys(corpus.archive for corpora in PUBLISHED.corpora.values() for corpus in corpora))


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def prepared(wmt, folder, report=print):
    return prepare_files(job(folder, wmt.folder, report), wmt.published)


def test_the_full_data_is_prepared_verified_and_opened(wmt, full_spec, tmp_path):
    folder = preparation.prepare(full_spec, tmp_path / "data", wmt.folder, print)
    preparation.verify(full_spec, tmp_path / "data")
    wmt.check(folder)
    preparation.open_prepared(full_spec, tmp_path / "data")


def test_the_facts_of_the_published_files_are_those_of_the_workload():
    assert PUBLISHED.split_sizes == {
        split: getattr(WMT, f"num_{split}_examples") for split in ("train", "validation", "test")
    }
    assert (PUBLISHED.vocab_size, PUBLISHED.max_length) == (
        WMT.dataset.options.vocab_size,
        WMT.dataset.options.max_length,
    )
    assert PUBLISHED.vocab_size <= MAX_VOCAB_SIZE
    assert [archive.name for archive in ARCHIVES] == [
        "training-parallel-europarl-v7.tgz",
        "training-parallel-commoncrawl.tgz",
        "training-parallel-nc-v12.tgz",
        "rapid2016.tgz",
        "dev.tgz",
    ]
    assert sum(archive.size for archive in ARCHIVES) == 1_944_240_362


def test_the_files_are_returned_and_nothing_else_is_left(wmt, tmp_path):
    files = prepared(wmt, tmp_path / "full")
    assert set(files) == files_in(tmp_path / "full")
    assert len(files) == 7
    assert not list((tmp_path / "full").glob(".*"))
    # What is all there needs no source.
    assert prepare_files(job(tmp_path / "full", None), wmt.published) == files


def test_each_line_that_is_said_is_short_and_new(wmt, tmp_path):
    said = []
    prepared(wmt, tmp_path / "full", said.append)
    assert len(said) == len(set(said))
    assert all("\n" not in line and len(line) < 300 for line in said)
    assert [line for line in said if line.startswith("train: ")] == [
        f"train: {done} of 114 pairs of sentences are tokens." for done in (25, 50, 65, 90, 95, 103, 114)
    ]
    digest = sha256(tmp_path / "full" / TOKENIZER)
    (origin,) = [line for line in said if "SHA-256" in line]
    assert origin.endswith(f" pairs of sentences; SHA-256 {digest}.")
    assert "is trained on " in origin


def test_the_tokenizer_learns_from_the_training_pairs_alone(wmt, straight, tmp_path):
    for name in ("newstest2013", "newstest2014"):
        wmt.texts[name] = [("xyz " * 9, "zyx " * 9)] * len(wmt.texts[name])
    wmt.write()
    prepared(wmt, tmp_path / "full")
    assert (tmp_path / "full" / TOKENIZER).read_bytes() == next(
        content for path, content in straight.items() if path.name == TOKENIZER
    )


def test_parts_and_batches_change_nothing(wmt, straight, tmp_path, monkeypatch):
    for part, batch in ((10**6, 10**6), (1, 1), (7, 3)):
        monkeypatch.setattr(prepare, "_PART", part)
        monkeypatch.setattr(prepare, "_BATCH", batch)
        prepared(wmt, tmp_path / f"full {part}")
        assert contents_of(tmp_path / f"full {part}") == straight


def test_a_tokenizer_that_lies_there_is_used(wmt, straight, tmp_path):
    given = wmt.folder / GIVEN_TOKENIZER
    write_tokenizer(given)
    said = []
    prepared(wmt, tmp_path / "full", said.append)
    assert (tmp_path / "full" / TOKENIZER).read_bytes() == given.read_bytes()
    wmt.check(tmp_path / "full")
    assert contents_of(tmp_path / "full") != straight
    assert [line for line in said if "tokenizer" in line] == [
        f"The tokenizer, {tmp_path / 'full' / TOKENIZER}, is a copy of {given}; SHA-256 {sha256(given)}."
    ]


@pytest.mark.parametrize("vocab_size", [None, VOCAB_SIZE - 1])
def test_a_wrong_tokenizer_is_refused_before_anything_is_read(wmt, tmp_path, vocab_size):
    given = wmt.folder / GIVEN_TOKENIZER
    write_tokenizer(given, vocab_size) if vocab_size else given.write_bytes(b"no model")
    with pytest.raises(
        DataError, match=f"{GIVEN_TOKENIZER} is (no|a tokenizer that does not match).* or remove it and"
    ):
        prepared(wmt, tmp_path / "full", pytest.fail)
    assert not files_in(tmp_path / "full")


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.name)
def test_a_missing_file_is_named_with_the_way_to_it(wmt, tmp_path, archive):
    (wmt.folder / archive.name).unlink()
    url = archive.obtain.split()[1]
    assert url.startswith("http")
    assert url.endswith(archive.name)
    with pytest.raises(DataError, match=f"There is no {archive.name} in .*downloads; download {url} into"):
        prepared(wmt, tmp_path / "full", pytest.fail)


@pytest.mark.parametrize(("source", "message"), [(None, "needs a folder with"), ("file", "file is not a folder")])
def test_without_a_folder_all_files_are_named(tmp_path, source, message):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=f"{message}.*--scale full --source FOLDER") as error:
        prepare_full(job(tmp_path / "full", source and tmp_path / source))
    assert all(archive.name in str(error.value) for archive in ARCHIVES)


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.name)
def test_truncated_and_altered_archives_are_refused_before_anything_is_read(wmt, tmp_path, archive):
    path = wmt.folder / archive.name
    content = path.read_bytes()
    altered = bytearray(content)
    altered[len(content) // 2] ^= 1
    for damaged, message in ((content[:-1], "bytes and the published"), (altered, "is not the published")):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=f"{archive.name}.* {message} {archive.name} .*download http"):
            prepared(wmt, tmp_path / "full")
        assert not files_in(tmp_path / "full")


def test_an_archive_that_breaks_off_is_named_even_if_it_were_the_published_one(wmt, tmp_path):
    path = wmt.folder / "rapid2016.tgz"
    path.write_bytes(path.read_bytes()[:-200])
    wmt.describe()
    with pytest.raises(DataError, match=r"rapid2016\.tgz cannot be read \("):
        prepared(wmt, tmp_path / "full")


def test_an_archive_without_a_text_is_named(wmt, tmp_path):
    (wmt.folder / "rapid2016.tgz").write_bytes(tar_gz({"rapid2016.de-en.de": b"x\n"}))
    wmt.describe()
    with pytest.raises(DataError, match=r"rapid2016\.tgz lacks rapid2016\.de-en\.en"):
        prepared(wmt, tmp_path / "full")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("commoncrawl.de-en.en", lines("abc"), "have 30 and 3 sentences .*commoncrawl.de-en.en is in line 3.*download"),
        ("dev/newstest2013.de", lines("abc"), "have 3 and 14 sentences .*newstest2013.de is in line 3.*download"),
        ("dev/newstest2014-deen-ref.en.sgm", sgml("abc"), "have 14 and 3 sentences .*-ref.en.sgm is in line 10"),
        ("commoncrawl.de-en.de", b"a\nb\xff\n", "Line 2 of .*/commoncrawl.de-en.de is not UTF-8"),
        ("dev/newstest2014-deen-src.de.sgm", b'<seg id="1">\xff</seg>\n', "Line 1 of .*-src.de.sgm is not UTF-8"),
    ],
)
@pytest.mark.parametrize("given", [False, True])
def test_texts_that_are_not_parallel_or_damaged_are_named(wmt, tmp_path, name, content, message, given):
    if given:
        write_tokenizer(wmt.folder / GIVEN_TOKENIZER)
    wmt.overrides[name] = content
    wmt.write()
    with pytest.raises(DataError, match=message):
        prepared(wmt, tmp_path / "full")
    assert not (tmp_path / "full" / TOKENIZER).exists()


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_of_another_size_is_refused(wmt, tmp_path, split):
    sizes = wmt.published.split_sizes
    published = replace(wmt.published, split_sizes=sizes | {split: sizes[split] + 1})
    with pytest.raises(DataError, match=f"{split} split came out with {sizes[split]} pairs of sentences instead of"):
        prepare_files(job(tmp_path / "full", wmt.folder), published)
    assert not (tmp_path / "full" / split).exists()


@pytest.mark.parametrize(("name", "line"), [("newstest2013", 5), ("newstest2014", 16)])
@pytest.mark.parametrize("side", [0, 1])
def test_an_evaluated_sentence_that_is_too_long_is_named(wmt, tmp_path, name, line, side):
    pair = ["a", "b"]
    pair[side] = "\u4e2d a" * 128
    # An empty side before it, so that it is not the fifth pair.
    wmt.texts[name][1], wmt.texts[name][4] = ("", "c"), tuple(pair)
    wmt.write()
    language = ("de", "en")[side]
    with pytest.raises(DataError, match=rf"Line {line} of dev/{name}.*{language}.* has \d+ tokens, and .* than 256;"):
        prepared(wmt, tmp_path / "full")


def test_sentences_may_be_as_long_as_they_may_and_longer_ones_are_for_training(wmt, tmp_path):
    write_tokenizer(wmt.folder / GIVEN_TOKENIZER)
    # Unknown characters in a row are one token, so there are two for each of these; and END.
    wmt.texts["newstest2013"][0] = ("\u4e2d " * 127, "b")
    wmt.texts["commoncrawl"][0] = ("\u4e2d " * 999, "b")
    wmt.write()
    said = []
    prepared(wmt, tmp_path / "full", said.append)
    wmt.check(tmp_path / "full")
    assert StoredPairs.load(tmp_path / "full" / "validation").lengths.max() in (255, 256)
    assert "train: 1 pairs have more than 256 tokens; training omits them." in said
