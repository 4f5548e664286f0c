"""The one place that imports grain, so that a PyTorch run holds no JAX.

grain imports JAX where it is installed, for tree functions that it brings itself where JAX is not.
A trial in PyTorch must not load JAX (memory, threads, devices: docs/adr/0007), so the import is hidden from
grain unless JAX is there already.
"""

import sys

from absl import logging

_hidden = "jax" not in sys.modules
_verbosity = logging.get_verbosity()
try:
    if _hidden:
        sys.modules["jax"] = None  # type: ignore[assignment]
        # grain warns that it found no JAX profiler; that is the point.
        logging.set_verbosity(logging.ERROR)
    import grain
    from grain.experimental import ThreadPrefetchIterDataset
finally:
    logging.set_verbosity(_verbosity)
    if _hidden:
        del sys.modules["jax"]

__all__ = ["ThreadPrefetchIterDataset", "grain"]
