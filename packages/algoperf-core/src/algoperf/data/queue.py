"""The iterator that submissions take their batches from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from algoperf.data._grain import ThreadPrefetchIterDataset, grain


class InputQueue(Iterator[Any]):
    """Batches on the devices. A thread reads and copies ahead, so that `next` finds its batch there already.

    Args:
        batches: numpy batches of this process's shards.
        place: starts the copy of a batch to the devices.
        state: where to go on, as `state` returned it; None starts at the beginning.
        ahead: batches that are prepared before they are asked for.
    """

    def __init__(
        self,
        batches: grain.IterDataset,
        place: Callable[[Any], Any],
        state: Mapping[str, Any] | None = None,
        ahead: int = 1,
    ) -> None:
        self._iterator = iter(ThreadPrefetchIterDataset(batches.map(place), prefetch_buffer_size=ahead))
        if state is not None:
            self._iterator.set_state(dict(state))

    def __next__(self) -> Any:
        return next(self._iterator)

    def state(self) -> dict[str, Any]:
        """The position after the last batch that was handed out (not those that are ready); plain data."""
        state: dict[str, Any] = self._iterator.get_state()
        return state

    def close(self) -> None:
        """Ends the thread. The queue is of no use afterwards."""
        if self._iterator is not None:
            self._iterator.close()
            # Let go of now: grain complains when an iterator is collected while the interpreter shuts down.
            self._iterator = None

    def __enter__(self) -> InputQueue:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
