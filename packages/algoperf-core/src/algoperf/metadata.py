"""What the records say about the machine and the software of a run."""

import importlib.metadata
import platform
from typing import Any

import psutil

_PACKAGES = ("algoperf-core", "jax", "jaxlib", "flax", "optax", "torch", "torch-geometric", "numpy")


def run_metadata() -> dict[str, Any]:
    """Operating system, processor, memory, and the versions of what computes; plain data."""
    return {
        "os_platform": platform.platform(),
        "python_version": platform.python_version(),
        "python_compiler": platform.python_compiler(),
        "cpu_model_name": _cpu_model_name(),
        "cpu_count": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _cpu_model_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
