"""What is installed, as plain data and as a table."""

import sys
from collections.abc import Sequence
from typing import Any

from algoperf import registry
from algoperf.spec import Framework, Target, WorkloadSpec
from algoperf_orchestrator.frameworks import is_installed

# What goes to a file or a pipe is not broken to fit a screen.
FILE_WIDTH = 200


def workloads() -> list[dict[str, Any]]:
    """Every installed workload: name, scales, frameworks, target per scale, summary."""
    return [_workload(registry.workload_spec(name)) for name in registry.workload_names()]


def submissions() -> list[dict[str, Any]]:
    """Every installed submission: name, frameworks, summary."""
    specs = [registry.submission_spec(name) for name in registry.submission_names()]
    return [{"name": spec.name, "frameworks": _frameworks(spec.frameworks), "summary": spec.summary} for spec in specs]


def _workload(spec: WorkloadSpec) -> dict[str, Any]:
    at = {scale.value: spec.at(scale) for scale in spec.scales}
    return {
        "name": spec.name,
        "scales": list(at),
        "frameworks": _frameworks(tuple(spec.implementations)),
        "targets": {scale: _target(one.target) for scale, one in at.items()},
        "summary": spec.summary,
    }


def _frameworks(frameworks: Sequence[Framework]) -> list[dict[str, Any]]:
    return [{"name": one.value, "installed": is_installed(one)} for one in frameworks]


def _target(target: Target) -> dict[str, Any]:
    return {
        "metric": target.metric,
        "goal": target.goal,
        "validation": target.validation,
        "test": target.test,
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints what `workloads` or `submissions` returned; frameworks that are missing are marked."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    texts = [{name: _text(name, value) for name, value in row.items()} for row in rows]
    for name in texts[0] if texts else ("nothing is installed",):
        table.add_column(name, overflow="fold")
    for row in texts:
        table.add_row(*row.values())
    width = None if sys.stdout.isatty() else FILE_WIDTH
    Console(width=width, highlight=False, markup=False).print(table)


def _text(name: str, value: Any) -> str:
    if name == "frameworks":
        return ", ".join(one["name"] + ("" if one["installed"] else " (not installed)") for one in value)
    if name == "targets":
        first = next(iter(value.values()))
        sign = "≤" if first["goal"] == "min" else "≥"
        goals = (
            f"{sign} {one['validation']:g} ({scale})" if one["validation"] is not None else f"no target yet ({scale})"
            for scale, one in value.items()
        )
        return f"{first['metric']} {', '.join(goals)}"
    return ", ".join(value) if isinstance(value, list) else str(value)
