"""What can be wrong with logs. It is reported and never stops the scoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    """What is wrong; the value is how it is told."""

    # Folders.
    NO_STUDIES = "a folder beside submissions that holds no studies"
    MISPLACED_TRIAL = "a trial that lies outside a workload's folder; left out"
    STRAY_FILE = "a file where the layout has none; left out"
    STRAY_FOLDER = "a folder that the layout does not know; left out"
    UNKNOWN_WORKLOAD = "a workload that the rules do not know; left out"
    UNSCORED_WORKLOAD = "a workload that the rules know but do not score; left out"
    BOTH_FRAMEWORKS = "a workload in both frameworks, of which one is scored"
    NO_TRIALS = "a workload's folder without trials"
    NOTHING_SCORED = "a submission without a trial of any workload that is scored"
    MISSING_WORKLOAD = "a workload without trials"
    MISSING_STUDY = "a workload with fewer studies than the rules ask for"
    EXTRA_STUDY = "a workload with more studies than the rules ask for; all are used"
    MISSING_TRIAL = "a study in which fewer trials than the rules ask for left evaluations"
    EXTRA_TRIAL = "a study with more trials than the rules ask for; all are used"
    SAME_FILE = "a trial whose evaluations are those of another one, byte for byte"
    # Files.
    NO_EVALUATIONS = "a trial without eval_measurements.csv"
    UNREADABLE = "a file or folder that cannot be read"
    EMPTY_FILE = "a file of 0 bytes"
    HEADER_ONLY = "a file with a header and no evaluations"
    MISSING_COLUMN = "a file without a column that scoring needs"
    # Rows.
    TRUNCATED_LINE = "a trial whose last line has no end; it is left out, because it may have been cut off"
    UNREADABLE_ROW = "a trial with lines that are no numbers, or too few or too many; they are left out"
    NO_TIME = "a trial with evaluations without a time, or with a negative one; they are left out"
    NAN_METRIC = "a trial with evaluations whose metric is not a number; they reach nothing"
    ONE_EVALUATION = "a trial with a single evaluation"
    TIME_BACKWARDS = "a trial whose time goes backwards; its rows are used as they are"
    SCORE_IS_NOT_TIME = "a trial whose score is not its submission time; the score is used"
    AFTER_BUDGET = "a trial with evaluations after the end of the budget"
    # What the logs say about themselves.
    UNFINISHED = "a trial that is running, was killed, or was stopped by the machine"
    OTHER_TARGET = "a trial that was run with another target"
    OTHER_BUDGET = "a trial that was run with another budget"
    OTHER_RULESET = "a submission that was run under the other ruleset, as its first trial says"
    OTHER_DATA = "a trial on other data, or with another tokenizer, than most trials of its workload"
    OTHER_CLOCK = "a trial whose time is not that of a wall clock; not official"


@dataclass(frozen=True, order=True)
class Anomaly:
    """One thing that is wrong.

    Attributes:
        path: the folder or file.
        kind: what it is.
        detail: what only this one has to say, if anything.
    """

    path: Path
    kind: Kind
    detail: str = ""


def count(anomalies: Iterable[Anomaly]) -> dict[Kind, int]:
    """How many there are of each kind, in the order of `Kind`; those that there are none of are left out."""
    found = Counter(anomaly.kind for anomaly in anomalies)
    return {kind: found[kind] for kind in Kind if kind in found}
