"""Which frameworks are installed, without importing one."""

import importlib.util

from algoperf.spec import Framework

MODULES = {Framework.JAX: "jax", Framework.PYTORCH: "torch"}


def is_installed(framework: Framework) -> bool:
    """Whether a framework can be imported."""
    return importlib.util.find_spec(MODULES[framework]) is not None


def installed() -> list[Framework]:
    """The frameworks that can be imported."""
    return [framework for framework in Framework if is_installed(framework)]


def check_installed(framework: Framework) -> None:
    """Raises ImportError, naming the command to run, if a framework is not installed."""
    if not is_installed(framework):
        raise ImportError(
            f"{framework.value} is not installed; install it with `uv pip install 'algoperf-core[{framework.value}]'`.",
            name=MODULES[framework],
        )
