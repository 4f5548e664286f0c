"""From what was asked for to a `TrialConfig`; what can be wrong is found before anything starts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from algoperf import registry, submission
from algoperf.data import DataError, preparation
from algoperf.search import SearchSpace, as_hyperparameters, points
from algoperf.spec import DEFAULT_RULES, Framework, Scale, TuningRuleset, WorkloadSpec
from algoperf.study import RULESETS, Ruleset, study_points, trial_config
from algoperf.trial_config import TrialConfig
from algoperf_orchestrator import requirements
from algoperf_orchestrator.frameworks import check_installed

# Beside a submission's file. The second lists one point, for mini scale.
SEARCH_SPACE = "tuning_search_space.json"
MINI_HYPERPARAMETERS = "mini_hyperparameters.json"


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What `run` was asked for; see its help."""

    workload: str
    framework: Framework
    scale: Scale
    submission: str
    seed: int = 0
    ruleset: TuningRuleset = TuningRuleset.EXTERNAL
    rules: str = DEFAULT_RULES
    study: int = 0
    trial: int | None = None
    tuning_search_space: Path | None = None
    hparams: Sequence[str] = ()
    max_steps: int | None = None
    clock: Literal["wall", "virtual"] = "wall"
    data_dir: Path


def configure(request: RunRequest) -> TrialConfig:
    """The trial that was asked for.

    Raises:
        ValueError: something does not exist or does not fit; the sentence says what.
        ImportError: the framework is not installed.
        DataError: the data is not prepared.
    """
    spec = registry.workload_spec(request.workload).at(request.scale)
    spec.budget(request.rules)
    if request.framework not in spec.implementations:
        raise ValueError(f"{spec.name} has no implementation in {request.framework.value}.")
    check_installed(request.framework)
    file = submission.locate(request.submission, request.framework)
    if not file.is_file():
        raise ValueError(f"The submission {request.submission} has no file {file}.")
    if Path(request.submission).exists():
        submission.check_framework(file, request.framework)
        requirements.check(file, request.framework)
    ruleset = RULESETS[request.ruleset]
    _check_numbers(request, ruleset)
    hyperparameters = _hyperparameters(request, ruleset, file)
    _check_data(spec, request.data_dir)
    return trial_config(
        spec,
        framework=request.framework,
        submission=str(file) if Path(request.submission).exists() else request.submission,
        ruleset=ruleset,
        hyperparameters=hyperparameters,
        suite_seed=request.seed,
        study=request.study,
        trial=request.trial or 1,
        rules=request.rules,
        clock=request.clock,
        max_steps=request.max_steps,
    )


def _check_numbers(request: RunRequest, ruleset: Ruleset) -> None:
    trial = 1 if request.trial is None else request.trial
    if not 1 <= trial <= ruleset.num_trials:
        raise ValueError(
            f"There is no trial {trial} under the {ruleset.name} ruleset; choose 1 to {ruleset.num_trials}."
        )
    if not 0 <= request.study < ruleset.num_studies:
        raise ValueError(
            f"There is no study {request.study} under the {ruleset.name} ruleset; "
            f"choose 0 to {ruleset.num_studies - 1}."
        )
    if request.max_steps is not None and request.max_steps < 1:
        raise ValueError(f"--max-steps is {request.max_steps}; take at least 1.")


def _check_data(spec: WorkloadSpec, data_dir: Path) -> None:
    found = preparation.status(spec, data_dir)
    if found.state in ("missing", "unfinished"):
        raise DataError(
            f"The data of {spec.name} is {found.state} in {found.folder}; run `{preparation.prepare_command(spec)}`."
        )


def _hyperparameters(request: RunRequest, ruleset: Ruleset, file: Path) -> dict[str, Any] | None:
    values = dict(_parse(text) for text in request.hparams)
    if ruleset.name is TuningRuleset.SELF:
        if values:
            raise ValueError("A self-tuning submission is given no hyperparameters; leave --hparam out.")
        space = _load(request.tuning_search_space)
        study_points(ruleset, space, request.seed, request.workload, request.study)
        return None
    path = _space_path(request, file)
    if path is None and values:
        point: dict[str, Any] = {}
    else:
        point = _point(request, ruleset, path)
        if unknown := [name for name in values if name not in point]:
            raise ValueError(f"{path} has no hyperparameter {unknown[0]!r}; --hparam can change {', '.join(point)}.")
    point |= values
    as_hyperparameters(point)
    return point


def _space_path(request: RunRequest, file: Path) -> Path | None:
    if request.tuning_search_space is not None:
        return request.tuning_search_space
    names = [SEARCH_SPACE]
    if request.scale is Scale.MINI and request.trial is None:
        names.insert(0, MINI_HYPERPARAMETERS)
    return next((file.with_name(name) for name in names if file.with_name(name).exists()), None)


def _point(request: RunRequest, ruleset: Ruleset, path: Path | None) -> dict[str, Any]:
    space, trial = _load(path), request.trial or 1
    if space is not None and isinstance(space.content, tuple):
        # A listed point is a trial's by its number, whether or not there are points for the other trials.
        return points(space, count=trial, seed=0)[-1]
    drawn = study_points(ruleset, space, request.seed, request.workload, request.study)
    return dict(drawn[trial - 1] or {})


def _load(path: Path | None) -> SearchSpace | None:
    return None if path is None else SearchSpace.load(path)


def _parse(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"--hparam is {text!r}; write NAME=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        # Not JSON, so a string that needs no quotes on a command line.
        return name, value
