"""Whole trials: processes, events, records, exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from algoperf import registry
from algoperf.records import read_trial, trial_folder
from algoperf.spec import Framework
from algoperf.testing.frameworks import BOTH, require
from algoperf_orchestrator.launch import STDERR

Cli = Callable[..., Any]

POINT = {"sleep_s": 0.0, "fail_at": -1, "die_at": -1}


def run_arguments(experiment: Path, framework: Framework, submission: object, **options: object) -> list[str]:
    given: dict[str, object] = {
        "workload": "toy",
        "framework": framework.value,
        "scale": "mini",
        "submission": submission,
        "experiment": experiment,
        "clock": "virtual",
        **{name.replace("_", "-"): value for name, value in options.items()},
    }
    return ["run", *(str(part) for name, value in given.items() for part in (f"--{name}", value))]


def sgd_arguments(experiment: Path, sgd: Path, framework: Framework, **point: object) -> list[str]:
    arguments = run_arguments(experiment, framework, sgd, max_steps=60)
    for name, value in {**POINT, **point}.items():
        arguments += ["--hparam", f"{name}={value}"]
    return arguments


@pytest.mark.parametrize("framework", BOTH)
def test_a_trial_from_start_to_end_and_again(cli: Cli, tmp_path: Path, framework: Framework) -> None:
    require(framework)
    arguments = run_arguments(tmp_path, framework, "adamw", max_steps=25)
    result = cli(*arguments)
    folder = trial_folder(tmp_path, 0, "toy", framework.value, 1)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0].startswith(f"toy (mini) with adamw in {framework.value} starts: batch size 32, budget 20 s")
    assert lines[1].startswith("step 1, 0.1 s: validation/accuracy 0.")
    assert "Ended (steps), after 25 steps and 2.5 s: the step limit was hit." in lines
    assert lines[-1] == f"Logs: {folder}"
    record = read_trial(folder)
    assert [row["global_step"] for row in record.evaluations][::3] == [1, 25]

    again = cli(*arguments)
    assert again.code == 0
    assert "is finished already; choose another --experiment to train again." in again.out
    assert again.out.splitlines()[-2:] == lines[-2:]
    assert read_trial(folder) == record

    other = cli(*run_arguments(tmp_path, framework, "adamw", max_steps=26))
    assert other.code == 2
    assert "max_steps 25 there, 26 here" in other.err
    assert read_trial(folder) == record


@pytest.mark.parametrize("framework", BOTH)
def test_a_submission_that_fails_is_a_result(cli: Cli, tmp_path: Path, sgd: Path, framework: Framework) -> None:
    require(framework)
    arguments = sgd_arguments(tmp_path, sgd, framework, fail_at=3)
    result = cli(*arguments)
    assert result.code == 1
    assert "RuntimeError: I fail on purpose" in result.out
    assert f"Submission: {sgd}" in result.out
    assert "Ended (error), after 4 steps" in result.out
    stderr = (trial_folder(tmp_path, 0, "toy", framework.value, 1) / STDERR).read_text()
    # What a submission prints is kept, and is not taken for events.
    assert "a submission may print" in stderr
    assert "and so may C" in stderr
    assert cli(*arguments).code == 1


def test_a_process_that_dies_is_the_infrastructure(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    framework = any_framework()
    result = cli(*sgd_arguments(tmp_path, sgd, framework, die_at=3))
    assert result.code == 3
    assert "ended with code 7 before the trial did" in result.err
    assert "run the same command again to continue" in result.err


def test_a_submission_that_cannot_be_loaded(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    sgd.write_text("raise RuntimeError('broken')")
    result = cli(*sgd_arguments(tmp_path, sgd, any_framework()))
    assert result.code == 2
    assert result.err == f"{sgd} cannot be imported: RuntimeError: broken.\n"


REFUSED = {
    "a missing function": ("def data_selection", "def data_section", "has no function data_selection; add it."),
    "a hyperparameter": (
        'return ({"step": 0}, None)',
        "return hyperparameters.beta, None",
        "asks for the hyperparameter beta, which is none of sleep_s, fail_at, die_at; add it to the search space, "
        "or give it with --hparam.",
    ),
    "no state": ('return ({"step": 0}, None)', "pass", "init_optimizer_state of "),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_said_before_training(cli: Cli, tmp_path: Path, sgd: Path, kind: str) -> None:
    old, new, sentence = REFUSED[kind]
    sgd.write_text(sgd.read_text().replace(old, new))
    result = cli(*sgd_arguments(tmp_path / "logs", sgd, any_framework()))
    assert result.code == 2
    assert sentence in result.err
    assert result.err.count("\n") == 1
    assert str(sgd) in result.err
    assert not list(tmp_path.rglob("trial.json"))


def test_a_batch_that_devices_cannot_share_is_refused(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    require(Framework.JAX)
    sgd.write_text(sgd.read_text().replace("return 32", "return 33"))
    arguments = sgd_arguments(tmp_path, sgd, Framework.JAX)
    arguments[arguments.index("--scale") + 1] = "full"
    result = cli(*arguments, "--devices", 2)
    assert result.code == 2
    assert result.err == (
        f"get_batch_size of {sgd} returned 33 for toy, which 2 devices cannot share equally; return a multiple of 2, "
        "or use another number of devices.\n"
    )


def test_a_wrong_result_is_refused_and_mended_in_the_same_place(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    code = sgd.read_text()
    sgd.write_text(f"{code}\n\ndef update_params(**arguments):\n    return None\n")
    arguments = sgd_arguments(tmp_path / "logs", sgd, any_framework())
    result = cli(*arguments)
    assert result.code == 2
    assert f"update_params of {sgd} returned a NoneType; it returns three things" in result.err.splitlines()[-1]
    assert not list(tmp_path.rglob("trial.json"))
    sgd.write_text(code)
    assert cli(*arguments).code == 0


def test_an_adapter_is_asked_for_beside_the_submission(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    framework = any_framework()
    sgd.with_name("submission_info.yml").write_text("submission_name: SGD\nadapter: xmap\n")
    result = cli(*sgd_arguments(tmp_path, sgd, framework))
    assert result.code == 2
    assert f"{sgd} asks for the adapter 'xmap'" in result.err


def test_a_submission_by_pmap(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    require(Framework.JAX)
    sgd.with_name("submission_info.yml").write_text("adapter: pmap\n")
    shapes = "print([leaf.shape for leaf in jax.tree.leaves((current_param_container, batch))])"
    sgd.write_text("import jax\n" + sgd.read_text().replace('os.write(1, b"and so may C\\n")', shapes))
    arguments = sgd_arguments(tmp_path, sgd, Framework.JAX)
    arguments[arguments.index("--max-steps") + 1] = "2"
    result = cli(*arguments, "--devices", 2)
    assert result.code == 0, result.err + result.out
    folder = trial_folder(tmp_path, 0, "toy", "jax", 1)
    assert read_trial(folder).metadata[0]["submission_adapter"] == "pmap"
    shapes_seen = [line for line in (folder / STDERR).read_text().splitlines() if line.startswith("[(")]
    assert shapes_seen == ["[(2, 32), (2, 8, 32), (2, 4), (2, 32, 4), (2, 16, 8), (2, 16)]"] * 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_trial_continues(cli: Cli, tmp_path: Path, sgd: Path, number: signal.Signals) -> None:
    framework = any_framework()
    arguments = sgd_arguments(tmp_path, sgd, framework, sleep_s=0.05)
    process = subprocess.Popen(
        [sys.executable, "-m", "algoperf_orchestrator", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 21,"):
            process.send_signal(number)
            break
    _, err = process.communicate()
    if number is signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert err == "Stopped; run the same command again to continue.\n"

    result = cli(*arguments)
    while result.code == 2 and "Another process runs the trial" in result.err:
        # Nobody stopped the trial's process: it has to notice that nobody listens.
        time.sleep(0.2)
        result = cli(*arguments)
    assert result.code == 0, result.err
    continued = int(result.out.partition("continues at step ")[2].partition(":")[0])
    # One that is asked to stop saves where it is; one that is killed goes on from its last evaluation.
    assert continued == 21 if number is signal.SIGKILL else continued >= 21
    record = read_trial(trial_folder(tmp_path, 0, "toy", framework.value, 1))
    assert [row["global_step"] for row in record.evaluations] == [1, 11, 21, 31, 41, 51, 60]


def test_run_trial_writes_events_and_nothing_else(tmp_path: Path, sgd: Path) -> None:
    framework = any_framework()
    config = {
        "workload": "toy",
        "scale": "mini",
        "framework": framework.value,
        "submission": str(sgd),
        "seed": 1,
        "hyperparameters": POINT,
        "max_runtime_s": 20.0,
        "max_steps": 2,
        "clock": "virtual",
    }
    command = [sys.executable, "-m", "algoperf_orchestrator", "run-trial", "--config", "-", "--experiment", tmp_path]
    ended = subprocess.run(
        command, input=json.dumps(config), capture_output=True, text=True, check=True, env=os.environ
    )
    events = [json.loads(line)["event"] for line in ended.stdout.splitlines()]
    assert [event for event in events if event != "progress"] == [
        "started",
        *["evaluating", "evaluated"] * 2,
        "ended",
    ]
    assert "a submission may print" in ended.stderr


def test_two_processes_of_pytorch(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    require(Framework.PYTORCH)
    arguments = sgd_arguments(tmp_path, sgd, Framework.PYTORCH, fail_at=3)
    result = cli(*arguments, "--devices", "2")
    assert result.code == 1
    assert "I fail on purpose" in result.out
    record = read_trial(trial_folder(tmp_path, 0, "toy", "pytorch", 1))
    assert record.end_reason == "error"
    assert record.metadata[0]["device_count"] == 2


def test_two_processes_refuse_as_one(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    require(Framework.PYTORCH)
    sgd.write_text("raise RuntimeError('broken')")
    result = cli(*sgd_arguments(tmp_path, sgd, Framework.PYTORCH), "--devices", "2")
    assert result.code == 2
    assert result.err == f"{sgd} cannot be imported: RuntimeError: broken.\n"


def test_a_demo(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    framework = any_framework()
    monkeypatch.setenv("ALGOPERF_FRAMEWORKS", framework.value)
    result = cli("demo", "--workloads", "toy", "--clock", "virtual", "--experiment", tmp_path)
    assert result.code == 0, result.err
    assert result.out.count("toy in") == 2, "a line of the preflight for each submission"
    assert result.out.count(" reached; ") == 2
    assert "Rules mini, external tuning, 1 workload" in result.out
    assert result.out.endswith(f"The report is {tmp_path / 'report' / 'index.html'}.\n")
    assert (tmp_path / "report" / "index.html").is_file()
    record = read_trial(trial_folder(tmp_path / "adamw", 0, "toy", framework.value, 1))
    search_space = registry.search_space_path(registry.submission_spec("adamw"))
    assert search_space is not None
    (point,) = json.loads(search_space.with_name("mini_hyperparameters.json").read_text())
    assert record.config["hyperparameters"] == point
    assert record.metadata[0]["results_status"] == "local"


def any_framework() -> Framework:
    """The first that is installed: what is tested does not depend on which."""
    from algoperf_orchestrator.frameworks import installed

    if not installed():
        require(Framework.JAX)
    return installed()[0]
