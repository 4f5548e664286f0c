"""The command `demo`: the small suite. Two algorithms on two mini workloads, once, in each framework, scored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from algoperf import registry
from algoperf.spec import Framework, Scale
from algoperf_orchestrator import frameworks
from algoperf_orchestrator.full_suite import Options, full_suite
from algoperf_orchestrator.scheduler import Policy
from algoperf_orchestrator.suite import Suite

SUBMISSIONS = ("adamw", "nadamw")
# More would take longer than somebody who looks around waits.
NUM_WORKLOADS = 2


def demo(workloads: Sequence[str], experiment: Path, data_dir: Path, clock: Literal["wall", "virtual"]) -> int:
    """Runs the small suite and returns the exit code of `full_suite`. No workloads means the quickest ones."""
    suite = Suite(
        submissions=SUBMISSIONS,
        frameworks=tuple(_frameworks()),
        scale=Scale.MINI,
        workloads=tuple(workloads or _quickest()),
        studies=1,
        trials=1,
        clock=clock,
    )
    return full_suite(suite, experiment, data_dir, Options(policy=Policy()))


def _quickest() -> list[str]:
    """The base workloads with the smallest budgets at mini scale."""
    specs = [registry.workload_spec(name) for name in registry.workload_names()]
    budgets = {spec.name: spec.mini.budget().max_runtime_s for spec in specs if spec.mini and spec.base is None}
    return sorted(budgets, key=lambda name: (budgets[name], name))[:NUM_WORKLOADS]


def _frameworks() -> list[Framework]:
    """Those that ALGOPERF_FRAMEWORKS names, or all that are installed."""
    named = os.environ.get("ALGOPERF_FRAMEWORKS", "").split()
    chosen = [Framework(name) for name in named] or frameworks.installed()
    for framework in chosen:
        frameworks.check_installed(framework)
    if not chosen:
        raise ValueError("No framework is installed; install one with `uv pip install 'algoperf-core[jax]'`.")
    return chosen
