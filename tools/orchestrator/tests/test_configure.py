"""From options to a trial's configuration."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from algoperf import search
from algoperf.spec import Framework, Scale, TuningRuleset
from algoperf.study import EXTERNAL_TUNING, study_points
from algoperf_orchestrator import frameworks
from algoperf_orchestrator.configure import RunRequest, configure

SPACE = {"learning_rate": {"min": 1e-4, "max": 1e-1, "scaling": "log"}, "beta": {"feasible_points": [0.9, 0.99]}}


@pytest.fixture
def request_(tmp_path: Path, sgd: Path, monkeypatch: pytest.MonkeyPatch) -> RunRequest:
    for framework in Framework:
        monkeypatch.setitem(frameworks.MODULES, framework, "sys")
    (sgd.parent / "tuning_search_space.json").write_text(json.dumps(SPACE))
    return RunRequest(
        workload="toy",
        framework=Framework.JAX,
        scale=Scale.FULL,
        submission=str(sgd),
        seed=3,
        data_dir=tmp_path,
    )


def points(study: int) -> list[Any]:
    space = search.parse_search_space(SPACE, "space")
    return list(study_points(EXTERNAL_TUNING, space, 3, "toy", study))


def test_a_trial_is_a_point_of_the_space_beside_the_submission(request_: RunRequest) -> None:
    assert configure(request_).hyperparameters == points(0)[0]
    request = replace(request_, trial=4, study=2)
    config = configure(request)
    assert config.hyperparameters == points(2)[3]
    assert (config.study, config.trial) == (2, 4)
    assert config.seed != configure(request_).seed
    assert config.max_runtime_s == 20.0


def test_a_space_can_be_named(request_: RunRequest, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('[{"learning_rate": 1.0}, {"learning_rate": 2.0}, {"learning_rate": 3.0}]')
    request = replace(request_, tuning_search_space=path)
    assert configure(request).hyperparameters == {"learning_rate": 1.0}
    # One trial needs no points of others.
    assert configure(replace(request, trial=3)).hyperparameters == {"learning_rate": 3.0}
    with pytest.raises(ValueError, match="lists 3 points but 4 are asked for"):
        configure(replace(request, trial=4))


def test_hparam_changes_single_values(request_: RunRequest) -> None:
    config = configure(replace(request_, hparams=["beta=0.5"]))
    assert config.hyperparameters == {**points(0)[0], "beta": 0.5}
    config = configure(replace(request_, hparams=["beta=linear"]))
    assert config.hyperparameters == {**points(0)[0], "beta": "linear"}


def test_hparam_without_a_space_is_the_point(request_: RunRequest, sgd: Path) -> None:
    (sgd.parent / "tuning_search_space.json").unlink()
    config = configure(replace(request_, hparams=["learning_rate=1e-3", "layers=[1, 2]"]))
    assert config.hyperparameters == {"learning_rate": 1e-3, "layers": [1, 2]}


def test_mini_hyperparameters_are_for_mini_without_a_trial(request_: RunRequest, sgd: Path) -> None:
    (sgd.parent / "mini_hyperparameters.json").write_text('[{"learning_rate": 7.0, "beta": 0.1}]')
    mini = replace(request_, scale=Scale.MINI)
    assert configure(mini).hyperparameters == {"learning_rate": 7.0, "beta": 0.1}
    changed = configure(replace(mini, hparams=["beta=0.2"])).hyperparameters
    assert changed == {"learning_rate": 7.0, "beta": 0.2}
    assert configure(replace(mini, trial=1)).hyperparameters == points(0)[0]
    assert configure(request_).hyperparameters == points(0)[0]


def test_self_tuning_has_no_hyperparameters_and_more_time(request_: RunRequest) -> None:
    config = configure(replace(request_, ruleset=TuningRuleset.SELF))
    assert config.hyperparameters is None
    assert config.max_runtime_s == 30.0


def test_a_file_is_known_by_its_whole_path(request_: RunRequest, sgd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sgd.parent.parent)
    relative = replace(request_, submission="my_submission")
    assert configure(relative) == configure(request_)
    assert configure(request_).submission == str(sgd)
    assert configure(replace(request_, submission="adamw")).submission == "adamw"
