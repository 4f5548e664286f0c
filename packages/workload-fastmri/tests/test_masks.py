"""Which columns are kept: reference masks for evaluations, the law, and what training masks depend on."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from algoperf.data import ShuffledOrder
from algoperf_fastmri import masks
from algoperf_fastmri.masks import column_law, evaluation_mask, philox_uniform, training_mask
from algoperf_fastmri.spec import FASTMRI, Scans

SCANS = FASTMRI.dataset.options
GOLDEN = json.loads((Path(__file__).parent / "golden" / "masks.json").read_text())
WIDTHS = [16, 17, 63, 64, 320, 368, 372, 401]


@pytest.mark.parametrize("width", GOLDEN["laws"])
def test_the_law_is_the_reference_s(width):
    law, expected = column_law(int(width), SCANS), GOLDEN["laws"][width]
    assert (law.num_low, law.start) == (expected["num_low"], expected["pad"])
    assert law.probability.dtype == np.float32
    assert law.probability == np.float32(expected["prob"])


def test_the_evaluation_mask_is_the_reference_s():
    assert "".join(map(str, evaluation_mask(368, SCANS).astype(int))) == GOLDEN["mask_368"]


def test_another_seed_draws_what_the_reference_draws():
    """Its first two words of 32 bits; a number has the lower 23 of each."""
    first, second = (GOLDEN["stream_of_1_2"] >> shift & 0x7FFFFF for shift in (0, 32))
    assert (philox_uniform((1, 2), 2) * 2**23).tolist() == [first, second]


def test_all_64_bits_of_a_seed_count():
    seeds = [(0, 0), (1, 0), (0, 1), (2**32, 0), (0, 2**32), (2**64 - 1, 0)]
    assert len({philox_uniform(seed, 8).tobytes() for seed in seeds}) == len(seeds)


@pytest.mark.parametrize("count", range(10))
def test_more_numbers_continue_the_same_sequence(count):
    found = philox_uniform((3, 4), count)
    assert (found.shape, found.dtype) == ((count,), np.float32)
    np.testing.assert_array_equal(found, philox_uniform((3, 4), 100)[:count])


def test_numbers_are_uniform():
    numbers = philox_uniform((5, 6), 100_000)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts, _ = np.histogram(numbers, 10, (0, 1))
    assert abs(counts - 10_000).max() < 5 * 95  # standard deviations


def test_evaluation_masks_of_different_widths_share_one_sequence():
    numbers = philox_uniform((0, 0), max(WIDTHS))
    for width in WIDTHS:
        law, mask = column_law(width, SCANS), evaluation_mask(width, SCANS)
        centre = np.zeros(width, bool)
        centre[law.start : law.start + law.num_low] = True
        np.testing.assert_array_equal(mask, (numbers[:width] < law.probability) | centre)


def test_nobody_changes_the_evaluation_mask_by_mistake():
    with pytest.raises(ValueError, match="read-only"):
        evaluation_mask(64, SCANS)[0] = True


@pytest.mark.parametrize("width", WIDTHS)
def test_the_lowest_frequencies_are_always_kept(width):
    low = int(0.08 * width)
    middle = width // 2
    for mask in [evaluation_mask(width, SCANS), *(training_mask(width, SCANS, (0, 0, i)) for i in range(50))]:
        assert (mask.shape, mask.dtype) == ((width,), bool)
        assert mask[middle - (low - 1) // 2 : middle + low // 2].all()
        assert mask[middle]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("acceleration", "center_fraction"), [(4, 0.08), (8, 0.04)])
def test_one_column_of_so_many_is_kept_on_the_average(width, acceleration, center_fraction):
    scans = Scans(acceleration=acceleration, center_fraction=center_fraction)
    some = np.array([training_mask(width, scans, (1, 2, i)) for i in range(2_000)])
    law = column_law(width, scans)
    assert law.num_low == int(width * center_fraction)
    # In standard deviations.
    spread = np.sqrt(law.probability * (1 - law.probability) * (width - law.num_low) / len(some))
    assert abs(some.sum(axis=1).mean() - width / acceleration) < 4 * spread
    # And no other column more often than the next.
    others = np.delete(some.mean(axis=0), np.s_[law.start : law.start + law.num_low])
    assert abs(others - law.probability).max() < 5 * np.sqrt(law.probability * (1 - law.probability) / len(some))


def test_training_masks_differ_by_seed_epoch_and_slice():
    keys = list(product((0, 1, 2**63), (0, 1, 2), (0, 1, 34_741)))
    drawn = [training_mask(368, SCANS, key) for key in keys]
    assert len({mask.tobytes() for mask in drawn}) == len(keys)
    for key, mask in zip(keys, drawn, strict=True):
        np.testing.assert_array_equal(training_mask(368, SCANS, key), mask)


def test_a_training_mask_shares_no_random_numbers_with_the_order(monkeypatch):
    seen = []
    default_rng = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda key: seen.append(key) or default_rng(key))
    ShuffledOrder(10, 7).take(0, 10)
    masks.training_mask(64, SCANS, (7, 0, 0))
    order, mask = (default_rng(key).random(4).tolist() for key in seen)
    assert order != mask
