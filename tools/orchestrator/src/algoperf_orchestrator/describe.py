"""Everything that is known about one workload."""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from math import prod
from typing import Any

import typer

from algoperf import registry
from algoperf.spec import Framework, Scale, WorkloadSpec
from algoperf_orchestrator.frameworks import check_installed, is_installed


def describe(name: str, scale: Scale, framework: Framework | None) -> dict[str, Any]:
    """The facts of a workload, and its parameters in a framework, as plain data.

    Args:
        name: the workload.
        scale: at which scale.
        framework: where the parameters come from; None means the first that is installed, if any.
    """
    spec = registry.workload_spec(name).at(scale)
    facts: dict[str, Any] = _plain(asdict(spec))
    del facts["mini"]
    chosen = framework or next((one for one in spec.implementations if is_installed(one)), None)
    return facts if chosen is None else facts | _parameters(spec, chosen)


def _parameters(spec: WorkloadSpec, framework: Framework) -> dict[str, Any]:
    check_installed(framework)
    parameters = registry.make_workload(spec, framework).parameters()
    return {
        "framework": framework.value,
        "num_parameters": sum(prod(one["shape"]) for one in parameters),
        "parameters": parameters,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value, str) else value.name
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def show(facts: Mapping[str, Any]) -> None:
    """Prints what `describe` returned, one fact a line and one parameter a line."""
    lines = list(_flat({key: value for key, value in facts.items() if key != "parameters"}))
    lines += [(one["name"], f"{one['shape']} {one['dtype']} {one['type']}") for one in facts.get("parameters", [])]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        typer.echo(f"{name.ljust(width)}  {value}")


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, f"{value:,}" if type(value) is int else str(value)
