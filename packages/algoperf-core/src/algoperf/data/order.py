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


class BlockShuffledOrder:
    """An endless sequence of example indices, for more examples than one would hold a permutation of in memory.

    In each epoch the order of blocks, of neighbouring examples, is drawn anew; a window is so many blocks that follow
    each other in that order, and its examples come in an order of their own. So an example is mixed with those of
    blocks from anywhere, and reading a window reads few places of a file. A pure function of its arguments with random
    access, as `ShuffledOrder` is.

    Args:
        num_examples: examples that there are.
        seed: decides the order.
        block: neighbouring examples that stay in one window.
        window: blocks that are mixed.
    """

    def __init__(self, num_examples: int, seed: int, block: int, window: int) -> None:
        if num_examples < 1:
            raise ValueError("There are no examples to shuffle.")
        self.num_examples = num_examples
        self._seed, self._block, self._window = seed, block, window
        self._blocks = lru_cache(maxsize=2)(self._draw_blocks)
        self._members = lru_cache(maxsize=2)(self._draw_members)

    def take(self, start: int, count: int) -> np.ndarray:
        """Indices at positions `start` … `start + count - 1`. Shape [count], int64."""
        parts = [np.empty(0, np.int64)]
        while count > 0:
            epoch, offset = divmod(start, self.num_examples)
            starts = self._blocks(epoch)[1]
            window = int(np.searchsorted(starts, offset, side="right")) - 1
            part = self._members(epoch, window)[offset - starts[window] :][:count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts)

    def _draw_blocks(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of the blocks, and the position in the epoch at which each window starts; both int64."""
        order = np.random.default_rng([self._seed, epoch]).permutation(-(-self.num_examples // self._block))
        # The last block may be shorter, wherever it comes.
        sizes = np.minimum(self._block, self.num_examples - order * self._block)
        starts = np.cumsum(sizes) - sizes
        return order, starts[:: self._window]

    def _draw_members(self, epoch: int, window: int) -> np.ndarray:
        """The examples of a window in their order. int64, up to [block * window]."""
        blocks = self._blocks(epoch)[0][window * self._window :][: self._window]
        indices = (blocks[:, None] * self._block + np.arange(self._block)).ravel()
        indices = indices[indices < self.num_examples]
        # Not the seeds of the blocks, whose third number counts as 0, nor that of the subset below.
        np.random.default_rng([self._seed, epoch, window + 2]).shuffle(indices)
        return indices


def fixed_subset(num_examples: int, size: int) -> np.ndarray:
    """The training examples that evaluations look at: `size` indices in ascending order, the same in every trial.

    Raises:
        ValueError: there are fewer examples than that.
    """
    if size > num_examples:
        raise ValueError(f"There are {num_examples} training examples; an evaluation cannot look at {size} of them.")
    return np.sort(np.random.default_rng(_SUBSET_SEED).permutation(num_examples)[:size])
