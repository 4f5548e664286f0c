"""What all tests of the repository share."""

import sys

import pytest


@pytest.fixture(autouse=True, scope="module")
def forget_what_was_compiled():
    """JAX keeps every compiled function of a process: several GiB after some hundred tests."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
