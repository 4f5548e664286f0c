"""Trials as jobs of a real cluster of one node, whatever happens to the jobs, the controller and the orchestrator."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import slurm_cluster
from slurm_cluster import Cluster, wait_until

from algoperf import registry, study
from algoperf.records import trial_folder
from algoperf.spec import Framework, Scale
from algoperf.trial_config import TrialConfig
from algoperf_orchestrator import attempt, verdict
from algoperf_orchestrator.executors import Resources, Task
from algoperf_orchestrator.executors.job import Mailbox, call_of
from algoperf_orchestrator.executors.slurm import SlurmExecutor
from algoperf_orchestrator.executors.slurm_options import (
    Patience,
    SlurmOptions,
    num_gpus,
    parameters,
    parse,
    time_limit_s,
)
from algoperf_orchestrator.executors.slurm_queue import Listed, parse_queue
from algoperf_orchestrator.launch_options import Limits
from algoperf_orchestrator.planned import Key
from algoperf_orchestrator.verdict import Cause, State, Verdict

SAY = "import json, os, sys, time\ndef say(**facts): print(json.dumps(facts), flush=True)\n"
END = "say(event='ended', end_reason='budget', global_step=1, seconds={'submission': 1.0})\n"
SLEEP = "time.sleep(600)\n"
Verdicts = dict[int, Verdict]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    slurm_cluster.require()
    with slurm_cluster.cluster() as found:
        yield found


@pytest.fixture
def joined(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The cluster, for this process; its jobs lease the cores of this test alone."""
    monkeypatch.setattr("shutil.which", slurm_cluster.which)
    for name, value in {"SLURM_CONF": cluster.config, "TMPDIR": tmp_path, "CUDA_VISIBLE_DEVICES": ""}.items():
        monkeypatch.setenv(name, str(value))
    yield cluster
    cluster.run("scancel", f"--user={os.getuid()}")
    wait_until(lambda: not cluster.run("squeue", "-h").strip())


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., SlurmExecutor]:
    def call(silence_s: float = 60.0, requeues: int = 2, **options: str) -> SlurmExecutor:
        patience = Patience(poll_s=0.5, grace_s=1.0, silence_s=silence_s, requeues=requeues)
        return SlurmExecutor(SlurmOptions(folder=tmp_path / "jobs", **options), Resources(), patience)  # type: ignore[arg-type]

    return call


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., Task]:
    """An attempt at a trial, which is a program instead."""

    def call(trial: int, program: str = END, number: int = 1) -> Task:
        return Task(
            trial=trial,
            number=number,
            key=Key("mine", "toy", "jax", 0, trial),
            config=config(trial=trial),
            experiment=tmp_path / "logs",
            data_dir=tmp_path / "data",
            command=[sys.executable, "-c", SAY + program],
        )

    return call


@pytest.fixture
def real(task: Callable[..., Task], sgd: Path) -> Task:
    """An attempt at a trial that takes some seconds."""
    point = {"sleep_s": 0.02, "fail_at": -1, "die_at": -1}
    ruleset = study.EXTERNAL_TUNING.name
    trial = replace(config(), submission=str(sgd), hyperparameters=point, ruleset=ruleset, max_steps=150)
    return replace(task(1), config=replace(trial, max_runtime_s=600.0), command=())


def config(trial: int = 1, scale: Scale = Scale.MINI) -> TrialConfig:
    spec = registry.workload_spec("toy").at(scale)
    return study.trial_config(
        spec,
        framework=Framework.JAX,
        submission="mine",
        ruleset=study.SELF_TUNING,
        hyperparameters=None,
        trial=trial,
        clock="virtual",
    )


def folder(task: Task) -> Path:
    return trial_folder(task.experiment, 0, "toy", "jax", task.config.trial)


def newest(task: Task) -> attempt.Attempt | None:
    found = attempt.read(folder(task))
    return found if found is not None and found.number == task.number else None


def step(task: Task) -> int:
    """How far it is; 0 before it has begun or gone on."""
    found = newest(task)
    return 0 if found is None else found.step


def wait(executor: SlurmExecutor, count: int = 1, limit_s: float = 60.0) -> Verdicts:
    """Follows tasks until so many have ended."""
    found: Verdicts = {}
    deadline = time.monotonic() + limit_s
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} have ended after {limit_s:.0f} s"
        found |= {one.trial: one.verdict for one in executor.wait(1.0)}
    return found


def follow_until(executor: SlurmExecutor, condition: Callable[[], object], limit_s: float = 60.0) -> None:
    """Follows tasks, of which none ends, until a condition holds."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not after {limit_s:.0f} s"
        assert not executor.wait(0.2)


def kill(task: Task) -> None:
    """Kills a job's supervisor and what it has started, as a machine does."""
    found = newest(task)
    assert found is not None
    supervisor = psutil.Process(found.pid)
    for process in [supervisor, *supervisor.children(recursive=True)]:
        process.kill()


# Without a cluster.


def test_the_queue_is_read_as_squeue_prints_it() -> None:
    text = "12_0|RUNNING|None\n12_1|PENDING|Resources\n13|PENDING|Nodes (a|b) are down\n\n"
    assert parse_queue(text) == {
        "12_0": Listed("RUNNING", "None"),
        "12_1": Listed("PENDING", "Resources"),
        "13": Listed("PENDING", "Nodes (a|b) are down"),
    }
    assert parse_queue("") == {}


@pytest.mark.parametrize(
    ("state", "reason", "is_hopeless"),
    [
        ("PENDING", "Priority", False),
        ("PENDING", "JobHeldUser", False),
        ("PENDING", "PartitionTimeLimit", True),
        ("PENDING", "launch failed requeued held", True),
        ("REQUEUE_HOLD", "None", True),
    ],
)
def test_jobs_that_never_start_by_themselves_are_known(state: str, reason: str, is_hopeless: bool) -> None:
    assert Listed(state, reason).is_hopeless == is_hopeless


def test_the_time_limit_is_wider_than_the_budget_and_can_be_cut() -> None:
    trial = replace(config(), max_runtime_s=3600.0)
    assert time_limit_s(trial, None) == 2 * 3600 + 7200
    assert time_limit_s(trial, 10_000.0) == 10_000
    assert time_limit_s(trial, 20_000.0) == 14_400


def test_full_scale_asks_for_a_whole_node_with_the_gpus_of_the_rules(tmp_path: Path) -> None:
    options = SlurmOptions(folder=tmp_path, partition="big", extra={"constraint": "a100"})
    wanted = parameters(config(scale=Scale.FULL), Resources(), options)
    assert (wanted["exclusive"], wanted["gpus_per_node"], wanted["partition"]) == (True, 4, "big")
    assert wanted["additional_parameters"] == {
        "requeue": True,
        "signal": "B:USR2@120",
        "mem": "0",
        "constraint": "a100",
    }


def test_mini_scale_asks_for_little(tmp_path: Path) -> None:
    wanted = parameters(config(), Resources(cores=2), SlurmOptions(folder=tmp_path))
    assert wanted["cpus_per_task"] == 2
    assert not {"exclusive", "gpus_per_node", "partition"} & set(wanted)


@pytest.mark.parametrize(
    ("devices", "per_node", "scale", "expected"),
    [
        (None, None, Scale.MINI, 0),
        (2, None, Scale.MINI, 2),
        (2, None, Scale.FULL, 2),
        (None, 8, Scale.FULL, 8),
        (2, 0, Scale.FULL, 0),
    ],
)
def test_gpus_of_a_job(tmp_path: Path, devices: int | None, per_node: int | None, scale: Scale, expected: int) -> None:
    options = SlurmOptions(folder=tmp_path, gpus_per_node=per_node)
    assert num_gpus(config(scale=scale), Resources(devices=devices), options) == expected


def test_options_are_read_as_they_are_written(tmp_path: Path) -> None:
    given = {"max_jobs": "3", "exclusive": "false", "max_time_s": "3600", "setup": "a;b", "partition": "1", "gres": "x"}
    assert parse(given, tmp_path) == SlurmOptions(
        folder=tmp_path,
        max_jobs=3,
        exclusive=False,
        max_time_s=3600.0,
        setup=("a", "b"),
        partition="1",
        extra={"gres": "x"},
    )


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("max_jobs", "0", "a whole number, at least 1"),
        ("max_jobs", "x", "a whole number, at least 1"),
        ("array_parallelism", "-1", "a whole number, at least 1"),
        ("gpus_per_node", "four", "a whole number, at least 0"),
        ("exclusive", "no", "true or false"),
        ("max_time_s", "1d", "whole seconds, at least 600"),
        ("max_time_s", "60", "whole seconds, at least 600"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path: Path, name: str, text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"The option {name} of SLURM is '{text}'; give {expected}"):
        parse({name: text}, tmp_path)


def test_a_job_is_given_plain_data(tmp_path: Path, task: Callable[..., Task]) -> None:
    resources = Resources(limits=Limits(memory_bytes=5, silence_s=6.0))
    call = call_of(task(7), resources, tmp_path, 0, Cause.TIME_LIMIT)
    assert json.loads(json.dumps(call)) == call
    assert TrialConfig.from_json(call["config"]) == config(trial=7)
    assert (call["memory_bytes"], call["silence_s"], call["name"]) == (5, 6.0, task(7).name)


def test_a_mailbox_is_of_one_attempt(tmp_path: Path) -> None:
    first, second = (Mailbox(folder=tmp_path, name=f"mine.{number}") for number in (1, 2))
    said = verdict.of_cause(Cause.STOPPED, "at step 3")
    first.tell(said)
    first.ask_to_stop()
    assert (first.told(), second.told()) == (said, None)
    assert (first.is_asked_to_stop(), second.is_asked_to_stop()) == (True, False)
    first.clear()
    assert first.told() is None
    assert not first.is_asked_to_stop()


def test_without_slurm_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose another --executor"):
        SlurmExecutor(SlurmOptions(folder=tmp_path), Resources())


# With one.

Make = Callable[..., SlurmExecutor]
MakeTask = Callable[..., Task]


def test_jobs_end_with_their_trials_verdicts(joined: Cluster, make: Make, task: MakeTask) -> None:
    executor = make()
    assert executor.room(5) == 5
    fail = "say(event='ended', end_reason='error', global_step=0, seconds={}, error={'type': 'E', 'message': 'no'})"
    tasks = [task(1), task(2, fail), task(3, "sys.exit(7)"), task(4)]
    handles = executor.start(tasks)
    assert len({handle.partition("_")[0] for handle in handles.values()}) == 1
    found = wait(executor, 4)
    assert {trial: one.state for trial, one in found.items()} == {
        1: State.DONE,
        2: State.FAILED_ALGORITHM,
        3: State.FAILED_INFRASTRUCTURE,
        4: State.DONE,
    }
    assert found[3].reason == Cause.DIED


def test_a_killed_job_is_queued_again(joined: Cluster, make: Make, task: MakeTask, tmp_path: Path) -> None:
    marker = tmp_path / "was here"
    once = f"if not os.path.exists({str(marker)!r}):\n    open({str(marker)!r}, 'w').close()\n    {SLEEP}{END}"
    executor = make()
    killed = task(1, once)
    handles = executor.start([killed])
    follow_until(executor, lambda: marker.exists() and newest(killed))
    kill(killed)
    assert wait(executor)[1].state is State.DONE
    assert "Restarts=1" in joined.run("scontrol", "show", "job", handles[1])


def test_a_job_that_is_killed_again_and_again_has_failed(joined: Cluster, make: Make, task: MakeTask) -> None:
    executor = make(requeues=0)
    killed = task(1, SLEEP)
    executor.start([killed])
    follow_until(executor, lambda: newest(killed))
    kill(killed)
    found = wait(executor)[1]
    assert (found.state, found.reason) == (State.FAILED_INFRASTRUCTURE, Cause.KILLED)
    assert "signal 9" in found.detail


def test_a_job_that_a_person_cancels_is_not_tried_again(joined: Cluster, make: Make, task: MakeTask) -> None:
    executor = make()
    tasks = [task(1, SLEEP), task(2, SLEEP), task(3, SLEEP)]
    handles = executor.start(tasks)
    follow_until(executor, lambda: newest(tasks[0]))
    # One that runs, and one that waits.
    joined.run("scancel", handles[1], handles[3])
    for found in wait(executor, 2).values():
        assert (found.reason, found.may_be_retried) == (Cause.CANCELLED, False)


def test_a_job_whose_time_is_up_says_so(joined: Cluster, make: Make, task: MakeTask) -> None:
    executor = make()
    late = task(1, SLEEP)
    handles = executor.start([late])
    follow_until(executor, lambda: newest(late))
    joined.run("scancel", "--batch", "--signal=USR2", handles[1])
    found = wait(executor)[1]
    assert (found.reason, found.may_be_retried) == (Cause.TIME_LIMIT, True)


def test_a_silent_job_is_given_up(joined: Cluster, make: Make, task: MakeTask) -> None:
    executor = make(silence_s=3.0)
    silent = task(1, SLEEP)
    executor.start([silent])
    follow_until(executor, lambda: newest(silent))
    found = newest(silent)
    assert found is not None
    psutil.Process(found.pid).suspend()
    assert wait(executor)[1].reason == Cause.NO_HEARTBEAT


def test_stopped_trials_can_be_continued(joined: Cluster, make: Make, task: MakeTask, real: Task) -> None:
    # Two run at once, so the last one waits.
    tasks = [real, task(2, SLEEP), task(3)]
    executor = make()
    executor.start(tasks)
    follow_until(executor, lambda: step(real) and newest(tasks[1]))
    before = step(real)
    executor.stop([1, 2, 3])
    found = wait(executor, 3)
    assert {(one.state, one.reason) for one in found.values()} == {(State.PLANNED, Cause.STOPPED)}
    second = replace(real, number=2)
    executor.start([second])
    follow_until(executor, lambda: step(second))
    assert step(second) >= before > 0
    assert wait(executor)[1].reason == "steps"


def test_a_preempted_job_saves_and_goes_on(joined: Cluster, make: Make, real: Task, tmp_path: Path) -> None:
    executor, mailbox = make(), Mailbox(folder=tmp_path / "jobs", name=real.name)
    # A step is so long that a second signal would come before the trial has seen the first.
    slow = {"sleep_s": 1.5, "fail_at": -1, "die_at": -1}
    real = replace(real, config=replace(real.config, hyperparameters=slow, max_steps=6))
    handles = executor.start([real])
    follow_until(executor, lambda: step(real))
    joined.run("scontrol", "requeue", handles[1])
    follow_until(executor, mailbox.told)
    told = mailbox.told()
    assert told is not None
    saved = re.fullmatch(r"at step (\d+)", told.detail)
    assert saved is not None, told
    follow_until(executor, lambda: mailbox.told() is None and step(real), 120.0)
    assert step(real) >= int(saved[1]) > 0
    assert wait(executor)[1].reason == "steps"


def test_another_orchestrator_goes_on_with_the_jobs(joined: Cluster, make: Make, task: MakeTask) -> None:
    tasks = [task(1, f"time.sleep(3)\n{END}"), task(2)]
    first = make()
    handles = first.start(tasks)
    first.close()
    second = make()
    assert [second.adopt(one, handles[one.trial]) for one in tasks] == [True, True]
    assert {one.state for one in wait(second, 2).values()} == {State.DONE}
    # Also when they have ended before it looks.
    third = make()
    assert third.adopt(tasks[0], handles[1])
    assert wait(third)[1].state is State.DONE
    assert not third.adopt(task(3), "")
    assert not third.adopt(task(3), "99999_0")


@pytest.mark.parametrize(
    ("partition", "sentence"), [("nowhere", "invalid partition"), ("short", "holds job .*PartitionTimeLimit")]
)
def test_what_slurm_refuses_is_told(joined: Cluster, make: Make, task: MakeTask, partition: str, sentence: str) -> None:
    executor = make(partition=partition)
    executor.start([task(1), task(2)])
    found = wait(executor, 2)
    assert {one.reason for one in found.values()} == {Cause.NOT_STARTED}
    assert all(re.search(sentence, one.detail) for one in found.values())


def test_the_controller_may_die(joined: Cluster, make: Make, task: MakeTask, tmp_path: Path) -> None:
    executor = make()
    may_end = tmp_path / "may_end"
    tasks = [task(1, f"while not os.path.exists({str(may_end)!r}): time.sleep(0.1)\n{END}"), task(2, SLEEP), task(3)]
    executor.start(tasks)
    follow_until(executor, lambda: newest(tasks[0]) and newest(tasks[1]))
    # What it has not saved it forgets, and it saves its state some seconds late.
    started = time.time()
    follow_until(executor, lambda: joined.state_saved > started)
    joined.kill_controller()
    may_end.touch()
    # Who has a verdict needs no controller.
    assert wait(executor) == {1: Verdict(state=State.DONE, reason="budget")}
    follow_until(executor, lambda: executor.room(1) == 0)
    joined.start_controller()
    assert wait(executor) == {3: Verdict(state=State.DONE, reason="budget")}
    assert executor.room(1) == 1
    executor.start([task(4)])
    assert wait(executor)[4].state is State.DONE
    executor.stop([2])
    assert wait(executor)[2].reason == Cause.STOPPED
