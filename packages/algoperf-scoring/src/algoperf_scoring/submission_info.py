"""What a submission says about itself: submission_info.yml, as people really write it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The second spelling is met as often as a missing file.
_NAMES = ("submission_info.yml", "submission_info.yaml", "submissions_info.yml", "submissions_info.yaml")
_FIELDS = ("submission_name", "authors", "affiliations", "version", "ruleset", "framework", "adapter", "description")
_LONGEST = 2_000
# In the repository of published results, logs/<ruleset>/<name> and submissions/<ruleset>/<name> lie side by side.
_LOGS, _SUBMISSIONS = "logs", "submissions"


@dataclass(frozen=True, kw_only=True)
class SubmissionInfo:
    """What could be read.

    Attributes:
        facts: of the known fields those that are given, as text. Nothing else of the file is kept: some hold
            what their authors did not mean to publish.
        problem: what is wrong with the file, in words; empty if nothing is.
    """

    facts: dict[str, str]
    problem: str = ""


def read(folder: Path) -> SubmissionInfo:
    """What the first information file found says: beside the logs, or beside the submission's code."""
    path = next((path for path in _candidates(folder) if path.is_file()), None)
    if path is None:
        return SubmissionInfo(facts={}, problem="no submission_info.yml")
    # Only now: most logs come without such a file, and the import is slow.
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        return SubmissionInfo(facts={}, problem=f"{path.name} cannot be read: {error.strerror}")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Not what the parser says, which quotes the file, but where.
        mark = getattr(error, "problem_mark", None)
        where = f", from line {mark.line + 1} on" if mark else ""
        return SubmissionInfo(facts={}, problem=f"{path.name} cannot be read: it is not YAML{where}")
    if not isinstance(data, dict):
        return SubmissionInfo(facts={}, problem=f"{path.name} is not a list of fields")
    facts = {name: text for name in _FIELDS if (text := _text(data.get(name)))}
    return SubmissionInfo(facts=facts, problem="" if facts else f"{path.name} holds none of {', '.join(_FIELDS)}")


def _candidates(folder: Path) -> Iterable[Path]:
    folders = [folder]
    parts = list(folder.parts)
    if _LOGS in parts:
        where = len(parts) - 1 - parts[::-1].index(_LOGS)
        folders.append(Path(*parts[:where], _SUBMISSIONS, *parts[where + 1 :]))
    return (one / name for one in folders for name in _NAMES)


def _text(value: Any) -> str:
    """A value in a line; of a list its members, of a mapping in it the name: nothing else was asked for."""
    members = value if isinstance(value, list) else [value]
    names = [member.get("name") if isinstance(member, dict) else member for member in members]
    # Lists in lists are left out as well: YAML's may hold themselves, or grow without end.
    texts = [" ".join(str(name).split()) for name in names if name is not None and not isinstance(name, list | dict)]
    return ", ".join(text for text in texts if text)[:_LONGEST]
