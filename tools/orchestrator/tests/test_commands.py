"""The commands that train nothing."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from algoperf import registry
from algoperf.data.preparation import Preparation
from algoperf.spec import Framework, Scale
from algoperf.testing.frameworks import BOTH, require
from algoperf.testing.toy import TOY
from algoperf_orchestrator import cli as cli_module
from algoperf_orchestrator import frameworks

Cli = Callable[..., Any]

HEAVY = ("numpy", "jax", "torch", "grain", "algoperf.workload", "algoperf.backends")


@pytest.mark.parametrize("arguments", [["--help"], ["list", "workloads"], ["list", "submissions", "--json"]])
def test_quick_commands_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from algoperf_orchestrator.cli import main\n"
        f"try: main({arguments})\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = ended.stderr.split()
    assert "typer" in imported
    assert not set(HEAVY) & set(imported)


def test_list_names_what_is_installed(cli: Cli) -> None:
    result = cli("list", "workloads")
    assert result.code == 0
    assert all(name in result.out for name in registry.workload_names())
    rows = json.loads(cli("list", "workloads", "--json").out)
    assert [row["name"] for row in rows] == registry.workload_names()
    rows = json.loads(cli("list", "submissions", "--json").out)
    assert [row["name"] for row in rows] == registry.submission_names()


def test_list_marks_frameworks_that_are_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(frameworks.MODULES, Framework.JAX, "no_such_module")
    monkeypatch.setitem(frameworks.MODULES, Framework.PYTORCH, "sys")
    assert "jax (not installed), pytorch " in cli("list", "submissions").out
    row = json.loads(cli("list", "submissions", "--json").out)[0]
    assert row["frameworks"] == [
        {"name": "jax", "installed": False},
        {"name": "pytorch", "installed": True},
    ]


@pytest.mark.parametrize("framework", BOTH)
def test_describe_has_the_parameters_of_a_framework(cli: Cli, framework: Framework) -> None:
    require(framework)
    facts = json.loads(cli("describe", "toy", "--framework", framework.value, "--json").out)
    assert facts["framework"] == framework.value
    model = TOY.model
    assert facts["num_parameters"] == (model.num_features + 1) * model.width + (model.width + 1) * model.num_classes
    assert {one["type"] for one in facts["parameters"]} == {"WEIGHT", "BIAS"}
    assert f"{facts['num_parameters']:,}" in cli("describe", "toy", "--framework", framework.value).out


def test_describe_without_a_framework_has_the_facts(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for framework in Framework:
        monkeypatch.setitem(frameworks.MODULES, framework, "no_such_module")
    facts = json.loads(cli("describe", "toy", "--scale", "mini", "--json").out)
    assert "num_parameters" not in facts
    spec = TOY.at(Scale.MINI)
    assert facts["scale"] == "mini"
    assert facts["loss_type"] == spec.loss_type.name
    assert facts["target"]["validation"] == spec.target.validation
    assert facts["budgets"]["v1.0"]["eval_period_s"] == spec.budget("v1.0").eval_period_s
    assert facts["model"]["width"] == spec.model.width
    assert facts["dataset"]["licence"] == spec.dataset.licence


def test_data_that_is_generated_needs_nothing(cli: Cli, tmp_path: Path) -> None:
    assert "nothing to prepare" in cli("data", "prepare", "toy").out
    assert cli("data", "verify", "toy").out == "toy: ok (1,000 train, 250 validation, 250 test)\n"
    assert cli("data", "status", "toy").out == "toy: generated\n"


def test_data_is_prepared_verified_and_found_damaged(cli: Cli, tmp_path: Path, prepared: str) -> None:
    assert "missing; run `algoperf-orchestrate data prepare" in cli("data", "status", prepared).out
    assert cli("data", "verify", prepared).code == 2
    result = cli("data", "prepare", prepared, "--source", tmp_path / "download", "--skip-damaged")
    assert "copied what is whole" in result.out
    assert "points/full: prepared, 0.0 MiB in" in cli("data", "status", prepared).out
    assert cli("data", "verify", prepared).out == "points/full: ok (1,000 train, 250 validation, 250 test)\n"
    (tmp_path / "data" / "points" / "full" / "points.txt").write_text("altered")
    result = cli("data", "verify", prepared)
    assert result.code == 2
    assert "points.txt" in result.err


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a workload whose data is prepared from a downloaded file."""
    dataset = replace(TOY.dataset, name="points/full", prepare=f"{__name__}:prepare_points")
    spec = replace(TOY, name="points", dataset=dataset)
    monkeypatch.setattr(registry, "workload_spec", lambda name: spec)
    (tmp_path / "download").write_text("1 2 3")
    return "points"


def prepare_points(job: Preparation) -> list[Path]:
    assert job.source is not None
    path = job.folder / "points.txt"
    path.write_text(job.source.read_text())
    job.report("copied the points" if not job.skip_damaged else "copied what is whole")
    return [path]


def test_one_option_takes_several_hyperparameters() -> None:
    given = ["run", "--hparam", "a=1", "b=x=2", "--seed", "3", "--hparam", "c=1", "d=2"]
    expected = ["run", "--hparam", "a=1", "--hparam", "b=x=2", "--seed", "3", "--hparam", "c=1", "--hparam", "d=2"]
    assert cli_module._one_value_each(given) == expected
    assert cli_module._one_value_each(expected) == expected
