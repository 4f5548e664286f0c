"""What a user does with `full-suite`, on the toy workload: run, continue, stop, watch, mend, try again."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import suites

from algoperf.records import read_trial
from algoperf.spec import Framework, Scale
from algoperf.testing.frameworks import require
from algoperf_orchestrator import full_suite, status
from algoperf_orchestrator.ledger import Ledger
from algoperf_orchestrator.ledger_file import NAME
from algoperf_orchestrator.plan import Plan, make_plan
from algoperf_orchestrator.suite import Suite
from algoperf_orchestrator.verdict import State

Cli = Callable[..., Any]
POINT = {"sleep_s": 0.0, "fail_at": -1, "die_at": -1}

EATS = """
_held = []
_update = update_params

def update_params(**arguments):
    _held.append(b"x" * (200 << 20))
    time.sleep(0.1)
    arguments.pop("train_state", None)
    return _update(**arguments)
"""


@pytest.fixture(autouse=True)
def needs_jax() -> None:
    require(Framework.JAX)


@pytest.fixture
def submission(sgd: Path) -> Callable[..., Path]:
    """A submission that is told by its search space what to do: sleep, fail or die."""

    def make(name: str = "mine", patch: str = "", **values: Any) -> Path:
        folder = sgd.parent.parent / name
        folder.mkdir(exist_ok=True)
        (folder / "submission.py").write_text(f"{sgd.read_text()}\n{patch}")
        points = [{**POINT, **values}] * 5
        (folder / "tuning_search_space.json").write_text(json.dumps(points))
        return folder

    return make


def arguments(experiment: Path, folder: Path, **options: Any) -> list[str]:
    values = {"ruleset": "external", "studies": 1, "trials": 2, "max_steps": 30, "preflight": False, "report": False}
    return suites.suite_arguments(experiment, folder, Framework.JAX, **{**values, **options})


def test_a_suite_is_run_scored_and_not_run_again(cli: Cli, tmp_path: Path, submission: Callable[..., Path]) -> None:
    experiment = tmp_path / "e"
    command = arguments(experiment, submission(), preflight=True, report=True)
    result = cli(*command)
    assert result.code == 0, result.err
    assert "1 of 1  mine, toy in jax: ok" in result.out
    assert result.out.count(" steps; ") == 2
    assert "; 2 of 2 have ended" in result.out
    assert "Rules mini, external tuning, 1 workload, 2 trials" in result.out
    assert (experiment / "report" / "scores.json").is_file()
    with Ledger(experiment) as ledger:
        trials = [read_trial(row.folder(experiment)) for row in ledger.rows()]
        best = [row["best"] for row in ledger.query("SELECT best FROM trials ORDER BY id")]
    goal = [max(row["validation/accuracy"] for row in trial.evaluations) for trial in trials]
    assert best == goal, "the ledger has the last evaluation too"
    again = cli(*command)
    assert again.code == 0
    assert "Preflight" not in again.out
    assert "started" not in again.out
    scored = cli("score", experiment)
    assert scored.code == 0, scored.err
    assert "holds no studies" not in scored.out, "the experiment's own files are no anomalies"
    # More of it is added, and what is there stays.
    more = cli(*arguments(experiment, submission(), trials=3))
    assert more.code == 0, more.err
    assert more.out.count(" started") == 1
    # Another seed is another experiment.
    other = cli(*arguments(experiment, submission(), seed=1))
    assert other.code == 2
    assert "now asked for with" in other.err


@pytest.mark.parametrize(
    ("patch", "problem"),
    [
        ("import no_such_package", "cannot be imported: ModuleNotFoundError"),
        ("def init_optimizer_state(*arguments): return {}", "in jax it returns a pair"),
        ("def get_batch_size(name): return 32\nupdate_params = None", "has no function update_params"),
        (
            "def data_selection(workload, queue, *rest):\n    batch = next(queue)\n"
            "    return {**batch, 'inputs': batch['inputs'][:, :3] @ workload.no_such_thing}",
            "AttributeError",
        ),
        (
            "def init_optimizer_state(workload, params, state, hyperparameters, rng):\n"
            "    return {'rate': hyperparameters.learning_rate}, None",
            "asks for the hyperparameter learning_rate, which is none of",
        ),
        ("import jax\ndef init_optimizer_state(*a):\n    raise MemoryError('too much')", "oom: MemoryError: too much"),
    ],
)
def test_a_preflight_finds_what_would_fail(
    cli: Cli, tmp_path: Path, submission: Callable[..., Path], patch: str, problem: str
) -> None:
    experiment = tmp_path / "e"
    result = cli(*arguments(experiment, submission(patch=patch), preflight=True))
    assert result.code == 1
    (line,) = [line for line in result.out.splitlines() if "1 of 1" in line]
    assert problem in line
    assert "1 of 1 checks failed and nothing was started" in result.err
    assert suites.state_counts(experiment)["planned"] == 2
    assert not (experiment / "mine").exists()


def test_each_framework_has_its_own_preflight(tmp_path: Path) -> None:
    def plan(framework: Framework) -> Plan:
        return make_plan(
            Suite(submissions=("nadamw",), frameworks=(framework,), scale=Scale.MINI, workloads=("toy",), trials=1)
        )

    with Ledger(tmp_path, create=True) as ledger:
        ledger.add(plan(Framework.JAX).trials)
        ledger.restrict(plan(Framework.JAX).trials)
        row = ledger.next_planned()
        assert row is not None
        ledger.claim(row, ledger.register("local"))
        assert full_suite.checks_to_make(plan(Framework.JAX), ledger) == []
        (check,) = full_suite.checks_to_make(plan(Framework.PYTORCH), ledger)
        assert check.kind == ("nadamw", "toy", "pytorch")


def test_a_preflight_of_several_processes(cli: Cli, tmp_path: Path) -> None:
    require(Framework.PYTORCH)
    options = {"trials": 1, "max_steps": 3, "devices": 2, "ruleset": "external", "cores": 2}
    command = suites.suite_arguments(tmp_path / "e", "adamw", Framework.PYTORCH, studies=1, report=False, **options)
    result = cli(*command)
    assert result.code == 0, result.err
    assert "1 of 1  adamw, toy in pytorch: ok" in result.out


@pytest.mark.parametrize("how", ["stop", "SIGTERM"])
def test_a_preflight_can_be_stopped(cli: Cli, tmp_path: Path, submission: Callable[..., Path], how: str) -> None:
    experiment, log = tmp_path / "e", tmp_path / "log"
    slow = submission(patch=f"open({str(tmp_path / 'begun')!r}, 'w').close()\ntime.sleep(30)")
    process = suites.start(arguments(experiment, slow, preflight=True), log)
    suites.wait_for((tmp_path / "begun").exists, what="the preflight")
    if how == "stop":
        assert json.loads(cli("status", experiment, "--json").out)["orchestrators"] == 1
        assert cli("stop", experiment).code == 0
    else:
        process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130, log.read_text()
    assert "Stopped; run the same command again" in log.read_text()
    assert suites.state_counts(experiment)["planned"] == 2


def test_failures_of_the_algorithm_are_results(cli: Cli, tmp_path: Path, submission: Callable[..., Path]) -> None:
    experiment = tmp_path / "e"
    result = cli(*arguments(experiment, submission(fail_at=12)))
    assert result.code == 0, result.err
    assert "failed(algorithm), error (RuntimeError: I fail on purpose)" in result.out
    data = json.loads(cli("status", experiment, "--json").out)
    assert data["counts"]["failed(algorithm)"] == 2
    assert data["groups"][0]["failed"] == {"error": 2}
    assert "I fail on purpose" in cli("logs", experiment).out
    assert "0 trials; run the same" in cli("retry", experiment).out
    assert "2 trials; run the same" in cli("retry", experiment, "--algorithm").out
    assert len(list((experiment / ".discarded").iterdir())) == 2
    assert cli(*arguments(experiment, submission(fail_at=12))).out.count("continued") == 2


def test_failures_of_the_infrastructure_are_tried_again(
    cli: Cli, tmp_path: Path, submission: Callable[..., Path]
) -> None:
    experiment = tmp_path / "e"
    command = arguments(experiment, submission(die_at=12), trials=1, retries=2, retry_after=0.1)
    result = cli(*command)
    assert result.code == 3
    assert result.out.count("is tried again: failed(infrastructure), died (exit code 7") == 2
    assert suites.ends(experiment) == {"mine/0/1": ["died"] * 3}
    # What was wrong is mended, and the trial goes on from its checkpoint.
    cli("retry", experiment, "study_0", "trial_1")
    (experiment / "mine" / "study_0" / "toy_jax" / "trial_1" / "sentinel").touch()
    assert cli(*command).code == 3
    assert suites.ends(experiment) == {"mine/0/1": ["died"] * 6}


def test_a_submission_that_hangs_and_one_that_eats_memory(
    cli: Cli, tmp_path: Path, submission: Callable[..., Path]
) -> None:
    experiment = tmp_path / "e"
    hangs = submission("hangs", sleep_s=600.0)
    result = cli(*arguments(experiment, hangs, trials=1, hang_after=15))
    assert result.code == 0, result.err
    assert "failed(algorithm), hung (neither a step nor an evaluation for" in result.out
    result = cli(*arguments(experiment, submission("eats", patch=EATS), trials=1, memory=2))
    assert result.code == 0, result.err
    assert "failed(algorithm), memory (" in result.out
    assert "2.0 GiB allowed" in result.out
    assert not suites.trial_pids(experiment)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_the_same_command_continues(
    tmp_path: Path, submission: Callable[..., Path], number: signal.Signals
) -> None:
    experiment, log = tmp_path / "e", tmp_path / "log"
    command = arguments(experiment, submission(sleep_s=0.05), trials=1, max_steps=150)
    process = suites.start(command, log)
    suites.wait_for(lambda: step(experiment) > 20, what="step 20")
    process.send_signal(number)
    assert process.wait(60) == 130
    assert "Stopped; run the same command again to continue." in log.read_text()
    assert suites.state_counts(experiment)["planned"] == 1
    stopped_at = step(experiment)
    checkpoints = experiment / "mine/study_0/toy_jax/trial_1/checkpoints"
    newest = max(int(path.name.split(".")[0].removeprefix("step_")) for path in checkpoints.glob("step_*"))
    assert newest >= stopped_at > 20, "it saved where it was, not where it was last evaluated"
    assert not suites.trial_pids(experiment)
    assert suites.start(command, log).wait(120) == 0
    assert suites.ends(experiment) == {"mine/0/1": ["stopped", "steps"]}


def test_stop_from_another_terminal(cli: Cli, tmp_path: Path, submission: Callable[..., Path]) -> None:
    experiment, log = tmp_path / "e", tmp_path / "log"
    process = suites.start(arguments(experiment, submission(sleep_s=0.05), max_steps=2000), log)
    suites.wait_for(lambda: step(experiment) > 5, what="step 5")
    result = cli("stop", experiment)
    assert result.code == 0, result.err
    assert process.wait(60) == 130
    data = json.loads(cli("status", experiment, "--json").out)
    assert (data["orchestrators"], data["left_s"]) == (0, None)
    assert "nobody works on it" in cli("status", experiment).out


def test_stop_ends_what_a_dead_orchestrator_left(cli: Cli, tmp_path: Path, submission: Callable[..., Path]) -> None:
    experiment, log = tmp_path / "e", tmp_path / "log"
    process = suites.start(arguments(experiment, submission(sleep_s=0.05), max_steps=2000), log)
    suites.wait_for(lambda: step(experiment) > 5, what="step 5")
    suites.kill([process.pid])
    process.wait()
    assert suites.state_counts(experiment)["running"] == 2
    assert cli("stop", experiment).code == 0
    assert suites.state_counts(experiment)["planned"] == 2
    assert not suites.trial_pids(experiment)


def test_two_orchestrators_share_a_suite(tmp_path: Path, submission: Callable[..., Path]) -> None:
    experiment, log = tmp_path / "e", tmp_path / "log"
    command = arguments(experiment, submission(), trials=4)
    both = [suites.start(command, log) for _ in range(2)]
    assert [process.wait(200) for process in both] == [0, 0], log.read_text()
    assert suites.ends(experiment) == {f"mine/0/{trial}": ["steps"] for trial in range(1, 5)}


def test_an_orchestrator_that_slept_finds_its_trial_taken_over(tmp_path: Path, submission: Callable[..., Path]) -> None:
    """A lease that is stolen: on this machine the trial's lock keeps the thief out as long as the trial lives."""
    experiment, log = tmp_path / "e", tmp_path / "log"
    command = arguments(experiment, submission(sleep_s=0.05), trials=1, max_steps=100)
    sleeper = suites.start(command, log)
    suites.wait_for(lambda: step(experiment) > 5, what="step 5")
    sleeper.send_signal(signal.SIGSTOP)
    try:
        with Ledger(experiment) as ledger:
            (row,) = ledger.running()
            thief = ledger.register("local")
            assert ledger.adopt(row, thief)
    finally:
        sleeper.send_signal(signal.SIGCONT)
    # It lets go, its trial leaves, and since the thief does nothing somebody has to go on.
    suites.wait_for(lambda: not suites.trial_pids(experiment), what="the end of the trial's process")
    with Ledger(experiment) as ledger:
        ledger._db.execute("UPDATE owners SET pid = 2147483646 WHERE id = ?", (thief,))
    assert sleeper.wait(100) == 0, log.read_text()
    assert suites.ends(experiment)["mine/0/1"][-1] == "steps"


def test_a_ledger_is_rebuilt(cli: Cli, tmp_path: Path, submission: Callable[..., Path]) -> None:
    experiment = tmp_path / "e"
    command = arguments(experiment, submission(), trials=3)
    assert cli(*command).code == 0
    shutil.rmtree(experiment / "mine/study_0/toy_jax/trial_3")
    for path in experiment.glob(f"{NAME}*"):
        path.unlink()
    result = cli("ledger", "rebuild", experiment)
    assert result.code == 0, result.err
    assert "The ledger has 2 trials" in result.out
    again = cli(*command)
    assert again.code == 0, again.err
    assert again.out.count(" started") == 1
    assert suites.state_counts(experiment)["done"] == 3
    refused = cli("ledger", "rebuild", experiment)
    assert refused.code == 2
    assert "is there; move it away first" in refused.err


def test_a_rebuilt_ledger_goes_on_counting(cli: Cli, tmp_path: Path, submission: Callable[..., Path]) -> None:
    experiment = tmp_path / "e"
    assert cli(*arguments(experiment, submission(die_at=12), trials=1, retries=1, retry_after=0)).code == 3
    for path in experiment.glob(f"{NAME}*"):
        path.unlink()
    assert cli("ledger", "rebuild", experiment).code == 0
    with Ledger(experiment) as ledger:
        (row,) = ledger.rows()
    # What the machine failed is tried again, and no attempt has the number of an earlier one.
    assert (row.state, row.attempts, row.failures) == (State.PLANNED, 2, 0)


def test_a_disk_that_is_full(cli: Cli, tmp_path: Path, submission: Callable[..., Path]) -> None:
    """The experiment lies on a file system of 4 MiB: nothing is lost, and with room it goes on."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = os.system(f"mount -t tmpfs -o size=4m tmpfs {disk}")
    if mounted != 0:
        assert not os.environ.get("CI"), "CI can mount a small file system"
        pytest.skip("no file system may be mounted here")
    try:
        experiment, log = disk / "e", tmp_path / "log"
        command = arguments(experiment, submission(sleep_s=0.02), trials=1, max_steps=150, retries=0)
        process = suites.start(command, log)
        suites.wait_for(lambda: step(experiment) > 15, what="step 15")
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(b"x" * (8 << 20))
        code = process.wait(120)
        assert code in (2, 3), log.read_text()
        assert "No space left on device" in log.read_text() or "disk is full" in log.read_text()
        assert "Traceback" not in log.read_text()
        filler.unlink()
        cli("retry", experiment)
        assert suites.start(command, log).wait(120) == 0, log.read_text()
        record = read_trial(experiment / "mine/study_0/toy_jax/trial_1")
        assert record.end_reason == "steps"
        assert [row["global_step"] for row in record.evaluations][-1] == 150
    finally:
        os.system(f"umount -l {disk}")


def test_a_folder_that_may_not_be_written(cli: Cli, tmp_path: Path, submission: Callable[..., Path]) -> None:
    (tmp_path / "file").write_text("")
    result = cli(*arguments(tmp_path / "file" / "e", submission()))
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "Not a directory" in result.err


def test_watching_ends_with_the_experiment(cli: Cli, tmp_path: Path, submission: Callable[..., Path]) -> None:
    experiment = tmp_path / "e"
    assert cli(*arguments(experiment, submission())).code == 0
    result = cli("status", experiment, "--watch")
    assert result.code == 0
    assert "2 of 2 trials have ended" in result.out
    row = next(line for line in result.out.splitlines() if line.startswith("toy"))
    assert row.split()[:4] == ["toy", "mine", "jax", "2"]


def step(experiment: Path) -> int:
    """How far the first trial of an experiment is."""
    if not (experiment / NAME).exists():
        return 0
    try:
        running = status.read(experiment).running
    except (OSError, ValueError):
        return 0
    if running:
        return int(running[0]["step"])
    with Ledger(experiment) as ledger:
        return max((int(row["step"]) for row in ledger.query("SELECT step FROM trials")), default=0)
