"""How many processors this process may use."""

import os


def num_processors() -> int:
    """Those that the launcher or the system left to it; threads beyond their number would only wait."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
