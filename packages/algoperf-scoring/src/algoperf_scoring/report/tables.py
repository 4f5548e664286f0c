"""What the page says beyond the numbers of the document: shades, reasons, changes of rank, the result in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from algoperf_scoring.report import colours, words
from algoperf_scoring.robustness import ranks

Data = Mapping[str, Any]
# A spread of step times between studies beyond this share is worth a look at the machines.
WIDE_SPREAD = 0.2


@dataclass(frozen=True, kw_only=True)
class Change:
    """A submission's place when something is left out.

    Attributes:
        score: then.
        rank: then.
        up: places that it gained, compared with the same submissions on the whole board; negative if it lost some.
    """

    score: float
    rank: int
    up: int


def base_workloads(data: Data) -> list[str]:
    """Names of those that make up the score."""
    return [name for name, facts in data["workloads"].items() if facts["base"] is None]


def variants(data: Data) -> list[str]:
    """Names of the held-out ones."""
    return [name for name, facts in data["workloads"].items() if facts["base"] is not None]


def shade(value: float, low: float, high: float) -> str:
    """The class of a cell's colour: the darkest for `low`, the lightest for `high`."""
    share = (value - low) / (high - low)
    return f"heat-{min(max(int(share * colours.NUM_HEAT), 0), colours.NUM_HEAT - 1)}"


def relative(data: Data, submission: str, workload: str) -> float | None:
    """How many times the fastest a time is, whether it counts or not; None if there is no time."""
    time_s = data["submissions"][submission]["workloads"][workload]["time_to_target_s"]
    fastest_s = data["workloads"][workload]["fastest_s"]
    return time_s / fastest_s if time_s is not None and fastest_s else None


def changes(data: Data, left_out: str) -> dict[str, dict[str, Change]]:
    """By what is left out ("without_workload" and so on), and by submission."""
    result = {}
    for name, scores in data["robustness"][left_out].items():
        before = ranks({one: data["submissions"][one]["score"] for one in scores})
        after = ranks(scores)
        result[name] = {
            one: Change(score=score, rank=after[one], up=before[one] - after[one]) for one, score in scores.items()
        }
    return result


def num_changed(found: Mapping[str, Mapping[str, Change]]) -> int:
    """In how many cases somebody's rank changes."""
    return sum(any(change.up for change in row.values()) for row in found.values())


def headline(data: Data) -> Markup:
    """The result in a sentence."""
    submissions = data["submissions"]
    if all(one["score"] == 0 for one in submissions.values()):
        return Markup("No submission reached a target in a way that counts: all scores are 0.")
    first = [name for name, one in submissions.items() if one["rank"] == 1]
    best = submissions[first[0]]
    names = words.listed([words.breakable(words.short(name)) for name in first])
    sentence = names + f" {'is' if len(first) == 1 else 'are'} first with a score of {words.score(best['score'])}"
    if len(submissions) == 1:
        return sentence + "; with nobody to compare with, that is the share of workloads that were reached."
    if len(first) > 1 or data["bootstrap"]["studies"] <= 1:
        return sentence + "."
    low, high = best["interval"]
    level = words.percent(data["bootstrap"]["level"], 0)
    return sentence + (
        f", {level} interval {words.score(low)} to {words.score(high)}; "
        f"it comes first in {words.percent(best['first'])} of resampled boards."
    )


def reasons(data: Data) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Submission, workload and cell, of all cells that do not count."""
    return [
        (name, workload, cell)
        for name, one in data["submissions"].items()
        for workload, cell in one["workloads"].items()
        if cell["reason"]
    ]


def problems(data: Data) -> dict[str, list[str]]:
    """Why submissions say nothing about themselves, and which."""
    found: dict[str, list[str]] = {}
    for name, one in data["submissions"].items():
        if one["info_problem"]:
            found.setdefault(one["info_problem"], []).append(name)
    return found


def lost_share(accounts: Data) -> float | None:
    """The share of all time that was spent on evaluation and logging; None if the logs do not say."""
    parts = (accounts["submission_s"], accounts["evaluation_s"], accounts["logging_s"])
    return None if None in parts or not sum(parts) else (parts[1] + parts[2]) / sum(parts)


def wide_spreads(data: Data) -> list[tuple[str, str, float]]:
    """Submission, workload and spread where steps took clearly longer in one study than in another; widest first."""
    found = [
        (submission, workload, one["spread"])
        for submission, workloads in data["time"]["steps"].items()
        for workload, one in workloads.items()
        if one["spread"] > WIDE_SPREAD
    ]
    return sorted(found, key=lambda one: (-one[2], one[0], one[1]))


def machine(facts: Mapping[str, Any]) -> tuple[str, str, str]:
    """Accelerators, processor and software of a kind of machine, in words."""
    told = {key: str(value) for key, value in facts.items() if value not in (None, "")}
    for key in ("submission", "framework", "trials"):
        told.pop(key, None)
    number = told.pop("gpu_count", None) or told.pop("device_count", None)
    told.pop("device_count", None)
    kind = told.pop("gpu_model_name", None) or told.pop("device_kind", None) or "unknown"
    processor = told.pop("cpu_model_name", "unknown")
    software = [f"{key.replace('_version', '').replace('_', ' ')} {value}" for key, value in told.items()]
    return (f"{number} × {kind}" if number else kind, processor, ", ".join(software) or "unknown")
