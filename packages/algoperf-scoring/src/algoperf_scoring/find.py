"""Finds the trials in folders of logs: submissions × studies × workloads × trials.

    <submission>/study_<k>/<workload>_<framework>/trial_<n>/

All in sorted order, so that nothing depends on the file system.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from algoperf_scoring import evaluation_files
from algoperf_scoring.anomalies import Anomaly, Kind
from algoperf_scoring.rules import Rules

FRAMEWORKS = ("jax", "pytorch")
_STUDY = re.compile(r"study_(0|[1-9]\d*)")
_TRIAL = re.compile(r"trial_(0|[1-9]\d*)")
_WORKLOAD = re.compile(rf"(.+)_({'|'.join(FRAMEWORKS)})")
# Deep enough for a board inside a repository's clone.
_MAX_DEPTH = 6
# What a submission may bring into the folder of its logs.
_EXPECTED_FILES = re.compile(r"submissions?_info\.ya?ml|README.*|\..*", re.IGNORECASE)


@dataclass(frozen=True, order=True, kw_only=True)
class TrialFolder:
    """Where one trial lies, and what its path says."""

    submission: str
    workload: str
    study: int
    number: int
    framework: str
    path: Path


def submission_folders(logs: Sequence[Path]) -> tuple[dict[str, Path], list[Anomaly]]:
    """The submissions in folders of logs, by name, sorted.

    A folder that holds `study_<k>` is a submission; others are searched. Submissions of one name are told apart by
    the folders above them.

    Raises:
        ValueError: a folder does not exist, or holds no submission.
    """
    folders: list[Path] = []
    anomalies: list[Anomaly] = []
    for path in logs:
        if not path.is_dir():
            problem = "is no folder" if path.exists() else "does not exist"
            raise ValueError(f"{path} {problem}; name a folder of logs, <submission>/study_<k>/….")
        # Resolved, so that a submission has a name although it was called ".".
        found, others = _search(path.resolve(), _MAX_DEPTH, set(), anomalies)
        if not found:
            if inside := [one for one in (path.resolve(), *path.resolve().parents) if _STUDY.fullmatch(one.name)]:
                raise ValueError(f"{path} is one study or part of one; name its submission, {inside[-1].parent}.")
            raise ValueError(
                f"{path} holds no study_<k> folder; name a folder of logs, "
                "<submission>/study_<k>/<workload>_<framework>/trial_<n>, or one above it."
            )
        folders += (folder for folder in found if folder not in folders)
        anomalies += (Anomaly(folder, Kind.NO_STUDIES) for folder in others)
    return dict(sorted(_names(folders).items())), sorted(set(anomalies))


def _search(folder: Path, depth: int, seen: set[Path], anomalies: list[Anomaly]) -> tuple[list[Path], list[Path]]:
    """Submissions below, and folders beside submissions that are none; each once, whatever links lead to it."""
    if (resolved := folder.resolve()) in seen:
        return [], []
    seen.add(resolved)
    children = [child for child in _entries(folder, anomalies) if child.is_dir() and not child.name.startswith(".")]
    if any(_STUDY.fullmatch(child.name) for child in children):
        return [folder], []
    found: list[Path] = []
    others: list[Path] = []
    empty: list[Path] = []
    for child in children if depth else []:
        below, beside = _search(child, depth - 1, seen, anomalies)
        found += below
        others += beside
        # A report of ours may lie beside what it reports on.
        if not below and not (child / "scores.json").is_file():
            empty.append(child)
    is_board = any(one.parent == folder for one in found)
    return found, others + (empty if is_board else [])


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders by name; where a name is taken twice, with as many parents as tell them apart."""
    length = dict.fromkeys(folders, 1)
    while True:
        names = {folder: printable("/".join(folder.parts[-length[folder] :])) for folder in folders}
        taken = Counter(names.values())
        twice = [folder for folder in folders if taken[names[folder]] > 1]
        if not twice:
            return {name: folder for folder, name in names.items()}
        for folder in twice:
            length[folder] += 1


def printable(name: str) -> str:
    """A file name may hold bytes that are no text in any encoding."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def trial_folders(
    submission: str, folder: Path, rules: Rules, framework: str | None = None
) -> tuple[list[TrialFolder], list[Anomaly]]:
    """The trials of a submission that the rules score, sorted.

    Args:
        submission: its name.
        folder: its logs.
        rules: say which workloads there are.
        framework: leave out the other one; None takes, for each workload, the one in which more trials have a file of
            evaluations.
    """
    anomalies: list[Anomaly] = []
    trials = [
        trial
        for study in _children(folder, _STUDY, anomalies)
        for workload in _workload_folders(study, rules, anomalies)
        for trial in _trials(submission, int(study.name[6:]), workload, anomalies)
        if framework in (None, trial.framework)
    ]
    return sorted(_one_framework(trials, folder, anomalies)), anomalies


def _workload_folders(study: Path, rules: Rules, anomalies: list[Anomaly]) -> Iterator[Path]:
    for child in _entries(study, anomalies):
        match = _WORKLOAD.fullmatch(child.name)
        if not child.is_dir():
            _stray(child, anomalies)
        elif match is None:
            kind = Kind.MISPLACED_TRIAL if _TRIAL.fullmatch(child.name) else Kind.STRAY_FOLDER
            anomalies.append(Anomaly(child, kind))
        elif match[1] in rules.scored:
            yield child
        else:
            kind = Kind.UNSCORED_WORKLOAD if match[1] in rules.workloads else Kind.UNKNOWN_WORKLOAD
            anomalies.append(Anomaly(child, kind, match[1]))


def _trials(submission: str, study: int, folder: Path, anomalies: list[Anomaly]) -> Iterator[TrialFolder]:
    workload, _, framework = folder.name.rpartition("_")
    children = list(_children(folder, _TRIAL, anomalies))
    if not children:
        anomalies.append(Anomaly(folder, Kind.NO_TRIALS))
    for child in children:
        yield TrialFolder(
            submission=submission,
            study=study,
            workload=workload,
            framework=framework,
            number=int(child.name[6:]),
            path=child,
        )


def _one_framework(trials: list[TrialFolder], folder: Path, anomalies: list[Anomaly]) -> Iterable[TrialFolder]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for trial in trials:
        counts[trial.workload].setdefault(trial.framework, 0)
    in_both = {workload for workload, count in counts.items() if len(count) > 1}
    for trial in trials:
        if trial.workload in in_both:
            counts[trial.workload][trial.framework] += (trial.path / evaluation_files.NAME).is_file()
    # Of as many trials in both, the first in the alphabet: a rule that no file system changes.
    chosen = {workload: min(count, key=lambda name: (-count[name], name)) for workload, count in counts.items()}
    for workload, count in sorted(counts.items()):
        if workload in in_both:
            left_out = ", ".join(f"{number} of {name}" for name, number in sorted(count.items()))
            detail = f"{workload}: {left_out} trials with evaluations; scored: {chosen[workload]}"
            anomalies.append(Anomaly(folder, Kind.BOTH_FRAMEWORKS, detail))
    return (trial for trial in trials if trial.framework == chosen[trial.workload])


def _children(folder: Path, pattern: re.Pattern[str], anomalies: list[Anomaly]) -> Iterator[Path]:
    """Folders of a name, in the order of their numbers; what else lies there is reported."""
    matching = []
    for child in _entries(folder, anomalies):
        if not child.is_dir():
            _stray(child, anomalies)
        elif pattern.fullmatch(child.name):
            matching.append(child)
        else:
            anomalies.append(Anomaly(child, Kind.STRAY_FOLDER))
    return iter(sorted(matching, key=lambda child: (int(child.name.rpartition("_")[2]), child.name)))


def _stray(path: Path, anomalies: list[Anomaly]) -> None:
    if not _EXPECTED_FILES.fullmatch(path.name):
        anomalies.append(Anomaly(path, Kind.STRAY_FILE))


def _entries(folder: Path, anomalies: list[Anomaly]) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder))
    except OSError as error:
        anomalies.append(Anomaly(folder, Kind.UNREADABLE, error.strerror or ""))
        return []
