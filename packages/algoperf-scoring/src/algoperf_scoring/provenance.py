"""What the logs say about where they come from: machines, versions, and the targets that they were run with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from algoperf_scoring.anomalies import Anomaly, Kind
from algoperf_scoring.json_files import read_object
from algoperf_scoring.logs import Logs, Trial

# The public logs' names and ours.
_MACHINE = (
    "gpu_model_name",
    "gpu_count",
    "gpu_driver",
    "device_kind",
    "device_count",
    "cpu_model_name",
    "python_version",
    "clock",
)
_OFFICIAL_CLOCK = "wall"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where logs come from.

    Attributes:
        machines: each kind of machine with its software, and how many trials it ran ("trials"), most first.
        anomalies: trials that were run with another target than they are scored by, or with another clock.
    """

    machines: list[dict[str, Any]]
    anomalies: list[Anomaly]


def read(logs: Logs) -> Provenance:
    """Reads what every trial said of itself when it began; a file that is missing or damaged says nothing."""
    machines: Counter[str] = Counter()
    anomalies: list[Anomaly] = []
    for trial in logs.trials:
        metadata = read_object(trial.folder.path / "meta_data_0.json")
        machines[json.dumps(_machine(metadata, trial))] += 1
        anomalies += _doubts(metadata, trial, logs)
    anomalies += _other_rulesets(logs)
    return Provenance(
        machines=[
            {**json.loads(machine), "trials": number}
            for machine, number in sorted(machines.items(), key=lambda item: (-item[1], item[0]))
        ],
        anomalies=anomalies,
    )


def _other_rulesets(logs: Logs) -> Iterator[Anomaly]:
    """What the first trial of each submission says: all of them are run in one go."""
    first = {trial.folder.submission: trial for trial in reversed(logs.trials)}
    for trial in first.values():
        flags = read_object(trial.folder.path / "flags_0.json")
        told = flags.get("ruleset", flags.get("tuning_ruleset"))
        if told in logs.rules.rulesets and told != logs.ruleset:
            yield Anomaly(trial.folder.path, Kind.OTHER_RULESET, str(told))


def _machine(metadata: Mapping[str, Any], trial: Trial) -> dict[str, Any]:
    versions = metadata.get("versions")
    return {
        **{name: str(value) for name, value in (versions if isinstance(versions, dict) else {}).items()},
        **{name: _plain(metadata[name]) for name in _MACHINE if name in metadata},
        "submission": trial.folder.submission,
        "framework": trial.folder.framework,
    }


def _plain(value: Any) -> str | int:
    """Numbers of devices stay numbers; all else is text."""
    return value if isinstance(value, int) else str(value)


def _doubts(metadata: Mapping[str, Any], trial: Trial, logs: Logs) -> Iterator[Anomaly]:
    target = logs.rules.workloads[trial.folder.workload].target
    # Logs of others write their target as a number of its own; ours, among the workload's facts.
    facts = metadata.get("workload.target")
    told = facts.get("validation") if isinstance(facts, dict) else metadata.get("workload.validation_target_value")
    if isinstance(told, int | float) and told != target:
        yield Anomaly(trial.folder.path, Kind.OTHER_TARGET, f"{told!s:.20}; it is scored by {target:g}")
    budget_s = logs.rules.workloads[trial.folder.workload].budget_s
    told = metadata.get("workload.max_allowed_runtime_sec")
    if isinstance(told, int | float) and told != budget_s:
        yield Anomaly(trial.folder.path, Kind.OTHER_BUDGET, f"{told!s:.20} s; it is scored by {budget_s:g} s")
    clock = metadata.get("clock") or _OFFICIAL_CLOCK
    if clock != _OFFICIAL_CLOCK:
        yield Anomaly(trial.folder.path, Kind.OTHER_CLOCK, str(clock))
