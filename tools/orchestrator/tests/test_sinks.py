"""Telemetry: figures reach TensorBoard and wandb while a trial runs; whatever these do, the trial does not notice."""

import importlib.machinery
import json
import os
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from algoperf import registry, study
from algoperf.spec import Framework, Scale
from algoperf.testing.frameworks import require
from algoperf_orchestrator import sinks
from algoperf_orchestrator.environment import Devices
from algoperf_orchestrator.launch import launch
from algoperf_orchestrator.launch_options import Launch
from algoperf_orchestrator.sinks import SinkName, Sinks, Source
from algoperf_orchestrator.verdict import Verdict

Cli = Callable[..., Any]
ROW = {
    "train/loss": 2.0,
    "validation/loss": float("nan"),
    "test/loss": 4.0,
    "score": 1.0,
    "accumulated_submission_time": 2.0,
}
EVENTS = [
    ("started", {"step": 0, "restarts": 0, "batch_size": 1}),
    ("progress", {"global_step": 10, "submission_s": 1.0}),
    ("progress", {"global_step": 30, "submission_s": 2.0}),
    ("evaluating", {"global_step": 30}),
    ("evaluated", {"global_step": 30, **ROW}),
    ("ended", {"end_reason": "budget"}),
]
MACHINE = {"cpu_percent": 50.0, "gpus": [{"uuid": "GPU-0", "percent": 90, "watts": 300.0}]}


class FakeRun:
    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.rows, self.is_finished, self.thread = options, [], False, threading.current_thread()

    def define_metric(self, name: str, step_metric: str) -> None:
        self.step_metric = step_metric

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def finish(self) -> None:
        self.is_finished = True


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A stand-in for the package: what it was given is in its `runs`."""
    runs: list[FakeRun] = []

    def init(**options: Any) -> FakeRun:
        runs.append(FakeRun(options))
        return runs[-1]

    module: Any = types.ModuleType("wandb")
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    module.init, module.Settings = init, lambda **settings: settings
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return types.SimpleNamespace(runs=runs, module=module)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(folder=tmp_path / "trial_1", name="e/study_0/toy_jax/trial_1", config={"seed": 3})


def feed(source: Source, *names: SinkName) -> None:
    with Sinks(names, source) as opened:
        for event, facts in EVENTS:
            opened.see(event, facts)
        opened.sample(MACHINE, 1024)


def written(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Scalars in event files, by tag."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.*")):
        for record in records(path.read_bytes()):
            event = Event.FromString(record)
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def records(data: bytes) -> Iterator[bytes]:
    """The records of a TFRecord file: length, its checksum, contents, their checksum."""
    while data:
        length = int.from_bytes(data[:8], "little")
        yield data[12 : 12 + length]
        data = data[16 + length :]


def test_tensorboard_gets_evaluations_progress_and_the_machine(source: Source) -> None:
    pytest.importorskip("tensorboardX")
    feed(source, SinkName.TENSORBOARD)
    found = written(source.folder / "tensorboard")
    assert found["train/loss"] == [(30, 2.0)]
    assert found["test/loss"] == [(30, 4.0)]
    ((step, value),) = found["validation/loss"]
    assert step == 30
    assert value != value
    assert found["progress/submission_s"] == [(10, 1.0), (30, 2.0), (30, 2.0)]
    assert found["progress/steps_per_s"] == [(30, 20.0)]
    assert found["machine/cpu_percent"] == [(30, 50.0)]
    assert found["machine/gpu_0_watts"] == [(30, 300.0)]
    assert found["machine/trial_memory_bytes"] == [(30, 1024.0)]
    assert "score" not in found


def test_wandb_is_offline_and_named_after_the_trial(source: Source, wandb: types.SimpleNamespace) -> None:
    feed(source, SinkName.WANDB)
    (run,) = wandb.runs
    assert run.options["project"] == "algoperf"
    assert run.options["name"] == "e/study_0/toy_jax/trial_1"
    assert run.options["mode"] == "offline"
    assert run.options["dir"] == str(source.folder)
    assert run.options["config"] == {"seed": 3, "first_step": 0}
    assert run.is_finished
    assert run.step_metric == "global_step"
    assert run.rows[1] == {"progress/submission_s": 2.0, "progress/steps_per_s": 20.0, "global_step": 30}
    assert run.thread is not threading.current_thread()


def test_the_user_decides_where_wandb_sends_to(
    source: Source, wandb: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    feed(source, SinkName.WANDB)
    assert wandb.runs[0].options["mode"] == "online"


def test_without_sinks_nothing_is_started_or_written(source: Source) -> None:
    before = threading.active_count()
    with Sinks((), source) as opened:
        opened.see(*EVENTS[0])
        assert threading.active_count() == before
    assert not source.folder.exists()


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_a_sink_that_fails_is_switched_off_with_one_line(
    source: Source, wandb: types.SimpleNamespace, capfd: pytest.CaptureFixture[str], where: str
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("no\nnetwork")

    if where == "init":
        wandb.module.init = fail
    else:
        wandb.module.init = lambda **options: types.SimpleNamespace(
            **{"define_metric": print_nothing, "log": print_nothing, "finish": print_nothing, where: fail}
        )
    feed(source, SinkName.WANDB)
    line = "e/study_0/toy_jax/trial_1 goes on without telemetry in wandb (RuntimeError: no network).\n"
    assert capfd.readouterr().err == line


def print_nothing(*arguments: Any, **options: Any) -> None:
    return None


@pytest.mark.parametrize("take", [("see", "progress", {"global_step": "many"}), ("sample", {"gpus": 7}, 0)])
def test_facts_that_are_wrong_raise_nothing(
    source: Source, wandb: types.SimpleNamespace, capfd: pytest.CaptureFixture[str], take: tuple[Any, ...]
) -> None:
    with Sinks([SinkName.WANDB], source) as opened:
        opened.see(*EVENTS[0])
        getattr(opened, take[0])(*take[1:])
        opened.see("progress", {"global_step": 3, "submission_s": 1.0})
    assert capfd.readouterr().err.count("\n") == 1
    assert wandb.runs[0].rows == []


def test_nobody_waits_for_a_sink_that_hangs(
    source: Source,
    wandb: types.SimpleNamespace,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sinks, "_WAITING", 3)
    monkeypatch.setattr(sinks, "_CLOSE_S", 0.2)
    is_over = threading.Event()
    wandb.module.init = lambda **options: is_over.wait(60)
    began = time.monotonic()
    with Sinks([SinkName.WANDB], source) as opened:
        for event, facts in EVENTS * 2:
            opened.see(event, facts)
    assert time.monotonic() - began < 5.0
    assert capfd.readouterr().err.count("it does not keep up") == 1
    is_over.set()


def test_a_trial_that_goes_on_hides_what_was_lost(source: Source) -> None:
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    with Sinks([SinkName.TENSORBOARD], source) as opened:
        opened.see("started", {"step": 20, "restarts": 1, "batch_size": 1})
        opened.see("progress", {"global_step": 21, "submission_s": 1.0})
    (path,) = (source.folder / "tensorboard").glob("events.*")
    events = [Event.FromString(record) for record in records(path.read_bytes())]
    assert [event.step for event in events if event.session_log.status == SessionLog.START] == [21]


def test_the_supervisor_hands_on_what_a_trial_says(
    tmp_path: Path, wandb: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("algoperf_orchestrator.watch._TELEMETRY_S", 0.0)
    said = [{"event": event, **facts} for event, facts in EVENTS[:3]]
    said.append({"event": "ended", "end_reason": "budget", "global_step": 30, "seconds": {"submission": 2.0}})
    program = (
        f"import time\nfor line in {[json.dumps(one) for one in said]!r}: print(line, flush=True)\ntime.sleep(2.5)"
    )
    config = study.trial_config(
        registry.workload_spec("toy").at(Scale.MINI),
        framework=Framework.JAX,
        submission="mine",
        ruleset=study.SELF_TUNING,
        hyperparameters=None,
    )
    what = Launch(
        config=config,
        experiment=tmp_path / "e" / "mine",
        data_dir=tmp_path,
        devices=Devices(kind="cpu"),
        command=[sys.executable, "-c", program],
        telemetry=[SinkName.WANDB],
    )
    ended = launch(what, lambda event, facts: None)
    assert ended.verdict == Verdict(state=ended.verdict.state, reason="budget")
    (run,) = wandb.runs
    assert run.options["name"] == "mine/study_0/toy_jax/trial_1"
    assert [row["global_step"] for row in run.rows if "progress/submission_s" in row] == [10, 30]
    assert any("machine/cpu_percent" in row for row in run.rows)


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_what_is_not_installed_is_told_before_anything_starts(
    cli: Cli, tmp_path: Path, sgd: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    common = ["--submission", sgd, "--framework", "jax", "--experiment", tmp_path / "e", "--scale", "mini"]
    for command in (["run", "--workload", "toy"], ["full-suite", "--workloads", "toy"]):
        result = cli(*command, *common, "--telemetry", name)
        assert result.code == 2
        assert result.err == (
            f"--telemetry {name} needs {package}; install it with `uv pip install 'algoperf-orchestrator[{name}]'`.\n"
        )
    assert not (tmp_path / "e").exists()


def test_a_run_is_the_same_with_telemetry(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    pytest.importorskip("tensorboardX")
    require(Framework.JAX)
    points = tmp_path / "points.json"
    points.write_text(json.dumps([{"sleep_s": 0.0, "fail_at": -1, "die_at": -1}] * 5))
    rows = []
    for options in ([], ["--telemetry", "tensorboard"]):
        folder = tmp_path / f"e{len(rows)}"
        arguments = ["--workload", "toy", "--framework", "jax", "--scale", "mini", "--clock", "virtual"]
        arguments += ["--submission", sgd, "--experiment", folder, "--tuning-search-space", points]
        result = cli("run", *arguments, "--max-steps", 30, *options)
        assert result.code == 0, result.err
        rows.append((folder / "study_0" / "toy_jax" / "trial_1" / "eval_measurements.csv").read_text())
    assert rows[0] == rows[1]
    found = written(folder / "study_0" / "toy_jax" / "trial_1" / "tensorboard")
    assert len(found["validation/loss"]) == len(rows[1].splitlines()) - 1
    assert os.listdir(tmp_path / "e0" / "study_0" / "toy_jax" / "trial_1").count("tensorboard") == 0
