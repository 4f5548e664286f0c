"""What the machine does while a trial runs. It can never stop a run: what cannot be read is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import psutil


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
