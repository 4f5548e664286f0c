"""A suite on a Ray cluster of this machine, through the command: a trial whose process is killed goes on."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import suites

from algoperf.records import trial_folder
from algoperf.spec import Framework
from algoperf.testing.frameworks import require
from algoperf_orchestrator import attempt
from algoperf_orchestrator.verdict import Cause

NUM_TRIALS = 4
# With it a trial takes about 20 s.
PAUSE_S = "0.5"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of the processes that this one starts, which lease the cores of this test alone."""
    require(Framework.JAX)
    if importlib.util.find_spec("ray") is None:
        assert "CI" not in os.environ, "Ray is not installed."
        pytest.skip("Ray is not installed.")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as short:
        for name, value in {"RAY_TMPDIR": short, "TMPDIR": tmp_path, "CUDA_VISIBLE_DEVICES": ""}.items():
            monkeypatch.setenv(name, str(value))
        yield


def start(experiment: Path, learner: Path, executor: str, log: Path) -> subprocess.Popen[bytes]:
    options = {"studies": NUM_TRIALS, "retry_after": 0, "preflight": False, "report": False}
    arguments = suites.suite_arguments(experiment, learner, Framework.JAX, executor=executor, **options)
    return suites.start(arguments, log)


def has_something_to_lose(folder: Path) -> bool:
    """Whether a trial has made steps since it was evaluated for the second time."""
    newest = attempt.read(folder)
    return newest is not None and newest.step > 11


def test_a_killed_trial_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, disturbed, log = tmp_path / "alone", tmp_path / "disturbed", tmp_path / "log"
    learner = suites.write_learner(tmp_path / "learner")
    assert start(alone, learner, "local", log).wait(120) == 0, log.read_text()
    monkeypatch.setenv("PAUSE_S", PAUSE_S)
    process = start(disturbed, learner, "ray", log)
    folder = trial_folder(disturbed / "learner", 0, "toy", "jax", 1)
    suites.wait_for(lambda: has_something_to_lose(folder), 120.0, "a trial's steps")
    assert len(suites.trial_pids(disturbed)) == 2
    suites.kill(suites.trial_pids(folder.parent))
    assert process.wait(180) == 0, log.read_text()

    reasons = suites.ends(disturbed)
    assert reasons.pop("learner/0/1") == [Cause.KILLED, "reached"]
    assert list(reasons.values()) == [["reached"]] * (NUM_TRIALS - 1)
    assert suites.numbers(disturbed) == suites.numbers(alone)
    assert len(suites.numbers(disturbed)) == NUM_TRIALS
    assert not suites.trial_pids(disturbed)
