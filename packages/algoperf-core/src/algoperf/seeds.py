"""Randomness from names: the same in every process, on every machine, in every version of Python."""

import hashlib

import numpy as np


def stable_hash(*name: int | str) -> int:
    """64 bits that depend on `name` alone: the same in every process, on every machine, in every version."""
    return int.from_bytes(hashlib.blake2b(repr(name).encode(), digest_size=8).digest(), "little")


def random_key(*name: int | str) -> np.ndarray:
    """A random key, uint32 [2]: what `jax.random` and `torch.manual_seed` take.

    Made on the host, because splitting keys on a device costs more than the rest of the harness's step.
    """
    return np.array([stable_hash(*name)], np.uint64).view(np.uint32)
