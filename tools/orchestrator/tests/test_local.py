"""The executor of this machine."""

import sys
import time
from dataclasses import replace
from pathlib import Path

from ledgers import planned

from algoperf_orchestrator.environment import Devices
from algoperf_orchestrator.executors import Task
from algoperf_orchestrator.executors.local import LocalExecutor
from algoperf_orchestrator.launch_options import Limits
from algoperf_orchestrator.leases import Pool
from algoperf_orchestrator.verdict import Cause

SLEEPS = (sys.executable, "-c", "import time; time.sleep(60)")


def test_a_stolen_trial_may_come_back_before_its_first_attempt_has_ended(tmp_path: Path) -> None:
    (trial,) = planned(1)
    shares = [(Devices(kind="cpu"), (0,)), (Devices(kind="cpu"), (1,))]
    executor = LocalExecutor(Pool(shares=shares, folder=tmp_path / "leases"), Limits())
    first = Task(
        trial=1,
        number=1,
        key=trial.key,
        config=trial.config,
        experiment=tmp_path / "mine",
        data_dir=tmp_path,
        command=SLEEPS,
    )
    assert executor.room(1)
    executor.start([first])
    while not (first.folder / "attempt.json").exists():
        time.sleep(0.05)
    executor.release([1])
    assert executor.room(1)
    executor.start([replace(first, number=2)])
    found = {}
    while len(found) < 2:
        found |= {one.number: one.verdict.reason for one in executor.wait(1.0)}
    # The folder is locked by the first until that has left.
    assert found[1] in (Cause.STOPPED, Cause.KILLED)
    assert found[2] == Cause.LOCKED
    executor.close()
