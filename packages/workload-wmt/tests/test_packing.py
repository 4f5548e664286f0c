"""Packing: every pair once, no row too full, little wasted."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf_wmt.packing import pack

SIZE = 16
LENGTHS = st.lists(st.tuples(st.integers(1, SIZE), st.integers(1, SIZE)), min_size=1, max_size=60)


@settings(deadline=None)
@given(lengths=LENGTHS)
def test_every_pair_is_in_one_row_that_has_room(lengths):
    lengths = np.array(lengths)
    rows = pack(lengths, SIZE)
    assert sorted(np.concatenate(rows)) == list(range(len(lengths)))
    assert all((lengths[row].sum(axis=0) <= SIZE).all() for row in rows)


def plainly(lengths):
    """Best fit, the longest first, one comparison at a time."""
    rows = []
    for pair in sorted(range(len(lengths)), key=lambda pair: -max(lengths[pair])):
        slacks = []
        for number, row in enumerate(rows):
            rest = [SIZE - sum(lengths[one][side] for one in [*row, pair]) for side in (0, 1)]
            if min(rest) >= 0:
                slacks.append((sum(rest), number))
        if slacks:
            rows[min(slacks)[1]].append(pair)
        else:
            rows.append([pair])
    return [sorted(row) for row in rows]


@settings(deadline=None)
@given(lengths=LENGTHS)
def test_each_pair_goes_where_it_fits_best(lengths):
    assert [row.tolist() for row in pack(np.array(lengths), SIZE)] == plainly(lengths)


def test_pairs_of_a_row_come_in_the_order_given():
    rows = pack(np.array([[2, 2], [5, 5], [3, 3], [6, 6]]), SIZE)
    assert [row.tolist() for row in rows] == [[0, 1, 2, 3]]


def test_one_long_side_closes_a_row():
    rows = pack(np.array([[15, 1], [2, 2], [1, 15]]), SIZE)
    assert [row.tolist() for row in rows] == [[0, 2], [1]]


def test_less_than_a_twentieth_is_wasted_of_sentences_like_wmts():
    rng = np.random.default_rng(0)
    common = rng.lognormal(3.2, 0.65, 2_048)
    sides = [common * rng.lognormal(mean, spread, 2_048) for mean, spread in ((0.03, 0.18), (0.0, 0.12))]
    lengths = np.stack(sides, axis=1).astype(int).clip(2, 256)
    assert lengths.sum() / (len(pack(lengths, 256)) * 2 * 256) > 0.95
