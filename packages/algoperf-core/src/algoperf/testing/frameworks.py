"""Tests of a framework that may not be installed."""

import importlib.util
import os

import pytest

from algoperf.spec import Framework

_MODULES = {Framework.JAX: "jax", Framework.PYTORCH: "torch"}


def is_installed(framework: Framework) -> bool:
    """Whether a framework can be imported, without importing it."""
    return importlib.util.find_spec(_MODULES[framework]) is not None


def require(framework: Framework | str) -> None:
    """Skips the calling test or module if a framework is missing.

    Fails instead if the environment variable `ALGOPERF_REQUIRE` names it: without that, a green run on a machine
    that lacks it would have tested nothing.
    """
    framework = Framework(framework)
    if is_installed(framework):
        return
    if framework.value in os.environ.get("ALGOPERF_REQUIRE", "").split():
        pytest.fail(f"{framework.value} is required here (ALGOPERF_REQUIRE) and not installed.", pytrace=False)
    pytest.skip(f"{framework.value} is not installed", allow_module_level=True)


def param(framework: Framework) -> object:
    """A framework as a pytest parameter, to be passed to `require` in the test."""
    return pytest.param(framework, id=framework.value)


BOTH = [param(Framework.JAX), param(Framework.PYTORCH)]
