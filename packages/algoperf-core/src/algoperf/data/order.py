"""In which order training examples come."""

from functools import lru_cache

import numpy as np

# Of another length than the seeds of orders, which are (seed, epoch): a stream of its own.
_SUBSET_SEED = (0, 0, 1)


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

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Indices at any positions, int64 of the same shape; quick where they lie in two epochs at most."""
        epochs, offsets = np.divmod(positions, self.num_examples)
        indices = np.empty(positions.shape, np.int64)
        for epoch in np.unique(epochs).tolist():
            inside = epochs == epoch
            indices[inside] = self._permutation(epoch)[offsets[inside]]
        return indices


def fixed_subset(num_examples: int, size: int) -> np.ndarray:
    """The training examples that evaluations look at: `size` indices in ascending order, the same in every trial.

    Raises:
        ValueError: there are fewer examples than that.
    """
    if size > num_examples:
        raise ValueError(f"There are {num_examples} training examples; an evaluation cannot look at {size} of them.")
    return np.sort(np.random.default_rng(_SUBSET_SEED).permutation(num_examples)[:size])
