"""Suites of the toy workload, as processes of their own, for tests that disturb them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from algoperf.records import read_evaluations
from algoperf.spec import Framework
from algoperf_orchestrator import processes, status
from algoperf_orchestrator.ledger import Ledger
from algoperf_orchestrator.ledger_file import NAME, LedgerError

MAIN = [sys.executable, "-m", "algoperf_orchestrator"]
_LEARNER = Path(__file__).parents[3] / "packages/algoperf-core/tests/submissions/momentum_jax.py"
_SLOW = """
_update = update_params

def update_params(**arguments):
    time.sleep(float(os.environ.get("PAUSE_S", "0")))
    return _update(**arguments)
"""
# What a run that was disturbed may say otherwise.
_HOW_OFTEN = ("preemption_count",)


def write_learner(folder: Path) -> Path:
    """A submission for JAX that learns the toy workload in 21 steps, before each of which it sleeps for `PAUSE_S`."""
    folder.mkdir()
    (folder / "submission.py").write_text(f"import os, time\n{_LEARNER.read_text()}\n{_SLOW}")
    return folder


def suite_arguments(experiment: Path, submission: Path | str, framework: Framework, **options: Any) -> list[str]:
    """`full-suite` on the toy workload at mini scale, under the virtual clock."""
    values = {
        "submission": submission,
        "framework": framework.value,
        "experiment": experiment,
        "ruleset": "self",
        "scale": "mini",
        "workloads": "toy",
        "clock": "virtual",
        "cores": 1,
        **options,
    }
    flags = [f"--{name.replace('_', '-')}" for name, value in values.items() if value is True]
    flags += [f"--no-{name.replace('_', '-')}" for name, value in values.items() if value is False]
    pairs = [
        text
        for name, value in values.items()
        if not isinstance(value, bool)
        for text in (f"--{name.replace('_', '-')}", str(value))
    ]
    return ["full-suite", *pairs, *flags]


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Starts the command in a session of its own; what it says is added to a file."""
    with log.open("ab") as file:
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [*MAIN, *arguments], stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=environment
        )


def wait_for(condition: Callable[[], bool], limit_s: float = 60.0, what: str = "it") -> None:
    """Returns when something has become true. Raises AssertionError if it does not."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit_s} s for {what}"
        time.sleep(0.05)


def state_counts(experiment: Path) -> dict[str, int]:
    """Trials by state; empty before there is a ledger."""
    if not (experiment / NAME).exists():
        return {}
    try:
        return dict(status.read(experiment).counts)
    except (LedgerError, OSError, ValueError):
        return {}


def trial_pids(experiment: Path) -> list[int]:
    """Processes of trials of an experiment that live."""
    found = []
    for process in psutil.process_iter():
        try:
            folder = process.environ().get(processes.MARK, "")
        except psutil.Error:
            continue
        if folder.startswith(f"{experiment.resolve()}/"):
            found.append(process.pid)
    return found


def kill(pids: list[int]) -> None:
    """Kills processes as a machine does: without a word."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def numbers(experiment: Path) -> dict[str, list[dict[str, str]]]:
    """All evaluations of an experiment, to the last bit, by trial."""
    return {
        str(path.parent.relative_to(experiment)): [
            {name: repr(value) for name, value in row.items() if name not in _HOW_OFTEN}
            for row in read_evaluations(path)
        ]
        for path in sorted(experiment.glob("*/study_*/*/trial_*/eval_measurements.csv"))
    }


def ends(experiment: Path) -> dict[str, list[str]]:
    """How the attempts at each trial ended, in order."""
    with Ledger(experiment) as ledger:
        rows = ledger.query(
            "SELECT submission, study, trials.trial AS trial, attempts.reason AS reason FROM attempts "
            "JOIN trials ON trials.id = attempts.trial ORDER BY trials.id, number"
        )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(f"{row['submission']}/{row['study']}/{row['trial']}", []).append(row["reason"])
    return found


def disturb(
    command: list[str], experiment: Path, log: Path, moments: random.Random, number: int, within_s: float
) -> None:
    """Runs a suite to its end, and kills processes of it at so many moments, at most so many seconds apart."""
    process = start(command, log)
    for _ in range(number):
        time.sleep(moments.uniform(0.0, within_s))
        assert process.poll() is None, "the suite ended before its last moment"
        # First the list, then the kills: "both" is to hit both before one can tell of the other.
        trials = trial_pids(experiment)
        victims = moments.choice([[process.pid], trials[:1], [process.pid, *trials]])
        kill(victims)
        if process.pid in victims:
            process.wait()
            process = start(command, log)
    assert process.wait() == 0, log.read_text()


def assert_each_ended_once(experiment: Path) -> None:
    """Of all attempts at a trial the last one has its result, and nothing of it still runs."""
    results = {"reached", "steps", "budget"}
    for trial, reasons in ends(experiment).items():
        assert [reason in results for reason in reasons] == [False] * (len(reasons) - 1) + [True], (trial, reasons)
    assert not trial_pids(experiment)
