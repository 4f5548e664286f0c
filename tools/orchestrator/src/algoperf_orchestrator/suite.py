"""What a suite is asked to run: options of the command line over a file, checked, before anything is planned."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, get_args

from algoperf.spec import DEFAULT_RULES, Framework, Scale, TuningRuleset

# The three workloads that a submission may qualify on (the competition's rules).
QUALIFICATION = ("criteo1tb", "ogbg", "wmt")

ExecutorName = Literal["local", "ray", "slurm"]


class Variants(StrEnum):
    """Which variants of the workloads are run besides them."""

    NONE = "none"
    HELD_OUT = "held-out"  # One of each base workload, drawn from the suite's seed.
    ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A suite, as its file or the command line says it; the names of the fields are the keys of the file.

    Attributes:
        submissions: installed names, or paths.
        frameworks: in each of which every submission is run.
        ruleset: how hyperparameters may be chosen.
        scale: of the workloads.
        rules: rules version.
        workloads: names; empty: all base workloads of the rules, or those with a mini scale that are installed.
        variants: which of their variants to run too.
        studies, trials: numbers of them; None: as the ruleset says.
        seed: from which the trials' seeds, the points and the held-out variants are derived; public.
        tuning_search_space: instead of the submission's own.
        qualification: run the qualification workloads.
        max_steps: step limit of every trial, for trying things out.
        clock: "wall" or "virtual".
        executor: who runs the trials.
        devices: per trial; None: all GPUs that are here, else one CPU.
        cores: of the CPU per trial; None: all divided among the trials that the GPUs allow.
        slurm: what jobs ask the cluster for: fields of `executors.slurm_options.SlurmOptions`, or options of `sbatch`.
        ray_address: of a running Ray cluster; None: as RAY_ADDRESS says, else one is started on this machine.
    """

    submissions: tuple[str, ...]
    frameworks: tuple[Framework, ...]
    ruleset: TuningRuleset = TuningRuleset.EXTERNAL
    scale: Scale = Scale.FULL
    rules: str = DEFAULT_RULES
    workloads: tuple[str, ...] = ()
    variants: Variants = Variants.NONE
    studies: int | None = None
    trials: int | None = None
    seed: int = 0
    tuning_search_space: Path | None = None
    qualification: bool = False
    max_steps: int | None = None
    clock: Literal["wall", "virtual"] = "wall"
    executor: ExecutorName = "local"
    devices: int | None = None
    cores: int | None = None
    slurm: Mapping[str, str] = field(default_factory=dict)
    ray_address: str | None = None

    def __post_init__(self) -> None:
        if not self.submissions:
            raise ValueError("A suite needs a submission; name one with --submission.")
        if not self.frameworks:
            raise ValueError("A suite needs a framework; name one with --framework.")
        for name in ("studies", "trials", "max_steps", "devices", "cores"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {value}; take at least 1.")
        for name in ("frameworks", "workloads"):
            if twice := [one for one, count in Counter(getattr(self, name)).items() if count > 1]:
                raise ValueError(f"{name} names {twice[0]} twice; name each once.")
        if self.seed < 0:
            raise ValueError(f"--seed is {self.seed}; take one that is not negative.")
        if self.qualification and self.workloads:
            raise ValueError("--qualification chooses the workloads; leave --workloads out.")


def make_suite(file: Path | None, options: Mapping[str, Any]) -> Suite:
    """A suite from its file, if there is one, and options that stand above it.

    Args:
        file: TOML with the fields of `Suite` as keys.
        options: by field; None and empty ones were not given.

    Raises:
        ValueError: a key or a value is none; the sentence names it.
    """
    given = {name: value for name, value in options.items() if not (value in (None, (), {}) or value is False)}
    read = {} if file is None else _read(file)
    for name in ("submissions", "frameworks"):
        if name not in read and name not in given:
            raise ValueError(f"A suite needs {name}; name one with --{name[:-1]}.")
    return Suite(**{**read, **given})


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"There is no suite file {file}; name one, or leave --suite out.")
    try:
        data = tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"Suite file {file} is no TOML: {error}.") from error
    known = [one.name for one in fields(Suite)]
    for key in data:
        if key not in known:
            raise ValueError(f"Suite file {file} has the unknown key {key!r}; use {', '.join(known)}.")
    return {key: _value(file, key, value) for key, value in data.items()}


def _value(file: Path, key: str, value: Any) -> Any:
    """A value of the file in the type of its field."""
    if key in ("submissions", "workloads"):
        return tuple(_checked(file, key, one, str) for one in _list(file, key, value))
    if key == "frameworks":
        return tuple(_one_of(file, key, one, Framework) for one in _list(file, key, value))
    if key in _ENUMS:
        return _one_of(file, key, value, _ENUMS[key])
    if key in _LITERALS:
        if value not in _LITERALS[key]:
            raise _wrong(file, key, value, f"one of {', '.join(_LITERALS[key])}")
        return value
    if key == "slurm":
        if not isinstance(value, dict):
            raise _wrong(file, key, value, "a table")
        return {name: _text(file, name, one) for name, one in value.items()}
    if key == "tuning_search_space":
        # A path in a file is meant from where the file is.
        return file.parent / _checked(file, key, value, str)
    return _checked(file, key, value, _PLAIN.get(key, int))


_ENUMS: Mapping[str, type[StrEnum]] = {"ruleset": TuningRuleset, "scale": Scale, "variants": Variants}
_LITERALS: Mapping[str, tuple[str, ...]] = {"clock": ("wall", "virtual"), "executor": get_args(ExecutorName)}
_PLAIN: Mapping[str, type] = {"rules": str, "ray_address": str, "qualification": bool}


def _list(file: Path, key: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise _wrong(file, key, value, "a list")
    return value


def _one_of(file: Path, key: str, value: Any, kind: type[StrEnum]) -> StrEnum:
    if value not in list(kind):
        raise _wrong(file, key, value, f"one of {', '.join(kind)}")
    return kind(value)


def _checked(file: Path, key: str, value: Any, kind: type) -> Any:
    # A boolean is an int to Python, and no number to a person.
    if type(value) is not kind:
        raise _wrong(file, key, value, {str: "a string", int: "a number", bool: "true or false"}[kind])
    return value


def _text(file: Path, name: str, value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise _wrong(file, f"slurm.{name}", value, "a string, a number, true or false")
    return value if isinstance(value, str) else json.dumps(value)


def _wrong(file: Path, key: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"Suite file {file} has {key} = {value!r}; give {expected}.")
