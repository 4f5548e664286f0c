"""What the machine does while a trial runs. It can never stop a run: what cannot be read is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil


class Memory(NamedTuple):
    """Bytes of memory."""

    total: int
    available: int


def memory_here() -> Memory:
    """The memory of this machine, or of the part of it that this process's control group may use."""
    machine = psutil.virtual_memory()
    with suppress(OSError, ValueError):
        # "max" is no number.
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        taken = int(Path("/sys/fs/cgroup/memory.current").read_text())
        return Memory(min(machine.total, limit), min(machine.available, limit - taken))
    return Memory(machine.total, machine.available)


def sample(devices: Sequence[str] = ()) -> dict[str, Any]:
    """Figures of this moment: plain data, empty where nothing could be read.

    Args:
        devices: UUIDs of the GPUs to look at.

    Returns:
        `cpu_percent` (of all cores, since the last call), `memory_available_bytes`, and under `gpus`,
        for each device, `uuid`, `percent`, `memory_bytes`, `watts` and `celsius`.
    """
    figures: dict[str, Any] = {}
    # Of any kind: a driver that fails under a run raises what nobody expects.
    with suppress(Exception):
        figures["cpu_percent"] = psutil.cpu_percent()
        figures["memory_available_bytes"] = psutil.virtual_memory().available
    if devices:
        with suppress(Exception):
            figures["gpus"] = list(_gpus(devices))
    return figures


def _gpus(devices: Sequence[str]) -> Iterator[dict[str, Any]]:
    import pynvml  # Only where there are GPUs.

    pynvml.nvmlInit()
    try:
        for uuid in devices:
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            yield {
                "uuid": uuid,
                "percent": pynvml.nvmlDeviceGetUtilizationRates(handle).gpu,
                "memory_bytes": pynvml.nvmlDeviceGetMemoryInfo(handle).used,
                "watts": pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
                "celsius": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
            }
    finally:
        pynvml.nvmlShutdown()
