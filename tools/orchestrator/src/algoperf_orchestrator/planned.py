"""One planned trial, and its name. Apart from planning, which is slow to import, because the ledger is read often."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from algoperf.records import trial_folder
from algoperf.trial_config import TrialConfig


class Key(NamedTuple):
    """What tells a trial apart in its experiment; `submission` is the label, which is a folder's name."""

    submission: str
    workload: str
    framework: str
    study: int
    trial: int

    def folder(self, experiment: Path) -> Path:
        """Where its records lie in an experiment of several submissions."""
        return trial_folder(experiment / self.submission, self.study, self.workload, self.framework, self.trial)

    def __str__(self) -> str:
        return f"{self.submission}/study_{self.study}/{self.workload}_{self.framework}/trial_{self.trial}"


@dataclass(frozen=True, kw_only=True)
class PlannedTrial:
    """One trial.

    Attributes:
        label: its submission's folder in the experiment.
        config: what determines it.
    """

    label: str
    config: TrialConfig

    @property
    def key(self) -> Key:
        """What tells it apart."""
        config = self.config
        return Key(self.label, config.workload, config.framework.value, config.study, config.trial)

    def as_json(self) -> dict[str, Any]:
        """What a dry run prints of it."""
        config = self.config
        return {
            "submission": self.label,
            "workload": config.workload,
            "framework": config.framework.value,
            "study": config.study,
            "trial": config.trial,
            "seed": config.seed,
            "hyperparameters": config.hyperparameters,
            "budget_s": config.max_runtime_s,
        }
