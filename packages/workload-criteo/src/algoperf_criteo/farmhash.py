"""Numbers of categories: FarmHash's Fingerprint64 (https://github.com/google/farmhash), vectorised; numpy only.

The public implementation hashes the text of a field, with the number of its column behind, into as many buckets as
the column has categories. Here such texts are always of 9 or 10 bytes, for which FarmHash has one formula.
"""

import numpy as np

# Of each categorical column: its categories, as the public implementation counts them.
NUM_BUCKETS = (
    39_884_406,
    39_043,
    17_289,
    7_420,
    20_263,
    3,
    7_120,
    1_543,
    63,
    38_532_951,
    2_953_546,
    403_346,
    10,
    2_208,
    11_938,
    155,
    4,
    976,
    14,
    39_979_771,
    25_641_295,
    39_664_984,
    585_935,
    12_972,
    108,
    36,
)
_K2 = 0x9AE16A3B2F90404F


def bucket_ids(words: np.ndarray) -> np.ndarray:
    """The number of each category within its column.

    The public implementation keeps them as float32. So does this: from 2^24 on, numbers are rounded to even ones, and
    from 2^25 on to multiples of 4.

    Args:
        words: the 8 bytes of each field as a little-endian number, a row per categorical column. [26, N], uint64.

    Returns:
        [26, N], float32.
    """
    hashes = fingerprint64(words)
    buckets = np.array(NUM_BUCKETS, np.uint64)[:, None]
    # Not `%`: numpy divides by a constant without the processor's slow division.
    ids = hashes - hashes // buckets * buckets
    # They are small; from signed numbers the conversion is a single instruction.
    return ids.view(np.int64).astype(np.float32)


def fingerprint64(words: np.ndarray) -> np.ndarray:
    """Fingerprint64 of each field's 8 bytes and the decimal digits of its column, 0 to 25.

    Args:
        words: as in `bucket_ids`.

    Returns:
        [26, N], uint64.
    """
    digits = [str(column).encode() for column in range(len(words))]
    # FarmHash reads the first and the last 8 bytes of a text.
    shifts = _constants([8 * len(text) for text in digits])
    tails = _constants([int.from_bytes(text, "little") << 64 - 8 * len(text) for text in digits])
    multipliers = _constants([_K2 + 2 * (8 + len(text)) & 2**64 - 1 for text in digits])
    first = words + np.uint64(_K2)
    last = words >> shifts | tails
    c = _rotated(last, 37) * multipliers + first
    d = (_rotated(first, 25) + last) * multipliers
    mixed = _folded((c ^ d) * multipliers)
    return _folded((d ^ mixed) * multipliers) * multipliers


def _constants(numbers: list[int]) -> np.ndarray:
    """A number per column, [26, 1]."""
    return np.array(numbers, np.uint64)[:, None]


def _rotated(values: np.ndarray, bits: int) -> np.ndarray:
    """To the right."""
    return values >> np.uint64(bits) | values << np.uint64(64 - bits)


def _folded(values: np.ndarray) -> np.ndarray:
    return values ^ values >> np.uint64(47)
