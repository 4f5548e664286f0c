"""A ledger from what the trials' folders say, after it was lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from algoperf.records import RecordsError, read_trial
from algoperf.trial_config import TrialConfig
from algoperf_orchestrator import attempt, verdict
from algoperf_orchestrator.ledger import Ledger
from algoperf_orchestrator.ledger_file import NAME
from algoperf_orchestrator.planned import PlannedTrial
from algoperf_orchestrator.verdict import State, Verdict

# What the infrastructure failed is tried again, with all attempts that are allowed.
_OPEN = Verdict(state=State.PLANNED, reason="")


def rebuild(experiment: Path) -> tuple[int, list[str]]:
    """Makes the ledger anew. What was planned and never begun comes back when the suite is run again.

    Returns:
        How many trials were found, and a sentence for each that could not be read.

    Raises:
        ValueError: there is a ledger, or there are no trials.
    """
    if (experiment / NAME).exists():
        raise ValueError(f"{experiment / NAME} is there; move it away first if it is damaged.")
    trials, problems = _read(experiment)
    if not trials:
        raise ValueError(f"There are no trials in {experiment}; name the folder of an experiment.")
    with Ledger(experiment, create=True) as ledger:
        ledger.add(trials)
        for row in ledger.rows():
            folder = row.folder(experiment)
            found = verdict.of_folder(folder) or _last_verdict(folder)
            ledger.settle(row.id, found if found is not None and found.state.is_result else _OPEN, folder)
    return len(trials), problems


def _last_verdict(folder: Path) -> Verdict | None:
    """What the last supervisor wrote: a process that was killed for its memory leaves no other trace."""
    newest = attempt.read(folder)
    return None if newest is None else newest.verdict


def _read(experiment: Path) -> tuple[list[PlannedTrial], list[str]]:
    trials, problems = [], []
    for folder in _folders(experiment):
        try:
            config = TrialConfig.from_json(read_trial(folder).config)
        except (RecordsError, TypeError, ValueError, OSError) as error:
            problems.append(f"{folder} cannot be read ({error}); it is left out.")
        else:
            trials.append(PlannedTrial(label=folder.relative_to(experiment).parts[0], config=config))
    # As they were planned.
    trials.sort(key=lambda one: (one.key.study, one.key.workload, one.key.trial, one.key.submission))
    return trials, problems


def _folders(experiment: Path) -> Iterator[Path]:
    for path in sorted(experiment.glob("*/study_*/*/trial_*")):
        if path.is_dir() and not path.relative_to(experiment).parts[0].startswith("."):
            yield path
