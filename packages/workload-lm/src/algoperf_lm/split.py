"""Which documents are for training and which for validation, and in which order they come.

A way to divide them takes of each document, in the order of the shards, a hash of its text and its number of tokens,
and of each split how many tokens it shall have. It returns per split the numbers of its documents in their order, of
at least so many tokens if there are enough.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

Divide: TypeAlias = Callable[[np.ndarray, np.ndarray, Mapping[str, int]], dict[str, np.ndarray]]

_PUBLISHED_SHARE = 0.9
_SEED = 0


def by_document(hashes: np.ndarray, lengths: np.ndarray, num_tokens: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Documents in the order of their hashes: the first for validation, the next ones for training.

    So the order is as good as drawn, no text is in both splits, and neither depends on the order of the shards.

    Args:
        hashes: of the documents' texts [N], uint64.
        lengths: their numbers of tokens [N].
        num_tokens: of each split.
    """
    order = np.argsort(hashes, kind="stable")
    ends = np.cumsum(lengths[order], dtype=np.int64)
    last = min(int(np.searchsorted(ends, num_tokens["validation"])), len(order) - 1)
    # Texts that there are twice stay together.
    end = int(np.searchsorted(hashes[order], hashes[order[last]], side="right"))
    return {"validation": order[:end], "train": order[end:]}


def as_published(hashes: np.ndarray, lengths: np.ndarray, num_tokens: Mapping[str, int]) -> dict[str, np.ndarray]:
    """What the public implementation does: nine documents out of ten of validation are in training, too.

    It shuffles all documents, and takes the first nine tenths for training; then it shuffles them anew, and takes the
    last tenth of that order for validation. Its random numbers are TensorFlow's, these are not. Arguments as in
    `by_document`.
    """
    first, second = (np.random.default_rng([_SEED, number]).permutation(len(hashes)) for number in range(2))
    return {"validation": second[int(_PUBLISHED_SHARE * len(hashes)) :], "train": first}
