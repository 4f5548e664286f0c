"""A random sample of a corpus that is the same everywhere, whatever the order in which its members come."""

import hashlib
import heapq
from collections.abc import Iterator


class Sample:
    """Pairs of texts, drawn uniformly without replacement until they have so many bytes.

    The draw is by the SHA-256 of each pair's key, so it can be made anew on any machine. Each text counts with a byte
    for the end of its line; the pair with which the number is reached belongs to the sample.
    """

    def __init__(self, num_bytes: int):
        self._num_bytes = num_bytes
        self.size = 0
        # The one of the highest rank first.
        self._drawn: list[tuple[int, str, str]] = []

    def offer(self, key: str, german: str, english: str) -> None:
        """Takes a pair in, if it is drawn. Keys have to differ."""
        drawn = (-int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]), german, english)
        if self.size >= self._num_bytes and drawn < self._drawn[0]:
            return
        heapq.heappush(self._drawn, drawn)
        self.size += _num_bytes(drawn)
        while self.size - _num_bytes(self._drawn[0]) >= self._num_bytes:
            self.size -= _num_bytes(heapq.heappop(self._drawn))

    def __len__(self) -> int:
        return len(self._drawn)

    def sentences(self) -> Iterator[str]:
        """The texts, German and English in turn, in the order of their draw."""
        for _, german, english in sorted(self._drawn, reverse=True):
            yield german
            yield english


def _num_bytes(drawn: tuple[int, str, str]) -> int:
    return sum(len(text.encode()) + 1 for text in drawn[1:])
