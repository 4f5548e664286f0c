"""What results are good for: the reference accelerators of each version of the rules, and what a trial ran on."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from algoperf.spec import Scale
from algoperf.trial_config import TrialConfig


class ResultsStatus(enum.StrEnum):
    """How far the times of a trial may be compared."""

    OFFICIAL = "official"  # On the reference accelerators: with all results of the same rules.
    COMPARABLE = "comparable"  # Full scale on other GPUs: with results of the same GPUs alone.
    LOCAL = "local"  # All else; for development.


@dataclass(frozen=True, kw_only=True)
class Accelerators:
    """What the budgets of a rules version are meant for.

    Attributes:
        count: how many devices train one trial.
        model: what the device's name holds, as drivers and frameworks write it.
        memory_gb: memory of each, in GB, as its name says it.
        title: for people.
    """

    count: int
    model: str
    memory_gb: int
    title: str

    def matches(self, kind: str, count: int) -> bool:
        """Whether devices of a framework's name, such as "NVIDIA A100-SXM4-40GB", are these."""
        name = kind.upper().replace(" ", "")
        # A slice of such a device ("… MIG 1g.5gb") is none.
        return count == self.count and self.model in name and f"{self.memory_gb}GB" in name and "MIG" not in name


_V100 = Accelerators(count=8, model="V100", memory_gb=16, title="8× NVIDIA V100 16 GB")
_A100 = Accelerators(count=4, model="A100", memory_gb=40, title="4× NVIDIA A100 40 GB")
REFERENCE: Mapping[str, Accelerators] = {"v0.5": _V100, "v0.6": _V100, "v1.0": _A100}


def status(config: TrialConfig, hardware: Mapping[str, Any]) -> tuple[ResultsStatus, str]:
    """What the times of a trial are good for, and why no better: of its configuration and `Backend.hardware()`."""
    if config.scale is not Scale.FULL:
        return ResultsStatus.LOCAL, f"{config.scale.value} scale"
    if config.clock != "wall":
        return ResultsStatus.LOCAL, f"{config.clock} clock"
    kind, count = str(hardware["device_kind"]), int(hardware["device_count"])
    if hardware["device_platform"] not in ("gpu", "cuda"):
        return ResultsStatus.LOCAL, f"no GPU, but {kind}"
    reference = REFERENCE[config.rules]
    if reference.matches(kind, count):
        return ResultsStatus.OFFICIAL, reference.title
    return ResultsStatus.COMPARABLE, f"{count}× {kind} instead of {reference.title}"
