"""What may be wrong with a suite is said in one sentence, before anything starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from algoperf import registry
from algoperf.spec import Framework, Scale, TuningRuleset
from algoperf_orchestrator.suite import Suite, Variants, make_suite

Cli = Callable[..., Any]
GOOD = """
submissions = ["nadamw"]
frameworks = ["jax"]
ruleset = "external"
scale = "mini"
workloads = ["toy"]
variants = "none"
studies = 2
seed = 7
clock = "virtual"
"""


def test_a_file_is_a_suite_and_options_stand_above_it(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(GOOD + 'tuning_search_space = "space.json"\n')
    suite = make_suite(path, {"seed": 8, "studies": None, "workloads": ()})
    assert suite == Suite(
        submissions=("nadamw",),
        frameworks=(Framework.JAX,),
        ruleset=TuningRuleset.EXTERNAL,
        scale=Scale.MINI,
        workloads=("toy",),
        variants=Variants.NONE,
        studies=2,
        seed=8,
        clock="virtual",
        tuning_search_space=tmp_path / "space.json",
    )


def test_zero_is_given_too(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(GOOD)
    assert make_suite(path, {"seed": 0, "qualification": False}).seed == 0
    result = cli("full-suite", "--suite", path, "--experiment", tmp_path / "e", "--trials", "0")
    assert_refused(result, "--trials is 0; take at least 1", tmp_path / "e")


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("number_of_studies = 3", "unknown key 'number_of_studies'; use submissions, frameworks"),
        ('studies = "three"', "studies = 'three'; give a number"),
        ("studies = true", "studies = True; give a number"),
        ("studies = 0", "--studies is 0; take at least 1"),
        ("seed = -1", "--seed is -1; take one that is not negative"),
        ('scale = "small"', "scale = 'small'; give one of full, mini"),
        ('frameworks = ["tensorflow"]', "frameworks = 'tensorflow'; give one of jax, pytorch"),
        ('frameworks = "jax"', "frameworks = 'jax'; give a list"),
        ('clock = "sun"', "clock = 'sun'; give one of wall, virtual"),
        ('executor = "cloud"', "executor = 'cloud'; give one of local, ray, slurm"),
        ('variants = "some"', "variants = 'some'; give one of none, held-out, all"),
        ("studies 3", "is no TOML"),
        ('rules = "v9"', "There are no published rules 'v9'"),
        ('workloads = ["mnist"]', "There is no workload 'mnist'"),
        ("qualification = true", "leave --workloads out"),
        ('submissions = ["nosuch"]', "There is no submission 'nosuch'"),
        ('submissions = ["nadamw", "nadamw"]', "Two submissions are called nadamw"),
        ("trials = 0", "--trials is 0; take at least 1"),
        ("cores = 1000", "--cores asks for 1000 but"),
        ('ruleset = ["external"]', "ruleset = ['external']; give one of external, self"),
        ('frameworks = [["jax"]]', "frameworks = ['jax']; give one of jax, pytorch"),
        ('workloads = ["toy", "toy"]', "workloads names toy twice; name each once"),
        ("slurm = {a = 2024-01-01}", "slurm.a = datetime.date(2024, 1, 1); give a string, a number, true or false"),
    ],
)
def test_bad_suite_files(cli: Cli, tmp_path: Path, text: str, fragment: str) -> None:
    key = text.partition(" ")[0]
    lines = [line for line in GOOD.splitlines() if line.partition(" ")[0] != key]
    path = tmp_path / "suite.toml"
    path.write_text("\n".join([*lines, text]))
    assert_refused(cli("full-suite", "--suite", path, "--experiment", tmp_path / "e"), fragment, tmp_path / "e")


def test_a_suite_file_that_is_missing(cli: Cli, tmp_path: Path) -> None:
    result = cli("full-suite", "--suite", tmp_path / "none.toml", "--experiment", tmp_path / "e")
    assert_refused(result, "There is no suite file", tmp_path / "e")


def test_external_tuning_needs_a_search_space(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    assert_refused(run(cli, tmp_path, sgd, "--ruleset", "external"), "has no tuning_search_space.json", tmp_path / "e")


def test_self_tuning_takes_no_search_space(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    space = tmp_path / "space.json"
    space.write_text('[{"sleep_s": 0}]')
    result = run(cli, tmp_path, sgd, "--ruleset", "self", "--tuning-search-space", space)
    assert_refused(result, "leave --tuning-search-space out", tmp_path / "e")
    space.rename(sgd.parent / "tuning_search_space.json")
    result = run(cli, tmp_path, sgd, "--ruleset", "self")
    assert_refused(
        result, "brings a search space (tuning_search_space.json), but self-tuning gives none", tmp_path / "e"
    )


@pytest.mark.parametrize("name", [".hidden", "report"])
def test_names_that_an_experiment_uses_itself(cli: Cli, tmp_path: Path, sgd: Path, name: str) -> None:
    folder = sgd.parent.rename(tmp_path / name)
    assert_refused(run(cli, tmp_path, folder, "--ruleset", "self"), f"cannot be called {name!r}", tmp_path / "e")


@pytest.mark.parametrize(
    ("option", "value"), [("--memory", "-1"), ("--memory", "nan"), ("--hang-after", "0"), ("--hang-after", "inf")]
)
def test_bounds_that_no_trial_could_keep(cli: Cli, tmp_path: Path, sgd: Path, option: str, value: str) -> None:
    result = run(cli, tmp_path, sgd, "--ruleset", "self", option, value)
    assert_refused(result, f"{option} is {value}; give a number above 0, or leave it out.", tmp_path / "e")


def test_a_submission_for_the_other_framework(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    sgd.write_text(f"import torch\n{sgd.read_text()}")
    result = run(cli, tmp_path, sgd, "--ruleset", "self")
    assert_refused(result, "is written for pytorch, not for jax; run it with --framework pytorch", tmp_path / "e")


def test_a_submission_that_is_no_python(cli: Cli, tmp_path: Path, sgd: Path) -> None:
    sgd.write_text("def get_batch_size(:\n")
    assert_refused(run(cli, tmp_path, sgd, "--ruleset", "self"), "is no Python", tmp_path / "e")


def test_fewer_devices_than_asked_for(cli: Cli, tmp_path: Path, sgd: Path, three_gpus: None) -> None:
    result = run(cli, tmp_path, sgd, "--ruleset", "self", "--devices", "4")
    assert_refused(result, "--devices asks for 4 but 3 are here; ask for fewer.", tmp_path / "e")


def test_workloads_that_are_not_installed(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "is_installed", lambda name: False)
    arguments = ("--submission", "nadamw", "--framework", "jax", "--experiment", tmp_path / "e")
    result = cli("full-suite", *arguments, "--workloads", "imagenet_vit,criteo1tb,imagenet_resnet")
    assert_refused(result, "install algoperf-workload-imagenet algoperf-workload-criteo, or", tmp_path / "e")


@pytest.mark.parametrize("missing", ["--submission", "--framework"])
def test_what_a_suite_needs(cli: Cli, tmp_path: Path, missing: str) -> None:
    given = {"--submission": "nadamw", "--framework": "jax", "--experiment": str(tmp_path / "e")}
    del given[missing]
    result = cli("full-suite", *(text for pair in given.items() for text in pair))
    assert_refused(result, f"name one with {missing}", tmp_path / "e")


@pytest.mark.parametrize("command", ["status", "logs", "stop", "retry", "package"])
def test_an_experiment_that_is_none(cli: Cli, tmp_path: Path, command: str) -> None:
    assert_refused(cli(command, tmp_path / "e"), "There is no experiment in", tmp_path / "e")


def run(cli: Cli, tmp_path: Path, submission: Path, *options: object) -> Any:
    arguments = ("--framework", "jax", "--scale", "mini", "--workloads", "toy", "--experiment", tmp_path / "e")
    return cli("full-suite", "--submission", submission, *arguments, *options)


def assert_refused(result: Any, fragment: str, experiment: Path) -> None:
    assert result.code == 2
    assert fragment in result.err
    assert result.err.count("\n") == 1, result.err
    assert not experiment.exists()
