"""Numbers of categories, against FarmHash written plainly and values of the public implementation."""

import json
from pathlib import Path

import numpy as np
import pytest
from click_logs import fingerprint64
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf_criteo import farmhash

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("parsing.json").read_text())
WORDS = st.integers(0, 2**64 - 1)


def column_words(texts):
    """A text per column, as `farmhash` takes them."""
    return np.array([int.from_bytes(text.encode(), "little") for text in texts], np.uint64)[:, None]


@pytest.mark.parametrize(("key", "expected"), GOLDEN["fingerprints_low_62_bits"].items())
def test_fingerprints_are_those_of_the_public_implementation(key, expected):
    hashes = farmhash.fingerprint64(column_words([key[:8]] * 26))
    assert hashes[int(key[8:]), 0] & np.uint64(2**62 - 1) == expected
    assert fingerprint64(key.encode()) % 2**62 == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(WORDS, min_size=26, max_size=26), min_size=1, max_size=3))
def test_fingerprints_are_those_of_farmhash(rows):
    hashes = farmhash.fingerprint64(np.array(rows, np.uint64).T)
    assert hashes.shape == (26, len(rows))
    for row, found in zip(rows, hashes.T, strict=True):
        keys = [word.to_bytes(8, "little") + str(column).encode() for column, word in enumerate(row)]
        assert found.tolist() == [fingerprint64(key) for key in keys]


@settings(max_examples=50, deadline=None)
@given(st.lists(WORDS, min_size=26, max_size=26))
def test_ids_are_remainders_rounded_to_float32(row):
    ids = farmhash.bucket_ids(np.array(row, np.uint64)[:, None])
    assert ids.dtype == np.float32
    for column, (word, size, found) in enumerate(zip(row, farmhash.NUM_BUCKETS, ids[:, 0].tolist(), strict=True)):
        exact = fingerprint64(word.to_bytes(8, "little") + str(column).encode()) % size
        step = 1 if exact < 2**24 else 2 if exact < 2**25 else 4
        # Round half to even, of whole steps.
        assert found == round(exact / step) * step


def test_ids_that_float32_does_not_have_are_rounded():
    assert fingerprint64(b"000116679") % farmhash.NUM_BUCKETS[9] == 26_975_785
    assert farmhash.bucket_ids(column_words(["00011667"] * 26))[9, 0] == 26_975_784


def test_the_columns_have_as_many_buckets_as_the_public_implementation_says():
    assert len(farmhash.NUM_BUCKETS) == 26
    assert sum(farmhash.NUM_BUCKETS) == 187_767_399
    assert max(farmhash.NUM_BUCKETS) == farmhash.NUM_BUCKETS[19] == 39_979_771


@pytest.mark.parametrize(("column", "expected"), GOLDEN["ids_of_missing"].items())
def test_the_ids_of_missing_categories_are_those_of_the_public_implementation(column, expected):
    assert farmhash.bucket_ids(column_words(["00000000"] * 26))[int(column), 0] == expected
