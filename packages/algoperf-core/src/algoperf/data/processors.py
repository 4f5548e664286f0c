"""How many processors this process may use, and threads for them."""

import os
from concurrent.futures import ThreadPoolExecutor

from algoperf.data.batches import Shards


def num_processors() -> int:
    """Those that the launcher or the system left to it; threads beyond their number would only wait."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class PipelineThreads:
    """Threads that make the examples of batches; none is there before they are asked for.

    Args:
        name: what theirs begin with.
        number: how many; None asks for this process's share of the processors.
    """

    def __init__(self, name: str, number: int | None = None) -> None:
        self._name = name
        self._number = number
        self._pool: ThreadPoolExecutor | None = None

    def pool(self, shards: Shards) -> ThreadPoolExecutor:
        """The threads, the same ones at each call; `shards` are those that this process feeds."""
        if self._pool is None:
            # Processes that feed other shards may be on this machine too.
            share = num_processors() * len(shards.local) // shards.total
            self._pool = ThreadPoolExecutor(self._number or max(1, share), thread_name_prefix=self._name)
        return self._pool
