"""`init`: what it writes runs as it is."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from algoperf import registry
from algoperf.records import read_trial, trial_folder
from algoperf.search import SearchSpace
from algoperf.spec import Framework, Scale, TuningRuleset
from algoperf.testing.frameworks import BOTH, require
from algoperf_scoring import submission_info

Cli = Callable[..., Any]


def init(cli: Cli, folder: Path, framework: Framework, ruleset: TuningRuleset) -> Any:
    return cli("init", folder, "--framework", framework.value, "--ruleset", ruleset.value)


@pytest.mark.parametrize("ruleset", list(TuningRuleset))
@pytest.mark.parametrize("framework", BOTH)
def test_it_trains_as_it_is(cli: Cli, tmp_path: Path, framework: Framework, ruleset: TuningRuleset) -> None:
    require(framework)
    folder = tmp_path / "new" / "mine"
    assert init(cli, folder, framework, ruleset).code == 0
    arguments = ["run", "--workload", "toy", "--framework", framework.value, "--scale", "mini", "--clock", "virtual"]
    arguments += ["--ruleset", ruleset.value, "--submission", str(folder), "--experiment", str(tmp_path / "logs")]
    result = cli(*arguments, "--max-steps", 30)
    assert result.code == 0, result.err + result.out
    record = read_trial(trial_folder(tmp_path / "logs", 0, "toy", framework.value, 1))
    assert record.end_reason == "steps"
    first, *_, last = (row["validation/loss"] for row in record.evaluations)
    assert last < first


@pytest.mark.parametrize("ruleset", list(TuningRuleset))
@pytest.mark.parametrize("framework", BOTH)
def test_it_says_what_it_wrote_and_what_to_do_next(
    cli: Cli, tmp_path: Path, framework: Framework, ruleset: TuningRuleset
) -> None:
    folder = tmp_path / "it's mine"
    result = init(cli, folder, framework, ruleset)
    assert result.code == 0, result.err
    head, *commands = result.out.splitlines()
    names = {path.name for path in folder.iterdir()}
    assert all(name in head for name in names)
    assert ("tuning_search_space.json" in names) is (ruleset is TuningRuleset.EXTERNAL)
    # No data is prepared in the folder that tests use.
    prepare, run = (shlex.split(command) for command in commands)
    assert prepare[:3] == ["algoperf-orchestrate", "data", "prepare"]
    assert run[:4] == ["algoperf-orchestrate", "run", "--workload", prepare[3]]
    assert run[run.index("--submission") + 1] == str(folder)
    assert run[run.index("--ruleset") + 1] == ruleset.value
    facts = submission_info.read(folder).facts
    assert facts["submission_name"] == "it's mine"
    assert facts["framework"].lower() == framework.value
    assert facts["ruleset"].startswith(ruleset.value)


@pytest.mark.parametrize("framework", BOTH)
def test_it_knows_every_workload_and_every_hyperparameter(cli: Cli, tmp_path: Path, framework: Framework) -> None:
    require(framework)
    folder = tmp_path / "mine"
    init(cli, folder, framework, TuningRuleset.EXTERNAL)
    names: dict[str, Any] = {}
    exec(compile((folder / "submission.py").read_text(), "submission.py", "exec"), names)
    specs = [registry.workload_spec(name) for name in registry.workload_names()]
    for spec in specs:
        # Workloads of mini scale bring their batch size.
        assert spec.scale is Scale.MINI or names["get_batch_size"](spec.base_name) > 0
    space = SearchSpace.load(folder / "tuning_search_space.json")
    assert isinstance(space.content, dict)
    assert tuple(space.content) == names["Hyperparameters"]._fields


def test_it_overwrites_nothing(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "submission.py").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (folder, folder / "submission.py", tmp_path / "link"):
        result = init(cli, path, Framework.JAX, TuningRuleset.SELF)
        assert result.code == 2
        assert result.err == f"There is a {path} already; name a folder that does not exist.\n"
    assert [path.name for path in folder.iterdir()] == ["submission.py"]
    assert (folder / "submission.py").read_text() == "precious"


def test_a_folder_that_cannot_be_made(cli: Cli) -> None:
    result = init(cli, Path("/proc/mine"), Framework.JAX, TuningRuleset.SELF)
    assert result.code == 2
    assert result.err.startswith("/proc/mine: ")
    assert result.err.count("\n") == 1


def test_a_name_is_no_yaml(cli: Cli, tmp_path: Path) -> None:
    name = 'a: "b" #c'
    init(cli, tmp_path / name, Framework.JAX, TuningRuleset.SELF)
    assert submission_info.read(tmp_path / name).facts["submission_name"] == name
    assert json.dumps(name) in (tmp_path / name / "submission_info.yml").read_text()
