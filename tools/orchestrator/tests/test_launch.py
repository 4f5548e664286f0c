"""A trial's process under watch: what it may not do, how it is stopped, and that nothing of it stays."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import suites
from hypothesis import given
from hypothesis import strategies as st

from algoperf import registry, study
from algoperf.records import RecordsError
from algoperf.spec import Framework, Scale
from algoperf_orchestrator import attempt, processes, verdict, watch
from algoperf_orchestrator.environment import Devices
from algoperf_orchestrator.launch import Ended, launch
from algoperf_orchestrator.launch_options import Launch, Limits
from algoperf_orchestrator.verdict import Cause, State, Verdict

MIB = 2**20
ENDED = {"event": "ended", "end_reason": "budget", "global_step": 1, "seconds": {"submission": 1.0}}
STARTED = {"event": "started", "step": 0, "restarts": 0, "batch_size": 1}
SAY = "import json, os, signal, subprocess, sys, time\ndef say(facts): print(json.dumps(facts), flush=True)\n"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ended]:
    """Runs a program as if it were a trial."""

    def call(program: str, stop: threading.Event | None = None, **limits: Any) -> Ended:
        spec = registry.workload_spec("toy").at(Scale.MINI)
        config = study.trial_config(
            spec, framework=Framework.JAX, submission="mine", ruleset=study.SELF_TUNING, hyperparameters=None
        )
        what = Launch(
            config=config,
            experiment=tmp_path,
            data_dir=tmp_path,
            devices=Devices(kind="cpu"),
            limits=Limits(**limits),
            command=[sys.executable, "-c", SAY + program],
        )
        call.folder = what.folder  # type: ignore[attr-defined]
        return launch(what, lambda event, facts: None, stop)

    return call


def folder(run: Callable[..., Ended]) -> Path:
    return run.folder  # type: ignore[attr-defined]


def test_what_a_trial_says_is_its_verdict(run: Callable[..., Ended]) -> None:
    ended = run(f"say({ENDED})")
    assert ended.verdict == Verdict(state=State.DONE, reason="budget")
    assert ended.is_told
    told = attempt.read(folder(run))
    assert told is not None
    assert told.verdict == ended.verdict


@pytest.mark.parametrize(
    ("program", "state", "reason", "detail"),
    [
        ("os._exit(7)", State.FAILED_INFRASTRUCTURE, "died", "exit code 7"),
        ("sys.exit('no such data')", State.FAILED_INFRASTRUCTURE, "died", "exit code 1: no such data"),
        ("print('bad', file=sys.stderr); sys.exit(2)", State.FAILED_INFRASTRUCTURE, "bad input", "bad"),
        (
            "print('disk full', file=sys.stderr); sys.exit(3)",
            State.FAILED_INFRASTRUCTURE,
            "infrastructure",
            "disk full",
        ),
        ("os.kill(os.getpid(), signal.SIGKILL)", State.FAILED_INFRASTRUCTURE, "killed", "by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", State.FAILED_INFRASTRUCTURE, "killed", "by SIGSEGV"),
        (
            "say({'event': 'refused', 'message': 'cannot be imported'})",
            State.FAILED_ALGORITHM,
            "refused",
            "cannot be imported",
        ),
    ],
)
def test_processes_that_end_otherwise(
    run: Callable[..., Ended], program: str, state: State, reason: str, detail: str
) -> None:
    assert run(program).verdict == Verdict(state=state, reason=reason, detail=detail)


def test_a_trial_that_hangs_in_the_submission(run: Callable[..., Ended]) -> None:
    ended = run(f"say({STARTED}); time.sleep(600)", silence_s=1.0)
    assert (ended.verdict.state, ended.verdict.reason) == (State.FAILED_ALGORITHM, "hung")
    assert "in submission" in ended.verdict.detail


@pytest.mark.parametrize("said", ["None", "{'event': 'evaluating', 'global_step': 1}"])
def test_a_trial_that_hangs_elsewhere_may_be_tried_again(run: Callable[..., Ended], said: str) -> None:
    ended = run(f"say({STARTED}) if {said} else None; {said} and say({said}); time.sleep(600)", silence_s=1.0)
    assert (ended.verdict.state, ended.verdict.reason) == (State.FAILED_INFRASTRUCTURE, "hung")
    assert ended.verdict.may_be_retried


def test_a_trial_that_eats_memory(run: Callable[..., Ended]) -> None:
    eat = f"say({STARTED}); held = []\nwhile True: held.append(b'x' * {50 * MIB}); time.sleep(0.05)"
    ended = run(eat, memory_bytes=400 * MIB)
    assert (ended.verdict.state, ended.verdict.reason) == (State.FAILED_ALGORITHM, "memory")
    assert ended.verdict.detail.endswith("0.4 GiB allowed")
    told = attempt.read(folder(run))
    assert told is not None
    assert told.peak_memory_bytes > 400 * MIB


def test_children_count_as_well(run: Callable[..., Ended]) -> None:
    child = f"held = b'x' * {300 * MIB}; import time; time.sleep(600)"
    ended = run(
        f"say({STARTED}); subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(600)", memory_bytes=250 * MIB
    )
    assert ended.verdict.reason == "memory"
    assert not marked(folder(run))


def test_what_children_share_counts_once(run: Callable[..., Ended]) -> None:
    """Workers of a submission that hold the same 200 MiB: eight times as much, to whoever looks in haste."""
    forks = "[os.fork() or (time.sleep(4), os._exit(0)) for _ in range(7)]"
    ended = run(
        f"held = b'x' * {200 * MIB}; say({STARTED}); {forks}; time.sleep(4); say({ENDED})", memory_bytes=500 * MIB
    )
    assert ended.verdict.state is State.DONE


def test_who_has_told_its_result_may_hang(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_LEAVE_S", 1.0)
    ended = run(f"say({STARTED}); say({ENDED}); time.sleep(600)", silence_s=0.5, memory_bytes=2**40)
    assert (ended.verdict.state, ended.verdict.reason) == (State.DONE, "budget")
    assert not marked(folder(run))


def test_the_best_metric_outlives_the_attempt(run: Callable[..., Ended]) -> None:
    row = {"event": "evaluated", "global_step": 1, "accumulated_submission_time": 1.0, "validation/accuracy": 0.7}
    run(f"say({STARTED}); say({row})")
    run(f"say({STARTED})")
    told = attempt.read(folder(run))
    assert told is not None
    assert told.best == 0.7


FORK = """
say({started})
for _ in range(3):
    if os.fork() == 0:
        if {leaves_session}:
            os.setsid()
            if os.fork():
                os._exit(0)
        time.sleep(600)
        os._exit(0)
say({ended})
"""


@pytest.mark.parametrize("leaves_session", [False, True])
def test_a_trial_that_forks_leaves_nothing_behind(run: Callable[..., Ended], leaves_session: bool) -> None:
    start = time.monotonic()
    ended = run(FORK.format(started=STARTED, ended=ENDED, leaves_session=leaves_session))
    assert ended.verdict.state is State.DONE
    # Its children hold its stdout; that nobody closes it must not keep the orchestrator waiting.
    assert time.monotonic() - start < 30.0
    suites.wait_for(lambda: not marked(folder(run)), 5.0, "the children's end")


def test_stopping_lets_a_trial_save(run: Callable[..., Ended]) -> None:
    stop = threading.Event()
    program = """
def leave(number, frame):
    say({"event": "stopped", "global_step": 5})
    sys.exit(0)
signal.signal(signal.SIGINT, leave)
say({"event": "started", "step": 5, "restarts": 0, "batch_size": 1})
time.sleep(600)
"""
    threading.Timer(1.0, stop.set).start()
    ended = run(program, stop)
    assert ended.verdict == Verdict(state=State.PLANNED, reason="stopped", detail="at step 5")


def test_one_trial_runs_once_at_a_time(run: Callable[..., Ended], tmp_path: Path) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=run, args=("time.sleep(600)", stop))
    thread.start()
    suites.wait_for(lambda: hasattr(run, "folder") and attempt.read(folder(run)) is not None)
    with pytest.raises(RecordsError, match="Another process runs the trial"):
        run(f"say({ENDED})")
    stop.set()
    thread.join(60.0)
    assert not thread.is_alive()


def test_strays_of_an_earlier_life_are_killed_first(run: Callable[..., Ended]) -> None:
    run(f"say({ENDED})")
    environment = os.environ | {processes.MARK: str(folder(run).resolve())}
    stray = psutil.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment)
    suites.wait_for(lambda: stray.pid in marked(folder(run)))
    run(f"say({ENDED})")
    assert stray.wait(10.0) < 0


def test_a_disk_that_is_full(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: attempt.Attempt, where: Path) -> None:
        raise OSError(28, "No space left on device", str(where))

    monkeypatch.setattr(attempt.Attempt, "write", full)
    assert run(f"say({ENDED})").verdict.state is State.DONE, "a heartbeat that cannot be written fails no trial"


def test_an_attempt_is_read_as_it_was_written(tmp_path: Path) -> None:
    one = attempt.Attempt(number=3, devices=("GPU-1",), phase="evaluation", step=7, metric=float("nan"))
    one.verdict = verdict.of_cause(Cause.MEMORY, "much")
    one.write(tmp_path)
    found = attempt.read(tmp_path)
    assert found is not None
    assert repr(found) == repr(one)
    for damage in ("", "{", "[]", '{"number": 1}', json.dumps({**vars(one), "verdict": None, "new": 1})):
        (tmp_path / attempt.NAME).write_text(damage)
        assert attempt.read(tmp_path) is None


@given(st.lists(st.floats() | st.none(), max_size=5), st.sampled_from(["min", "max"]))
def test_the_best_value(values: list[float | None], goal: str) -> None:
    best: float | None = None
    for value in values:
        best = attempt.better(best, value, goal)
    real = [value for value in values if value is not None and value == value]
    assert best == ({"min": min, "max": max}[goal](real) if real else None)


def test_events_are_taken_in() -> None:
    target = registry.workload_spec("toy").at(Scale.MINI).target
    one = attempt.Attempt(number=1)
    row: Mapping[str, Any] = {
        "global_step": 10,
        "accumulated_submission_time": 1.0,
        "validation/accuracy": 0.5,
    }
    one.see("started", {"step": 5}, target)
    assert (one.phase, one.step) == ("submission", 5)
    one.see("evaluating", {"global_step": 10}, target)
    assert one.phase == "evaluation"
    one.see("evaluated", row, target)
    one.see("evaluated", {**row, "validation/accuracy": 0.4}, target)
    assert (one.phase, one.metric, one.best, one.submission_s) == ("submission", 0.4, 0.5, 1.0)


def marked(where: Path) -> list[int]:
    return [pid for pid in suites.trial_pids(where.parent) if pid != os.getpid()]
