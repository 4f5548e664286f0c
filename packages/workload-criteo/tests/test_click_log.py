"""Parsing of click logs, against plain Python and a row that the public implementation has parsed."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click_logs import expected, rows, text
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf.data import DataError
from algoperf_criteo import click_log
from algoperf_criteo.click_log import parse, read_click_log

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("parsing.json").read_text())
ROW = ["1", *"0123456789", "10", "11", "12", *[f"{number:08x}" for number in range(26)]]
INTEGERS = st.one_of(
    st.sampled_from(["", "-1", "-0", "0000000007", "-2147483648", "16777217", "9999999999", "-9999999999"]),
    st.integers(-(10**10) + 1, 10**10 - 1).map(str),
    st.integers(-100, 100).map(str),
)
CATEGORIES = st.one_of(
    st.sampled_from(["", "-1", "99999999", "ffffffff", "00000000"]), st.integers(0, 2**32 - 1).map("{:08x}".format)
)
ROWS = st.tuples(
    st.sampled_from(["0", "1"]),
    *[st.shared(INTEGERS, key=i) | INTEGERS for i in range(13)],
    *[CATEGORIES] * 26,
)


def assert_parsed(found, some_rows):
    for array, right in zip(found, expected(some_rows), strict=True):
        assert array.dtype == right.dtype
        np.testing.assert_array_equal(array, right)


def test_a_row_is_what_the_public_implementation_makes_of_it():
    inputs, labels = parse(f"{GOLDEN['line']}\n".encode())
    assert inputs.tolist() == [GOLDEN["inputs"]]
    assert labels.tolist() == [GOLDEN["label"]]


@settings(max_examples=100, deadline=None)
@given(st.lists(ROWS, max_size=5))
def test_rows_are_what_plain_python_makes_of_them(some_rows):
    assert_parsed(parse(text(some_rows)), some_rows)


@pytest.mark.parametrize("missing", ["", "-1"])
def test_what_is_missing_is_zero(missing):
    inputs, _ = parse(text([["1", *[missing] * 39]]))
    assert inputs[0, :13].tolist() == [0] * 13
    assert inputs.tolist() == parse(text([["0"] * 14 + ["00000000"] * 26]))[0].tolist()


@pytest.mark.parametrize("size", [1, 300, 1_000, 10**6])
def test_chunks_change_nothing(monkeypatch, size):
    monkeypatch.setattr(click_log, "_CHUNK_BYTES", size)
    some_rows = rows(60)
    assert_parsed(parse(text(some_rows)), some_rows)


def with_field(place, field):
    return [*ROW[: place - 1], field, *ROW[place:]]


WRONG_ROWS = {
    "39 fields": (ROW[:-1], "has 39 fields instead of 40"),
    "41 fields": ([*ROW, ""], "has 41 fields instead of 40"),
    "empty": ([""], "has 1 field instead of 40"),
    "no label": (with_field(1, ""), "has '' as field 1, which is neither 0 nor 1"),
    "label -1": (with_field(1, "-1"), "has '-1' as field 1, which is neither 0 nor 1"),
    "label 2": (with_field(1, "2"), "has '2' as field 1, which is neither 0 nor 1"),
    "label 10": (with_field(1, "10"), "has '10' as field 1, which is neither 0 nor 1"),
    "label -2": (with_field(1, "-2"), "has '-2' as field 1, which is neither 0 nor 1"),
    "fraction": (with_field(2, "1.5"), "has '1.5' as field 2, which is no integer of up to 10 digits"),
    "plus": (with_field(3, "+5"), "has '+5' as field 3, which is no integer"),
    "sign alone": (with_field(3, "-"), "has '-' as field 3, which is no integer"),
    "two signs": (with_field(14, "--5"), "has '--5' as field 14, which is no integer"),
    "11 digits": (with_field(14, "12345678901"), "has '12345678901' as field 14, which is no integer of up to 10"),
    "long": (with_field(14, "7" * 300), f"has '{'7' * 30}'... as field 14, which is no integer"),
    "letter behind 8": (with_field(2, "12345678a"), "has '12345678a' as field 2, which is no integer"),
    "upper case": (with_field(15, "0000000A"), "has '0000000A' as field 15, which is no category of 8 lowercase"),
    "g": (with_field(40, "0000000g"), "has '0000000g' as field 40, which is no category"),
    "7 digits": (with_field(40, "0000000"), "has '0000000' as field 40, which is no category"),
    "9 digits": (with_field(16, "000000000"), "has '000000000' as field 16, which is no category"),
    "-2": (with_field(16, "-2"), "has '-2' as field 16, which is no category"),
    "return": (with_field(40, "00000000\r"), r"has '00000000\r' as field 40, which is no category"),
    "other bytes": (with_field(40, "\x000000\x7f€"), r"has '\x000000\x7f\xe2\x82\xac' as field 40, which is no cat"),
}


@pytest.mark.parametrize("name", WRONG_ROWS)
@pytest.mark.parametrize("before", [0, 3, 1_200])
def test_a_line_that_is_no_row_is_named(name, before):
    row, message = WRONG_ROWS[name]
    block = text([*[ROW] * before, row, *[ROW] * 2])
    expected_message = f"^Line {before + 7:,} of day_3.gz {re.escape(message)}.*; mend the file or get it again.$"
    with pytest.raises(DataError, match=expected_message):
        parse(block, "day_3.gz", 7)


def test_the_first_of_several_is_named():
    with pytest.raises(DataError, match="Line 2 of the click log has '2' as field 1"):
        parse(text([ROW, with_field(1, "2"), ROW[:-1], with_field(1, "3")]))


def test_a_field_too_few_and_one_too_many_do_not_make_up_for_each_other():
    # The empty field would be a category of the line before.
    with pytest.raises(DataError, match="Line 2 of the click log has 39 fields"):
        parse(text([ROW, ROW[:-1], ["", *ROW], ROW]))


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 500), st.sampled_from(b"\t\n\r\0 -019:/`afgAF@\xe1\xff"), st.data())
def test_whatever_byte_is_altered_the_line_is_read_rightly_or_named(place, byte, data):
    some_rows = rows(3, seed=1)
    block = bytearray(text(some_rows))
    place = place % (len(block) - 1)
    if data.draw(st.booleans()):
        block[place] = byte
    else:
        block.insert(place, byte)
    lines = bytes(block[:-1]).split(b"\n")
    altered = [[field.decode("latin-1") for field in line.split(b"\t")] for line in lines]
    wrong = [number for number, row in enumerate(altered, start=1) if not is_row(row)]
    if not wrong:
        assert_parsed(parse(bytes(block)), altered)
    else:
        with pytest.raises(DataError, match=f"^Line {wrong[0]} of"):
            parse(bytes(block))


def is_row(fields):
    label, integers, categories = fields[:1], fields[1:14], fields[14:]
    return (
        len(fields) == 40
        and label[0] in ("0", "1")
        and all(not field or (len(field.lstrip("-")) < 11 and is_integer(field)) for field in integers)
        and all(field in ("", "-1") or is_hexadecimal(field) for field in categories)
    )


def is_integer(field):
    digits = field.removeprefix("-")
    return bool(digits) and all(digit in "0123456789" for digit in digits)


def is_hexadecimal(field):
    return len(field) == 8 and all(digit in "0123456789abcdef" for digit in field)


# Files.


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Of a file that is not there yet; it will be read in small blocks."""
    monkeypatch.setattr(click_log, "_BLOCK_BYTES", 1_000)
    return tmp_path / "day_3.gz"


def joined(blocks):
    return [np.concatenate(arrays) for arrays in zip(*blocks, strict=True)]


@pytest.mark.parametrize("size", [1, 1_000, 2**22])
def test_blocks_are_the_rows_of_a_file(path, monkeypatch, size):
    monkeypatch.setattr(click_log, "_BLOCK_BYTES", size)
    some_rows = rows(50)
    path.write_bytes(gzip.compress(text(some_rows)))
    assert_parsed(joined(read_click_log(path)), some_rows)


def test_a_file_may_be_several_and_its_last_line_may_lack_its_end(path):
    some_rows = rows(50)
    content = text(some_rows)
    path.write_bytes(gzip.compress(content[:3_333]) + gzip.compress(content[3_333:-1]))
    assert_parsed(joined(read_click_log(path)), some_rows)


def test_a_line_is_named_by_its_place_in_the_file(path):
    path.write_bytes(gzip.compress(text([*[ROW] * 29, ROW[1:], ROW])))
    with pytest.raises(DataError, match=f"^Line 30 of {path} has 39 fields"):
        list(read_click_log(path))


def altered(content, place):
    content = bytearray(content)
    content[place] ^= 0xFF
    return bytes(content)


DAMAGES = {
    "truncated": lambda content: content[:-100],
    "without its checksum": lambda content: content[:-8],
    "wrong checksum": lambda content: altered(content, -6),
    "wrong length": lambda content: altered(content, -1),
    "no gzip": lambda content: b"label\tinteger",
    "more behind": lambda content: content + b"more",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_named_with_the_line_that_was_reached(path, name):
    path.write_bytes(DAMAGES[name](gzip.compress(text(rows(100)))))
    blocks = []
    with pytest.raises(DataError, match=r"day_3.gz cannot be read after line (\d+) \(.+\); .* download") as error:
        blocks.extend(read_click_log(path))
    assert f"after line {sum(len(labels) for _, labels in blocks)} (" in str(error.value)


def test_whatever_is_altered_a_damaged_file_is_named(path):
    content = gzip.compress(text(rows(20)), mtime=0)
    # Behind gzip's head, which holds times and names.
    for place in range(10, len(content), 7):
        path.write_bytes(altered(content, place))
        with pytest.raises(DataError, match=r"day_3\.gz (cannot be read|has )"):
            list(read_click_log(path))


def test_a_line_without_end_is_not_waited_for(path, monkeypatch):
    """Of lines that end otherwise, as in other systems, all would be taken for one that fills the memory."""
    monkeypatch.setattr(click_log, "_BLOCK_BYTES", 10_000)
    path.write_bytes(gzip.compress(text(rows(10)) + text(rows(1_000)).replace(b"\n", b"\r")))
    message = r"^Line 11 of .*day_3\.gz does not end within 65,536 bytes; mend the file or get it again\.$"
    with pytest.raises(DataError, match=message):
        list(read_click_log(path))


def test_a_file_that_cannot_be_opened_is_named(path):
    with pytest.raises(DataError, match=r"day_3.gz cannot be read after line 0 \(.*No such file"):
        list(read_click_log(path))
