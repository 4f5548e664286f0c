"""A suite on a real SLURM cluster, through the command: whatever is killed or cancelled, each trial ends once."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_cluster
import suites
from slurm_cluster import Cluster

from algoperf.records import trial_folder
from algoperf.spec import Framework
from algoperf.testing.frameworks import require
from algoperf_orchestrator import attempt
from algoperf_orchestrator.ledger import Ledger
from algoperf_orchestrator.verdict import Cause, State

NUM_TRIALS = 6
LABEL = "learner"
# With it a trial takes about 25 s, in 21 steps.
PAUSE_S = "1"
# The controller saves its state with a delay of up to 5 s.
SAVED_S = 6.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    require(Framework.JAX)
    slurm_cluster.require()
    with slurm_cluster.cluster() as found:
        yield found


@pytest.fixture
def joined(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster, for the processes that this one starts; jobs lease the cores of this test alone."""
    for name, value in {"SLURM_CONF": cluster.config, "TMPDIR": tmp_path, "CUDA_VISIBLE_DEVICES": ""}.items():
        monkeypatch.setenv(name, str(value))
    return cluster


def arguments(experiment: Path, learner: Path, executor: str) -> list[str]:
    options = {"studies": NUM_TRIALS, "retry_after": 0, "preflight": False, "report": False}
    return suites.suite_arguments(experiment, learner, Framework.JAX, executor=executor, **options)


def handles(experiment: Path) -> dict[int, str]:
    """The jobs of running trials, by study."""
    with Ledger(experiment) as ledger:
        rows: list[sqlite3.Row] = ledger.query("SELECT study, handle FROM trials WHERE state = 'running'")
    return {row["study"]: row["handle"] for row in rows}


def newest(experiment: Path, study: int) -> attempt.Attempt | None:
    return attempt.read(trial_folder(experiment / LABEL, study, "toy", "jax", 1))


def at_work(experiment: Path) -> list[int]:
    """Studies whose trials make steps just now."""
    found = {study: newest(experiment, study) for study in range(NUM_TRIALS)}
    return [study for study, one in found.items() if one is not None and one.step > 0 and is_alive(one)]


def two_at_work(experiment: Path) -> list[int]:
    """Waits until as many work as the cluster has room for."""
    suites.wait_for(lambda: len(at_work(experiment)) == 2, what="two jobs at once")
    return at_work(experiment)


def is_alive(one: attempt.Attempt) -> bool:
    return one.verdict is None and bool(attempt.is_alive(one.host, one.pid, one.created))


def kill_job(experiment: Path, study: int) -> None:
    """Kills a job's supervisor and its trial at once, as a machine does."""
    found = newest(experiment, study)
    assert found is not None
    trial = suites.trial_pids(trial_folder(experiment / LABEL, study, "toy", "jax", 1).parent)
    assert trial
    suites.kill([found.pid, *trial])


def cancel(cluster: Cluster, experiment: Path, study: int) -> None:
    """What a person does who takes a job out of the queue; returns when the ledger has it."""
    cluster.run("scancel", handles(experiment)[study])
    failed = State.FAILED_INFRASTRUCTURE.value
    suites.wait_for(lambda: suites.state_counts(experiment).get(failed) == 1, what="the cancelled trial")


def restart_controller(cluster: Cluster, job: str) -> None:
    """Kills the controller when it has saved what it did, and starts it some seconds later."""
    # It would start again what it has not saved, and take the node out of use since that refuses. The start of a
    # job does not make it save; a change by hand does.
    cluster.run("scontrol", "update", f"JobId={job}", "Comment=saved")
    time.sleep(SAVED_S)
    cluster.kill_controller()
    time.sleep(SAVED_S)
    cluster.start_controller()


def end_of(process: subprocess.Popen[bytes], log: Path, code: int) -> None:
    assert process.wait(150) == code, log.read_text()


@pytest.mark.timeout(400)
def test_each_trial_ends_once(joined: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, disturbed, log = tmp_path / "alone", tmp_path / "disturbed", tmp_path / "log"
    learner = suites.write_learner(tmp_path / LABEL)
    end_of(suites.start(arguments(alone, learner, "local"), log), log, 0)
    monkeypatch.setenv("PAUSE_S", PAUSE_S)
    command = arguments(disturbed, learner, "slurm")
    process = suites.start(command, log)
    killed, cancelled = two_at_work(disturbed)
    job = handles(disturbed)[killed]
    kill_job(disturbed, killed)
    two_at_work(disturbed)
    restart_controller(joined, handles(disturbed)[cancelled])
    cancel(joined, disturbed, cancelled)
    two_at_work(disturbed)
    suites.kill([process.pid])
    process.wait()
    end_of(suites.start(command, log), log, 3)
    subprocess.run([*suites.MAIN, "retry", str(disturbed)], check=True)
    end_of(suites.start(command, log), log, 0)

    assert "Restarts=1" in joined.run("scontrol", "show", "job", job)
    reasons = suites.ends(disturbed)
    assert reasons.pop(f"{LABEL}/{cancelled}/1") == [Cause.CANCELLED, "reached"]
    # Who was queued again or adopted went on with the same attempt.
    assert list(reasons.values()) == [["reached"]] * (NUM_TRIALS - 1)
    assert suites.numbers(disturbed) == suites.numbers(alone)
    assert len(suites.numbers(disturbed)) == NUM_TRIALS
    assert not suites.trial_pids(disturbed)


def test_stop_reaches_jobs_whose_orchestrator_is_gone(joined: Cluster, tmp_path: Path) -> None:
    experiment, log = tmp_path / "e", tmp_path / "log"
    learner = suites.write_learner(tmp_path / LABEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAUSE_S", PAUSE_S)
        process = suites.start(arguments(experiment, learner, "slurm"), log)
        two_at_work(experiment)
    suites.kill([process.pid])
    process.wait()
    # Another executor must not take them, and says what to do.
    end_of(suites.start(arguments(experiment, learner, "local"), log), log, 2)
    assert "is in the hands of slurm" in log.read_text()
    subprocess.run([*suites.MAIN, "stop", str(experiment)], check=True)
    assert suites.state_counts(experiment)[State.PLANNED.value] == NUM_TRIALS
    assert not joined.run("squeue", "--noheader").strip()
    end_of(suites.start(arguments(experiment, learner, "local"), log), log, 0)
    assert all(reasons[-1] == "reached" for reasons in suites.ends(experiment).values())
