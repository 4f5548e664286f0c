"""In which order training examples come."""

from functools import lru_cache

import numpy as np


class ShuffledOrder:
    """An endless sequence of example indices: one permutation after the other, each with a shuffle of its own.

    A pure function of `(num_examples, seed)` with random access, so that a position in it is all that a
    checkpoint has to hold.
    """

    def __init__(self, num_examples: int, seed: int) -> None:
        if num_examples < 1:
            raise ValueError("There are no examples to shuffle.")
        self.num_examples = num_examples
        self._permutation = lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng([seed, epoch]).permutation(num_examples)
        )

    def take(self, start: int, count: int) -> np.ndarray:
        """Indices at positions `start` … `start + count - 1`. Shape [count], int64."""
        parts = []
        while count > 0:
            epoch, offset = divmod(start, self.num_examples)
            part = self._permutation(epoch)[offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts) if parts else np.empty(0, np.int64)
