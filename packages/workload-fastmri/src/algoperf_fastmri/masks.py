"""Which columns of k-space are kept: those around the lowest frequency, and some of the others by chance.

The law is fastMRI's (Zbontar et al., https://arxiv.org/abs/1811.08839, section 6); a column is a step of phase
encoding, and to leave it out saves the time to measure it.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from algoperf_fastmri.spec import Scans

_EVALUATION_SEED = (0, 0)
# What the key of a training mask ends with. Keys of orders and subsets of examples are shorter, and count as ending
# with 0.
_MASKS = 1

# Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
_ROUNDS = 10
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
# With this key TensorFlow scrambles the seeds of its stateless random numbers.
_SEED_KEY = 0x3EC8F720, 0x02461E29


class ColumnLaw(NamedTuple):
    """How the columns of k-space are chosen.

    Attributes:
        num_low: columns around the lowest frequency, which are always kept.
        start: the first of them.
        probability: of each other column to be kept; float32.
    """

    num_low: int
    start: int
    probability: np.float32


def column_law(width: int, scans: Scans) -> ColumnLaw:
    """How columns are chosen where there are `width`: on the average one of `scans.acceleration` is kept."""
    # In float32, as the numbers are compared with random ones of float32.
    num_low = int(np.float32(width) * np.float32(scans.center_fraction))
    kept, others = np.float32(width / scans.acceleration - num_low), np.float32(width - num_low)
    return ColumnLaw(num_low, (width - num_low + 1) // 2, kept / others)


@lru_cache
def evaluation_mask(width: int, scans: Scans) -> np.ndarray:
    """The columns that are kept in evaluations, the same in all slices. Shape [width], bool; not to be written to.

    It is drawn as AlgoPerf's published targets were measured. Masks of different widths are cut from one sequence of
    random numbers.
    """
    mask = _choose(philox_uniform(_EVALUATION_SEED, width), scans)
    mask.flags.writeable = False
    return mask


def training_mask(width: int, scans: Scans, key: tuple[int, int, int]) -> np.ndarray:
    """The columns that are kept of a training slice. Shape [width], bool.

    Numpy's own generator draws it: no sequence has to be reproduced, and its keys take numbers of any size.

    Args:
        width: columns that there are.
        scans: how many to keep.
        key: seed, epoch and number of the slice, of which the mask is a function.
    """
    return _choose(np.random.default_rng((*key, _MASKS)).random(width, np.float32), scans)


def philox_uniform(seed: tuple[int, int], count: int) -> np.ndarray:
    """What TensorFlow's `stateless_uniform` draws: numbers in [0, 1). Shape [count], float32.

    Args:
        seed: two numbers of 64 bits.
        count: how many to draw; more continue the same sequence.
    """
    words = [np.array([number >> shift & 0xFFFFFFFF], np.uint64) for number in seed for shift in (0, 32)]
    key_low, key_high, *stream = (int(word[0]) for word in _philox(words, _SEED_KEY))
    blocks = np.arange(-(-count // 4), dtype=np.uint64)
    counters = [blocks, np.zeros_like(blocks), *(np.full_like(blocks, number) for number in stream)]
    bits = np.stack(_philox(counters, (key_low, key_high)), axis=1).ravel()[:count].astype(np.uint32)
    # As the 23 bits behind the point of a number in [1, 2).
    return (bits & np.uint32(0x7FFFFF) | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)


def _choose(uniform: np.ndarray, scans: Scans) -> np.ndarray:
    law = column_law(len(uniform), scans)
    mask: np.ndarray = uniform < law.probability
    mask[law.start : law.start + law.num_low] = True
    return mask


def _philox(counter: list[np.ndarray], key: tuple[int, int]) -> list[np.ndarray]:
    """Philox4x32-10 of counters: four words of 32 bits each, as uint64 [N], to four random ones."""
    word_0, word_1, word_2, word_3 = counter
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    for number in range(_ROUNDS):
        key_0, key_1 = (np.uint64(k + number * step & 0xFFFFFFFF) for k, step in zip(key, _KEY_STEPS))
        product_0, product_1 = (np.uint64(m) * word for m, word in zip(_MULTIPLIERS, (word_0, word_2)))
        word_0, word_1, word_2, word_3 = (
            (product_1 >> high) ^ word_1 ^ key_0,
            product_1 & low,
            (product_0 >> high) ^ word_3 ^ key_1,
            product_0 & low,
        )
    return [word_0, word_1, word_2, word_3]
