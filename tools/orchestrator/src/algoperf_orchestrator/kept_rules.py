"""The rules of a suite beside its logs, so that they are scored by what they were run for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from algoperf.record_files import write_atomic
from algoperf_scoring import rules as published_rules
from algoperf_scoring.json_files import read_object
from algoperf_scoring.rules import Rules

NAME = "rules.json"


def write(rules: Rules, folder: Path) -> None:
    """Puts rules beside the logs that they are to score. Raises OSError if that cannot be written."""
    write_atomic(folder / NAME, json.dumps(asdict(rules), indent=2) + "\n")


def read(folder: Path) -> Rules | None:
    """The rules beside logs; None if there are none.

    Raises:
        ValueError: the file is no rules.
    """
    if not (folder / NAME).is_file():
        return None
    try:
        return published_rules.from_data(read_object(folder / NAME))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / NAME} is no rules ({error}); remove it, or score with --rules.") from error


def beside(logs: Sequence[Path]) -> Rules | None:
    """The rules that folders of logs were run under, each an experiment or a submission of one; None if they differ.

    Raises ValueError as `read` does.
    """
    found = [next(filter(None, (read(folder) for folder in (path, path.resolve().parent))), None) for path in logs]
    return found[0] if found and all(rules == found[0] for rules in found) else None


def extend(old: Rules, new: Rules) -> Rules:
    """The rules of an experiment that is run again with more: all of both, and the larger numbers.

    Raises:
        ValueError: they contradict each other.
    """
    if (old.name, old.max_ratio) != (new.name, new.max_ratio):
        raise ValueError(
            f"The experiment was begun under rules {old.name}; choose another --experiment for {new.name}."
        )
    rulesets = dict(old.rulesets)
    for name, facts in new.rulesets.items():
        before = rulesets.get(name, facts)
        rulesets[name] = replace(
            facts, studies=max(facts.studies, before.studies), trials=max(facts.trials, before.trials)
        )
    return replace(
        new,
        base=tuple(dict.fromkeys((*old.base, *new.base))),
        held_out={**old.held_out, **new.held_out},
        workloads={**old.workloads, **new.workloads},
        rulesets=rulesets,
    )
