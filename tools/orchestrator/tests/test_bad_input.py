"""Everything that is wrong gives exit code 2 and one sentence, before anything starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from algoperf.spec import Framework
from algoperf_orchestrator import frameworks

Cli = Callable[..., Any]

RUN = {
    "--workload": "toy",
    "--framework": "pytorch",
    "--scale": "mini",
    "--submission": "adamw",
    "--clock": "virtual",
    "--max-steps": 3,
}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing is imported before the mistake is found, so the frameworks need not be here.
    for framework in Framework:
        monkeypatch.setitem(frameworks.MODULES, framework, "sys")


def run_arguments(tmp_path: Path, changed: dict[str, object]) -> list[object]:
    options = {**RUN, "--experiment": tmp_path / "experiment", **changed}
    return ["run", *(part for pair in options.items() for part in pair)]


def assert_one_sentence(result: Any, fragment: str) -> None:
    assert result.code == 2
    assert result.out == ""
    assert result.err.count("\n") == 1
    assert result.err.endswith(".\n")
    assert fragment in result.err


@pytest.mark.parametrize(
    ("changed", "fragment"),
    [
        ({"--workload": "mnist"}, "There is no workload 'mnist'; installed are: "),
        ({"--submission": "adam"}, "There is no submission 'adam'; installed are: "),
        ({"--submission": "nowhere/submission.py"}, "There is no submission file nowhere/submission.py."),
        ({"--rules": "v2"}, "'v2'; choose from v0.6, v1.0."),
        ({"--trial": 6}, "no trial 6 under the external ruleset; choose 1 to 5."),
        ({"--trial": 0}, "no trial 0 under the external ruleset; choose 1 to 5."),
        ({"--ruleset": "self", "--trial": 2}, "no trial 2 under the self ruleset; choose 1 to 1."),
        ({"--study": 3}, "no study 3 under the external ruleset; choose 0 to 2."),
        ({"--max-steps": 0}, "--max-steps is 0"),
        ({"--devices": 0}, "--devices is 0"),
        ({"--hparam": "learning_rate"}, "--hparam is 'learning_rate'; write NAME=VALUE."),
        ({"--hparam": "lerning_rate=1"}, "no hyperparameter 'lerning_rate'; --hparam can change learning_rate"),
        ({"--ruleset": "self", "--hparam": "learning_rate=1"}, "leave --hparam out."),
        ({"--tuning-search-space": "nowhere.json"}, "no search space at nowhere.json"),
        ({"--experiment": "/proc/version/experiment"}, "/proc/version/experiment"),
    ],
)
def test_run(cli: Cli, tmp_path: Path, changed: dict[str, object], fragment: str) -> None:
    assert_one_sentence(cli(*run_arguments(tmp_path, changed)), fragment)
    assert not (tmp_path / "experiment").exists()


def test_run_without_the_framework(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(frameworks.MODULES, Framework.PYTORCH, "no_such_module")
    result = cli(*run_arguments(tmp_path, {}))
    assert_one_sentence(result, "install it with `uv pip install 'algoperf-core[pytorch]'`.")


def test_run_without_the_data(cli: Cli, tmp_path: Path) -> None:
    result = cli(*run_arguments(tmp_path, {"--workload": "ogbg", "--data-dir": tmp_path / "nothing"}))
    assert_one_sentence(result, "missing in")
    assert "run `algoperf-orchestrate data prepare ogbg --scale mini`" in result.err


def test_run_without_hyperparameters(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    result = cli(*run_arguments(tmp_path, {"--submission": sgd}))
    assert_one_sentence(result, "pass one with --tuning-search-space.")


def test_run_for_another_framework(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    sgd.write_text("import jax\n" + sgd.read_text())
    arguments = run_arguments(tmp_path, {"--submission": sgd, "--hparam": "rate=1"})
    assert_one_sentence(cli(*arguments), "is written for jax, not for pytorch; run it with --framework jax.")


def test_run_of_what_is_no_python(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    sgd.write_text("def f(:")
    arguments = run_arguments(tmp_path, {"--submission": sgd, "--hparam": "rate=1"})
    assert_one_sentence(cli(*arguments), "is no Python: ")


def test_run_with_requirements_that_are_not_met(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    sgd.with_name("requirements.txt").write_text("nothing-of-this-name>=2\n")
    arguments = run_arguments(tmp_path, {"--submission": sgd, "--hparam": "rate=1"})
    assert_one_sentence(
        cli(*arguments), "of which nothing is installed; install that for this submission alone with `uv"
    )


def test_a_suite_with_requirements_that_are_not_met(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    sgd.with_name("requirements.txt").write_text("nothing-of-this-name>=2\n")
    arguments = ["full-suite", "--submission", sgd, "--framework", "pytorch", "--ruleset", "self", "--scale", "mini"]
    result = cli(*arguments, "--workloads", "toy", "--experiment", tmp_path / "experiment")
    assert_one_sentence(result, "of which nothing is installed")
    assert not (tmp_path / "experiment").exists()


def test_run_with_a_space_that_does_not_parse(cli: Cli, tmp_path: Path) -> None:
    space = tmp_path / "space.json"
    space.write_text('{"learning_rate": {"min": 1}}')
    result = cli(*run_arguments(tmp_path, {"--tuning-search-space": space}))
    assert_one_sentence(result, f"{space}: 'learning_rate' lacks max and scaling")


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["describe", "mnist"], "There is no workload 'mnist'"),
        (["data", "prepare", "mnist"], "There is no workload 'mnist'"),
        (["data", "verify", "ogbg", "--scale", "mini"], "is not prepared in"),
        (["data", "prepare", "ogbg", "--source", "nowhere"], "There is no nowhere"),
        (["demo", "--workloads", "mnist"], "There is no workload 'mnist'"),
        (["run-trial", "--config", "nowhere.json", "--experiment", "e"], "nowhere.json"),
    ],
)
def test_other_commands(cli: Cli, arguments: list[str], fragment: str) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert fragment in result.err


def test_a_demo_of_an_unknown_framework(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALGOPERF_FRAMEWORKS", "tensorflow")
    result = cli("demo", "--workloads", "toy")
    assert result.code == 2
    assert "tensorflow" in result.err


def test_an_option_that_does_not_exist(cli: Cli) -> None:
    result = cli("run", "--no-such-option")
    assert result.code == 2
    assert "No such option: --no-such-option" in result.err
