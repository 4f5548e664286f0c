"""The random sample that the tokenizer is trained on."""

import random

import pytest

from algoperf_wmt.sample import Sample

PAIRS = {f"corpus {line}": (f"german ä {line}", f"english {'x' * (line % 7)} {line}") for line in range(1, 1_001)}


def drawn(num_bytes, keys):
    sample = Sample(num_bytes)
    for key in keys:
        sample.offer(key, *PAIRS[key])
    return sample


def size(sentences):
    return sum(len(sentence.encode()) + 1 for sentence in sentences)


@pytest.mark.parametrize("num_bytes", [1, 100, 5_000, 20_000])
def test_it_ends_with_the_pair_with_which_the_number_is_reached(num_bytes):
    sample = drawn(num_bytes, PAIRS)
    sentences = list(sample.sentences())
    assert set(zip(sentences[::2], sentences[1::2])) <= set(PAIRS.values())
    assert sample.size == size(sentences) >= num_bytes > size(sentences[:-2])
    assert len(sample) == len(sentences) // 2 == len(set(sentences[::2]))


def test_it_is_the_same_whatever_the_order():
    keys = list(PAIRS)
    random.Random(0).shuffle(keys)
    assert list(drawn(5_000, keys).sentences()) == list(drawn(5_000, PAIRS).sentences())
    # And for good: another one would make another tokenizer.
    assert list(drawn(1, PAIRS).sentences()) == ["german ä 950", "english xxxxx 950"]


def test_a_larger_one_goes_on_where_a_smaller_one_ends():
    small, large = (list(drawn(num_bytes, PAIRS).sentences()) for num_bytes in (3_000, 9_000))
    assert large[: len(small)] == small
    assert len(large) > 2 * len(small)


def test_it_is_spread_over_all():
    sentences = list(drawn(9_000, PAIRS).sentences())
    numbers = [int(sentence.split()[-1]) for sentence in sentences[::2]]
    assert sum(numbers) / len(numbers) == pytest.approx(500, abs=50)
    assert numbers != sorted(numbers)


def test_of_few_it_is_all():
    assert len(drawn(10**9, PAIRS)) == len(PAIRS)
