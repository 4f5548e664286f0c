"""What a trial's supervisor tells the orchestrator, wherever it runs: one small file in the trial's folder.

It is the trial's heartbeat, its progress and in the end its verdict. A file, because the ledger is
written on one machine only, while trials may run on many that share nothing but the experiment's folder.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from algoperf.spec import Split, Target
from algoperf_orchestrator.verdict import Verdict

NAME = "attempt.json"


@dataclass
class Attempt:
    """One attempt at a trial, as it goes on.

    Attributes:
        number: counts the trial's attempts from 1.
        devices: what the trial uses, for people.
        host, pid, created: whose supervisor it is; `created` tells apart processes of one pid.
        started, heartbeat: times since the epoch, in seconds.
        phase: who is charged for the time: "setup", "submission" or "evaluation".
        step, submission_s: how far it is.
        metric, best: validation metric of the newest and of the best evaluation.
        peak_memory_bytes: the most that its processes used together, as sampled.
        telemetry: newest figures of the machine; see `algoperf_orchestrator.telemetry`.
        verdict: what came of it, when it is over.
    """

    number: int
    devices: tuple[str, ...] = ()
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    created: float = field(default_factory=lambda: psutil.Process().create_time())
    started: float = field(default_factory=time.time)
    heartbeat: float = field(default_factory=time.time)
    phase: str = "setup"
    step: int = 0
    submission_s: float = 0.0
    metric: float | None = None
    best: float | None = None
    peak_memory_bytes: int = 0
    telemetry: dict[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None

    def see(self, event: str, facts: Mapping[str, Any], target: Target) -> None:
        """Takes in an event of the trial."""
        if event == "started":
            self.phase, self.step = "submission", int(facts["step"])
        elif event == "progress":
            self.phase, self.step, self.submission_s = "submission", facts["global_step"], facts["submission_s"]
        elif event == "evaluating":
            self.phase, self.step = "evaluation", facts["global_step"]
        elif event == "evaluated":
            self.phase, self.step = "submission", facts["global_step"]
            self.submission_s = facts["accumulated_submission_time"]
            self.metric = float(facts[f"{Split.VALIDATION.log_name}/{target.metric}"])
            self.best = better(self.best, self.metric, target.goal)

    def write(self, folder: Path) -> None:
        """Puts it in a trial's folder, whole. Not synced: what a power cut takes, the next heartbeat brings.

        Raises OSError if that cannot be written.
        """
        data = {**vars(self), "verdict": self.verdict and self.verdict.as_json()}
        temporary = folder / f".{NAME}.{os.getpid()}"
        temporary.write_text(json.dumps(data))
        temporary.replace(folder / NAME)


def read(folder: Path) -> Attempt | None:
    """The newest attempt at the trial of a folder; None if there is none, or if it cannot be read."""
    try:
        data = json.loads((folder / NAME).read_text())
        verdict = data["verdict"] and Verdict.from_json(data["verdict"])
        return Attempt(**{**data, "devices": tuple(data["devices"]), "verdict": verdict})
    except (OSError, ValueError, KeyError, TypeError):
        # Files of another version, or what a full disk left of one, tell nothing.
        return None


def better(first: float | None, second: float | None, goal: str) -> float | None:
    """The better of two values of a metric, of which None and NaN are none."""
    values = [value for value in (first, second) if value is not None and value == value]
    return (min if goal == "min" else max)(values, default=None)


def is_alive(host: str, pid: int, created: float) -> bool | None:
    """Whether a process lives; None if it is another machine's, which cannot be told from here."""
    if host != socket.gethostname():
        return None
    try:
        process = psutil.Process(pid)
        # One that has ended stays in the list until its parent looks.
        return abs(process.create_time() - created) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
