"""Trials on a real Ray cluster of this machine, which all tests here share: it takes 20 s to start."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from algoperf import registry
from algoperf.records import read_trial, trial_folder
from algoperf.spec import Framework, Scale
from algoperf.testing.frameworks import require
from algoperf.trial_config import TrialConfig
from algoperf_orchestrator import attempt
from algoperf_orchestrator.executors import Finished, Resources, Task
from algoperf_orchestrator.executors.ray import RayExecutor, connect, share
from algoperf_orchestrator.executors.ray_task import Node
from algoperf_orchestrator.planned import Key
from algoperf_orchestrator.verdict import Cause, State

# Ray leaves it to the interpreter to close its logs and to reap its processes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file .*/ray/session_:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess [0-9]+ is still running:ResourceWarning"),
]

TELL = """
import json, os, signal, sys, time
from pathlib import Path
config = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
place = Path(sys.argv[sys.argv.index("--data-dir") + 1])
facts = {"pid": os.getpid(), "parent": os.getppid(), "nice": os.nice(0), "threads": os.environ.get("OMP_NUM_THREADS"),
         "cores": sorted(os.sched_getaffinity(0)), "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))}
(place / f".{config['trial']}").write_text(json.dumps(facts))
(place / f".{config['trial']}").rename(place / str(config["trial"]))
"""
END = """
print(json.dumps({"event": "ended", "end_reason": "budget", "global_step": 1, "seconds": {"submission": 1.0}}))
"""
MEET = """
while not all((place / name).exists() for name in "12"):
    time.sleep(0.05)
"""
SLEEP = "time.sleep(600)"
DIE = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    if importlib.util.find_spec("ray") is None:
        if os.environ.get("CI"):
            pytest.fail("Ray is not installed.")
        pytest.skip("Ray is not installed.")
    with pytest.MonkeyPatch.context() as patch:
        # A test is the same on a machine with GPUs.
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.delenv("RAY_ADDRESS", raising=False)
        assert connect("local")
        yield
        import ray

        ray.shutdown()


@pytest.fixture
def executor(cluster: None, tmp_path: Path) -> Iterator[Callable[..., RayExecutor]]:
    """Makes executors, whose ends they do not outlive."""
    made: list[RayExecutor] = []

    def make(**resources: Any) -> RayExecutor:
        made.append(RayExecutor(Resources(devices=1, **resources), leases=tmp_path / "leases"))
        return made[-1]

    yield make
    for one in made:
        one.close()


def config(trial: int = 1, **changes: Any) -> TrialConfig:
    spec = registry.workload_spec("toy").at(Scale.MINI)
    given = {"submission": "unused", "framework": Framework.JAX, "max_runtime_s": spec.budget("v1.0").max_runtime_s}
    return TrialConfig(workload="toy", scale=Scale.MINI, seed=1, trial=trial, **{**given, **changes})


def task(tmp_path: Path, trial: int, program: str = "", number: int = 1, **changes: Any) -> Task:
    script = tmp_path / f"program_{trial}.py"
    script.write_text(TELL + program)
    return Task(
        trial=trial,
        number=number,
        key=Key("me", "toy", "jax", 0, trial),
        config=config(trial, **changes),
        experiment=tmp_path / "logs",
        data_dir=tmp_path,
        command=(sys.executable, str(script)) if program else (),
    )


def folder(tmp_path: Path, trial: int) -> Path:
    return trial_folder(tmp_path / "logs", 0, "toy", "jax", trial)


def wait(executor: RayExecutor, count: int, timeout_s: float = 120.0) -> dict[int, Finished]:
    found: dict[int, Finished] = {}
    deadline = time.monotonic() + timeout_s
    while len(found) < count and time.monotonic() < deadline:
        found |= {one.trial: one for one in executor.wait(0.5)}
    assert len(found) == count
    return found


def until(condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def told(tmp_path: Path, trial: int) -> dict[str, Any]:
    """What a program said of itself, as soon as it has."""
    until((tmp_path / str(trial)).exists)
    return dict(json.loads((tmp_path / str(trial)).read_text()))


def test_trials_run_at_once_each_in_a_fresh_process(executor: Callable[..., RayExecutor], tmp_path: Path) -> None:
    ours = executor(cores=1)
    assert ours.room(1) == 1
    assert ours.start([task(tmp_path, 1, MEET + END), task(tmp_path, 2, MEET + END)]) == {}
    found = wait(ours, 2)
    assert {one.verdict.state for one in found.values()} == {State.DONE}
    assert {one.verdict.reason for one in found.values()} == {"budget"}
    ours.start([task(tmp_path, 3, END)])
    assert wait(ours, 1)[3].number == 1

    facts = [told(tmp_path, trial) for trial in (1, 2, 3)]
    assert len({one["parent"] for one in facts}) == 3
    assert facts[0]["cores"] != facts[1]["cores"]
    for one in facts:
        assert (one["nice"], one["threads"], one["blocked"], len(one["cores"])) == (0, None, [], 1)


def test_a_trial_that_is_killed(executor: Callable[..., RayExecutor], tmp_path: Path) -> None:
    ours = executor(cores=1)
    ours.start([task(tmp_path, 1, DIE)])
    verdict = wait(ours, 1)[1].verdict
    assert (verdict.state, verdict.reason) == (State.FAILED_INFRASTRUCTURE, Cause.KILLED)
    assert verdict.may_be_retried


def test_a_worker_that_is_killed_takes_its_trial_along(executor: Callable[..., RayExecutor], tmp_path: Path) -> None:
    ours = executor(cores=1)
    ours.start([task(tmp_path, 1, SLEEP)])
    facts = told(tmp_path, 1)
    os.kill(facts["parent"], signal.SIGKILL)
    verdict = wait(ours, 1)[1].verdict
    assert (verdict.state, verdict.reason) == (State.FAILED_INFRASTRUCTURE, Cause.KILLED)
    assert "WorkerCrashedError" in verdict.detail
    until(lambda: not psutil.pid_exists(facts["pid"]), 10.0)

    # What it had is free again.
    ours.start([task(tmp_path, 1, END, number=2)])
    finished = wait(ours, 1)[1]
    assert (finished.number, finished.verdict.state) == (2, State.DONE)


def test_stopping_reaches_what_runs_and_what_waits(executor: Callable[..., RayExecutor], tmp_path: Path) -> None:
    ours = executor()
    ours.start([task(tmp_path, 1, SLEEP), task(tmp_path, 2, SLEEP)])
    assert ours.room(10) == 1
    told(tmp_path, 1)
    until(lambda: attempt.read(folder(tmp_path, 1)))
    for _ in range(2):
        ours.stop([1, 2])
    found = wait(ours, 2, 60.0)
    assert {(one.verdict.state, one.verdict.reason) for one in found.values()} == {(State.PLANNED, Cause.STOPPED)}
    assert not folder(tmp_path, 2).exists()
    assert not list(folder(tmp_path, 1).glob(".stop*"))


def test_a_trial_that_was_stopped_goes_on(executor: Callable[..., RayExecutor], tmp_path: Path, sgd: Path) -> None:
    require(Framework.JAX)
    ours = executor(cores=1)
    changes = {
        "submission": str(sgd),
        "hyperparameters": {"sleep_s": 0.02, "fail_at": -1, "die_at": -1},
        "clock": "virtual",
        "max_steps": 150,
    }
    ours.start([task(tmp_path, 1, **changes)])
    until(lambda: (newest := attempt.read(folder(tmp_path, 1))) is not None and newest.step > 1)
    ours.stop([1])
    verdict = wait(ours, 1)[1].verdict
    assert (verdict.state, verdict.reason) == (State.PLANNED, Cause.STOPPED)
    step = int(verdict.detail.removeprefix("at step "))

    ours.start([task(tmp_path, 1, number=2, **changes)])
    verdict = wait(ours, 1)[1].verdict
    assert (verdict.state, verdict.reason) == (State.DONE, "steps")
    record = read_trial(folder(tmp_path, 1))
    assert 1 < step < 150
    assert [row["preemption_count"] for row in record.evaluations][:: len(record.evaluations) - 1] == [0, 1]


def test_a_task_that_cannot_be_run_is_told_apart(executor: Callable[..., RayExecutor], tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("no folder")
    ours = executor(cores=1)
    ours.start([task(tmp_path, 1, END)])
    verdict = wait(ours, 1)[1].verdict
    assert (verdict.state, verdict.reason) == (State.FAILED_INFRASTRUCTURE, Cause.NOT_STARTED)
    assert "Not a directory" in verdict.detail


def test_more_than_a_node_has(executor: Callable[..., RayExecutor]) -> None:
    with pytest.raises(ValueError, match=r"^--cores asks for 1000 but no node of the Ray cluster has more than \d+;"):
        executor(cores=1000)


@pytest.mark.parametrize(
    ("nodes", "devices", "cores", "expected"),
    [
        ([Node(16, 0)], None, None, ("cpu", 1, 16, 1)),
        ([Node(16, 0), Node(8, 0)], 4, None, ("cpu", 4, 8, 3)),
        ([Node(16, 0), Node(8, 0)], None, 2, ("cpu", 1, 2, 12)),
        ([Node(32, 8), Node(64, 0)], None, None, ("cuda", 8, 32, 1)),
        ([Node(32, 8), Node(16, 4)], 2, None, ("cuda", 2, 8, 6)),
        ([Node(32, 8), Node(16, 4)], 8, None, ("cuda", 8, 32, 1)),
    ],
)
def test_shares(nodes: list[Node], devices: int | None, cores: int | None, expected: tuple[Any, ...]) -> None:
    found = share(nodes, Resources(devices=devices, cores=cores))
    assert (found.kind, found.devices, found.cores, sum(map(found.fits, nodes))) == expected


def test_a_trial_has_one_node() -> None:
    with pytest.raises(ValueError, match="--devices asks for 8 but no node of the Ray cluster has more than 4; "):
        share([Node(32, 4), Node(32, 4)], Resources(devices=8))
    with pytest.raises(ValueError, match="--cores asks for 40 but no node of the Ray cluster has more than 32; "):
        share([Node(32, 4), Node(64, 0)], Resources(cores=40))


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"uv pip install 'algoperf-orchestrator\[ray\]'"):
        connect("local")


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConnectionError, match=r"There is no Ray cluster at 127\.0\.0\.1:1 \(.*refused\); start one"):
        connect(None)
