"""What the logs say about where they come from: machines, versions, what they are good for, and their targets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from pathlib import Path
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
_LONGEST_REASON = 200
# Reasons and machines that a sentence names; the page and JSON have all.
_TOLD = 3


class Status(StrEnum):
    """How far the times of a trial may be compared, as its logs say; from the best to the worst."""

    OFFICIAL = "official"  # With all results of the same rules.
    COMPARABLE = "comparable"  # With results of the same GPUs.
    UNKNOWN = "unknown"  # The logs do not say: published ones do not.
    LOCAL = "local"  # With each other alone.


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where one trial comes from.

    Attributes:
        submission: whose trial it is.
        status: the worst of its starts; a trial may go on elsewhere.
        reason: why no better, or the reference accelerators; empty if the logs do not say.
        accelerators: those of each start, like "4× NVIDIA A100"; sorted, none if the logs do not say.
        hosts: names of the machines that it ran on; likewise.
        is_wall_clock: whether its time is that of a clock on a wall.
    """

    submission: str
    status: Status
    reason: str
    accelerators: tuple[str, ...]
    hosts: tuple[str, ...]
    is_wall_clock: bool


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where logs come from.

    Attributes:
        machines: each kind of machine with its software, and how many trials it ran ("trials"), most first.
        anomalies: trials that were run with another target than they are scored by, or with another clock.
        origins: of each trial, in the order of the logs' trials.
    """

    machines: list[dict[str, Any]]
    anomalies: list[Anomaly]
    origins: Sequence[Origin]

    @property
    def hosts(self) -> list[str]:
        """Names of all machines, sorted."""
        return sorted({host for origin in self.origins for host in origin.hosts})


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What the times of several trials are good for.

    Attributes:
        status: the worst: a board is official only if all its trials are.
        counts: trials of each status that there are any of, from the best to the worst.
        reasons: number of trials by status and reason, most first.
        accelerators: number of trials on each, most first; a trial that went on elsewhere counts on both.
    """

    status: Status
    counts: Mapping[Status, int]
    reasons: Mapping[tuple[Status, str], int]
    accelerators: Mapping[str, int]

    @property
    def sentence(self) -> str:
        """What may be done with the results, for people."""
        if self.status is Status.UNKNOWN:
            return "Results: unknown whether official; the logs do not say."
        whole = sum(self.counts.values())
        parts = [
            reason + (f" in {number} of {whole} trials" if number < whole else "")
            for (status, reason), number in self.reasons.items()
            if status is self.status and reason
        ]
        told = f"Results: {self.status.value}" + (f" ({_first(parts)})" if parts else "")
        if self.status is Status.OFFICIAL:
            return f"{told}."
        if self.status is Status.LOCAL:
            return f"{told}; compare them only with each other.{self._machines}"
        return f"{told}; compare them only with results of the same GPUs.{self._machines}"

    @property
    def _machines(self) -> str:
        if len(self.accelerators) < 2:
            return ""
        told = _first([f"{name}: {number}" for name, number in self.accelerators.items()])
        return f" The machines differ (trials on {told}); times of different ones cannot be compared."

    def as_data(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "status": self.status.value,
            "counts": {status.value: number for status, number in self.counts.items()},
            "reasons": [
                {"status": status.value, "reason": reason, "trials": number}
                for (status, reason), number in self.reasons.items()
            ],
            "accelerators": dict(self.accelerators),
        }


def standing(origins: Sequence[Origin]) -> Standing:
    """What the times of trials are good for together; of no trials, nobody knows."""
    order = list(Status)
    told = Counter(origin.status for origin in origins)
    reasons = Counter((origin.status, origin.reason) for origin in origins if origin.status is not Status.UNKNOWN)
    accelerators = Counter(name for origin in origins for name in origin.accelerators)
    return Standing(
        status=max(told, key=order.index, default=Status.UNKNOWN),
        counts={status: told[status] for status in order if told[status]},
        reasons=dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        accelerators=dict(sorted(accelerators.items(), key=lambda item: (-item[1], item[0]))),
    )


def read(logs: Logs) -> Provenance:
    """Reads what every trial said of itself when it began; a file that is missing or damaged says nothing."""
    machines: Counter[str] = Counter()
    anomalies: list[Anomaly] = []
    origins: list[Origin] = []
    checksums: list[set[tuple[str, str]]] = []
    for trial in logs.trials:
        starts = list(_starts(trial.folder.path))
        checksums.append({told for start in starts for told in _checksums(start)})
        machines[json.dumps(_machine(starts[0], trial))] += 1
        anomalies += _doubts(starts[0], trial, logs)
        origins.append(_origin(starts, trial, logs))
    anomalies += _other_rulesets(logs)
    anomalies += _other_data(logs.trials, checksums)
    return Provenance(
        machines=[
            {**json.loads(machine), "trials": number}
            for machine, number in sorted(machines.items(), key=lambda item: (-item[1], item[0]))
        ],
        anomalies=anomalies,
        origins=origins,
    )


def _starts(folder: Path) -> Iterator[dict[str, Any]]:
    """What a trial said at its start, and at each restart that it said something at."""
    yield read_object(folder / "meta_data_0.json")
    for number in count(1):
        path = folder / f"meta_data_{number}.json"
        if not path.is_file():
            return
        yield read_object(path)


def _origin(starts: Sequence[Mapping[str, Any]], trial: Trial, logs: Logs) -> Origin:
    order = list(Status)
    status, reason = max((_status(start) for start in starts), key=lambda told: order.index(told[0]))
    if status in (Status.OFFICIAL, Status.COMPARABLE) and (other := _other_rules(trial, logs)):
        status, reason = Status.LOCAL, f"run under rules {other}"
    return Origin(
        submission=trial.folder.submission,
        status=status,
        reason=reason,
        accelerators=tuple(sorted({text for start in starts if (text := _accelerators(start))})),
        hosts=tuple(sorted({_line(start["hostname"]) for start in starts if start.get("hostname")})),
        is_wall_clock=all((start.get("clock") or _OFFICIAL_CLOCK) == _OFFICIAL_CLOCK for start in starts),
    )


def _status(start: Mapping[str, Any]) -> tuple[Status, str]:
    told = start.get("results_status")
    if not isinstance(told, str) or told not in set(Status):
        return Status.UNKNOWN, ""
    return Status(told), _line(start.get("results_status_reason", ""))


def _other_rules(trial: Trial, logs: Logs) -> str:
    """The rules that a trial was run under, if it is scored by others."""
    told = read_object(trial.folder.path / "flags_0.json").get("rules", logs.rules.name)
    return "" if told == logs.rules.name else _line(told)


def _accelerators(start: Mapping[str, Any]) -> str:
    kind = start.get("device_kind", start.get("gpu_model_name"))
    number = start.get("device_count", start.get("gpu_count"))
    return _line(f"{number}× {kind}" if number else kind) if kind else ""


def _first(parts: Sequence[str]) -> str:
    """As many as fit in a sentence."""
    more = len(parts) - _TOLD
    return "; ".join([*parts[:_TOLD], *([f"{more} more"] if more > 0 else [])])


def _line(value: Any) -> str:
    """Text of logs, in a line of readable length that can be encoded."""
    text = " ".join(str(value).split()).encode(errors="backslashreplace").decode()
    return text[:_LONGEST_REASON]


def _other_rulesets(logs: Logs) -> Iterator[Anomaly]:
    """What the first trial of each submission says: all of them are run in one go."""
    first = {trial.folder.submission: trial for trial in reversed(logs.trials)}
    for trial in first.values():
        flags = read_object(trial.folder.path / "flags_0.json")
        told = flags.get("ruleset", flags.get("tuning_ruleset"))
        if told in logs.rules.rulesets and told != logs.ruleset:
            yield Anomaly(trial.folder.path, Kind.OTHER_RULESET, str(told))


def _other_data(trials: Sequence[Trial], checksums: Sequence[set[tuple[str, str]]]) -> Iterator[Anomaly]:
    """By the checksums that trials recorded; a trial that recorded none says nothing."""
    told: dict[tuple[str, str], Counter[str]] = {}
    for trial, recorded in zip(trials, checksums, strict=True):
        for name, checksum in recorded:
            told.setdefault((trial.folder.workload, name), Counter())[checksum] += 1
    usual = {key: counts.most_common(1)[0][0] for key, counts in told.items()}
    for trial, recorded in zip(trials, checksums, strict=True):
        for name, checksum in sorted(recorded):
            most = usual[trial.folder.workload, name]
            if checksum != most:
                yield Anomaly(trial.folder.path, Kind.OTHER_DATA, f"{name} {checksum:.8}…, in most {most:.8}…")


def _checksums(start: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Of the data, and of those of its files that the workload wants recorded by themselves."""
    dataset = start.get("workload.dataset")
    recorded = dataset.get("recorded") if isinstance(dataset, dict) else None
    for name in ("data_sha256", *(recorded if isinstance(recorded, dict) else ())):
        if isinstance(checksum := start.get(name), str):
            yield name, checksum


def _machine(metadata: Mapping[str, Any], trial: Trial) -> dict[str, Any]:
    versions = metadata.get("versions")
    return {
        **{_line(name): _line(value) for name, value in (versions if isinstance(versions, dict) else {}).items()},
        **{name: _plain(metadata[name]) for name in _MACHINE if name in metadata},
        "submission": trial.folder.submission,
        "framework": trial.folder.framework,
    }


def _plain(value: Any) -> str | int:
    """Numbers of devices stay numbers; all else is text."""
    return value if isinstance(value, int) else _line(value)


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
