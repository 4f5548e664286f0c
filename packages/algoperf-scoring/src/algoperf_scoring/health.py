"""Studies and machines on which steps took another time than elsewhere: where to look, and what to run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from algoperf_scoring import overheads
from algoperf_scoring.logs import Logs, Trial
from algoperf_scoring.provenance import Origin

# Published logs hold 96 pairs of submission and workload with several studies: half differ by less than 2 % between
# studies and all but one by less than 16 %; that one by a factor of 8.6. On machines that others use too, 12 to 36 %
# have been seen. 1.2 is above what machines of one kind do by themselves, and below what would move a score much.
FACTOR = 1.2


class Group(StrEnum):
    """What trials are told apart by."""

    STUDY = "study"
    HOST = "host"


ADVICE = {Group.STUDY: "run it again", Group.HOST: "look at that host"}


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A study or a host whose steps took clearly longer, or shorter, than those of the others.

    Attributes:
        submission, workload, framework: whose steps.
        group: whether it is a study or a host.
        name: the study's number, or the host's name.
        step_s: median seconds per step.
        ratio: to the median of the others that are not flagged before it.
    """

    submission: str
    workload: str
    framework: str
    group: Group
    name: str
    step_s: float
    ratio: float

    @property
    def advice(self) -> str:
        """What to do."""
        return ADVICE[self.group]


def as_data(flags: Sequence[Flag], hosts: Sequence[str], factor: float = FACTOR) -> dict[str, Any]:
    """Flags as plain data.

    Args:
        flags: as `check` found them.
        hosts: names of all hosts. They are not for others to read: a document calls them by their numbers here.
        factor: that they were found with.
    """
    rows = [
        {
            "submission": flag.submission,
            "workload": flag.workload,
            "framework": flag.framework,
            "group": flag.group.value,
            "name": f"host {hosts.index(flag.name) + 1}" if flag.group is Group.HOST else flag.name,
            "step_s": flag.step_s,
            "ratio": flag.ratio,
            "advice": flag.advice,
        }
        for flag in flags
    ]
    return {"factor": factor, "hosts": len(hosts), "flags": rows}


def check(logs: Logs, origins: Sequence[Origin], factor: float = FACTOR) -> list[Flag]:
    """What stands out, by submission, workload, framework, group and name.

    Trials that were not timed by a wall clock are left out; so are, between hosts, trials that do not name
    their host or went on at another.

    Args:
        logs: with the times.
        origins: of each of its trials.
        factor: beyond which a median stands out.
    """
    timed = [(trial, origin) for trial, origin in zip(logs.trials, origins, strict=True) if origin.is_wall_clock]
    names = {
        Group.STUDY: [(trial, str(trial.folder.study)) for trial, _ in timed],
        Group.HOST: [(trial, origin.hosts[0]) for trial, origin in timed if len(origin.hosts) == 1],
    }
    return [flag for group, named in names.items() for flag in _flags(logs, group, named, factor)]


def outliers(medians: Mapping[str, float], factor: float = FACTOR) -> dict[str, float]:
    """The ratio of each that stands out to the median of the others.

    The one that stands out most is taken away before the others are looked at, since it would pull their median.
    Of two, the slower one stands out: a machine may be held up, but not be helped on.
    """
    left, found = dict(medians), {}
    while len(left) > 1:
        ratios = {name: value / _median_of_others(left, name) for name, value in left.items()}
        worst = max(ratios, key=lambda name: (max(ratios[name], 1 / ratios[name]), ratios[name]))
        if len(left) == 2:
            worst = max(left, key=lambda name: left[name])
        if max(ratios[worst], 1 / ratios[worst]) <= factor:
            break
        found[worst] = ratios[worst]
        del left[worst]
    return found


def _median_of_others(values: Mapping[str, float], name: str) -> float:
    return float(np.median([value for other, value in values.items() if other != name]))


def _flags(logs: Logs, group: Group, named: Sequence[tuple[Trial, str]], factor: float) -> list[Flag]:
    names = sorted(
        {name for _, name in named}, key=lambda name: (len(name), name) if group is Group.STUDY else (0, name)
    )
    found = []
    for framework in sorted({trial.folder.framework for trial, _ in named}):
        # Called studies, whatever they are, so that the medians are those of `step_times`.
        trials = [
            replace(trial, folder=replace(trial.folder, study=names.index(name)))
            for trial, name in named
            if trial.folder.framework == framework
        ]
        for (submission, workload), one in overheads.step_times(replace(logs, trials=trials)).items():
            medians = {names[index]: seconds for index, seconds in sorted(one.studies_s.items())}
            found += [
                Flag(
                    submission=submission,
                    workload=workload,
                    framework=framework,
                    group=group,
                    name=name,
                    step_s=medians[name],
                    ratio=ratio,
                )
                for name, ratio in outliers(medians, factor).items()
            ]
    return sorted(found, key=lambda flag: (flag.submission, flag.workload, flag.framework, names.index(flag.name)))
