"""Texts and their translations, in archives and in files."""

import resource
from pathlib import PurePosixPath

import pytest
from wmt_files import ODD, files_in, lines, sgml, tar_gz

from algoperf.data import DataError
from algoperf_wmt.parallel_text import extract, read_pairs, read_sentences
from algoperf_wmt.published import PUBLISHED

EUROPARL = PUBLISHED.corpora["train"][0]
NEWSTEST = PUBLISHED.corpora["test"][0]


def write(folder, corpus, german, english):
    (folder / PurePosixPath(corpus.german).name).write_bytes(german)
    (folder / PurePosixPath(corpus.english).name).write_bytes(english)


def texts_of(pairs):
    return [(german.text, english.text) for german, english in pairs]


def test_lines_end_with_a_line_feed_and_with_nothing_else(tmp_path):
    path = tmp_path / "a.de"
    sentences = [text for pair in ODD for text in pair] + ["\x1e", "\x00", "\ufeff"]
    path.write_bytes(lines(sentences))
    assert list(read_sentences(path)) == [(text, number) for number, text in enumerate(sentences, start=1)]
    assert len(path.read_bytes().decode().splitlines()) > len(sentences)


@pytest.mark.parametrize(("content", "texts"), [(b"", []), (b"a", ["a"]), (b"a\n\n", ["a", ""]), (b"\na", ["", "a"])])
def test_the_last_line_may_have_no_end(tmp_path, content, texts):
    (tmp_path / "a.de").write_bytes(content)
    assert [text for text, _ in read_sentences(tmp_path / "a.de")] == texts


def test_segments_of_sgml_are_found_and_left_as_they_are(tmp_path):
    sentences = ["A &amp; B", " c ", "", "d</seg> e", "f\u2028g\x85h\r", "&lt;seg id=&quot;1&quot;&gt;"]
    content = b'<srcset>\n<doc>\n<hl>\n<seg id="1">headline</seg> \r\n</hl>\n<seg>no id</seg>\n x <seg id="2">y</seg>\n'
    (tmp_path / "a.sgm").write_bytes(content + sgml(sentences))
    found = list(read_sentences(tmp_path / "a.sgm"))
    assert [text for text, _ in found] == ["headline", *sentences]
    assert [line for _, line in found] == [4, *range(11, 11 + 3 * len(sentences), 3)]


def test_only_pairs_with_an_empty_side_are_left_out(tmp_path):
    write(tmp_path, EUROPARL, *(lines(side) for side in zip(*ODD)))
    pairs = list(read_pairs(EUROPARL, tmp_path))
    assert texts_of(pairs) == [pair for pair in ODD if all(pair)]
    assert [(german.line, english.line) for german, english in pairs] == [(1, 1), (2, 2), (3, 3), (6, 6)]


@pytest.mark.parametrize(("german", "english", "counts"), [(5, 3, "5 and 3"), (0, 2, "0 and 2"), (3, 4, "3 and 4")])
@pytest.mark.parametrize("corpus", [EUROPARL, NEWSTEST])
def test_texts_of_different_lengths_are_named(tmp_path, german, english, counts, corpus):
    form = sgml if corpus is NEWSTEST else lines
    write(tmp_path, corpus, form(["a"] * german), form(["b"] * english))
    with pytest.raises(DataError) as error:
        list(read_pairs(corpus, tmp_path))
    shorter = corpus.german if german < english else corpus.english
    last = min(german, english)
    if corpus is NEWSTEST and last:
        # Two lines above the first segment, beside those of paragraphs.
        last = 3 * last + 1
    assert f"{corpus.german} and {corpus.english} of {corpus.archive.name} have {counts} sentences" in str(error.value)
    assert f"(the last of {PurePosixPath(shorter).name} is in line {last}); download http" in str(error.value)


@pytest.mark.parametrize("damage", [b"\xff", b"\xc3", b"\xed\xa0\x80"])
def test_a_line_that_is_not_utf8_is_named(tmp_path, damage):
    write(tmp_path, EUROPARL, lines("abc") + b"d" + damage + b"\ne\n", lines("abcde"))
    with pytest.raises(DataError, match=r"Line 4 of .*/europarl-v7\.de-en\.de is not UTF-8 \("):
        list(read_pairs(EUROPARL, tmp_path))


FILES = {"a/x.de": b"german" * 999, "a/x.en": b"english", "b/x.de": b"other"}


def test_files_are_extracted_by_their_whole_names(tmp_path):
    (tmp_path / "a.tgz").write_bytes(tar_gz({f"./{name}": content for name, content in FILES.items()}))
    extract(tmp_path / "a.tgz", {"a/x.de": tmp_path / "texts" / "de", "a/x.en": tmp_path / "texts" / "en"})
    assert (tmp_path / "texts" / "de").read_bytes() == FILES["a/x.de"]
    assert (tmp_path / "texts" / "en").read_bytes() == FILES["a/x.en"]
    assert len(files_in(tmp_path)) == 3


def test_a_file_that_the_archive_lacks_is_named(tmp_path):
    (tmp_path / "a.tgz").write_bytes(tar_gz(FILES))
    with pytest.raises(DataError, match=r"a\.tgz lacks c/x\.en; download it again"):
        extract(tmp_path / "a.tgz", {"a/x.de": tmp_path / "de", "c/x.en": tmp_path / "en"})
    assert (tmp_path / "de").read_bytes() == FILES["a/x.de"]


@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.9])
def test_an_archive_that_breaks_off_is_named(tmp_path, share):
    content = tar_gz({"x.de": bytes(range(256)) * 999, "x.en": b"x"})
    (tmp_path / "a.tgz").write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"a\.tgz cannot be read \(.*\); if it is damaged, download it again"):
        extract(tmp_path / "a.tgz", {"x.de": tmp_path / "de", "x.en": tmp_path / "en"})
    assert files_in(tmp_path) == {tmp_path / "a.tgz"}


def test_an_altered_archive_is_named(tmp_path):
    content = bytearray(tar_gz({"x.de": bytes(range(256)) * 999}))
    content[len(content) // 2] ^= 255
    (tmp_path / "a.tgz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tgz (cannot be read|lacks)"):
        extract(tmp_path / "a.tgz", {"x.de": tmp_path / "de", "x.en": tmp_path / "en"})


def test_a_full_disk_leaves_no_text(tmp_path):
    (tmp_path / "a.tgz").write_bytes(tar_gz(FILES))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A real failure of the file system.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        with pytest.raises(DataError, match=r"/de cannot be written \(.*File too large.*\); mend that and run"):
            extract(tmp_path / "a.tgz", {"a/x.de": tmp_path / "de"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files_in(tmp_path) == {tmp_path / "a.tgz"}


def test_corpora_with_texts_of_one_name_would_be_mixed_up():
    names = [
        PurePosixPath(name).name
        for corpora in PUBLISHED.corpora.values()
        for corpus in corpora
        for name in (corpus.german, corpus.english)
    ]
    assert len(names) == len(set(names)) == 12
