"""The command `demo`: the small suite. Two algorithms on every mini workload, once, in each framework, scored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from algoperf.spec import Framework, Scale
from algoperf_orchestrator import frameworks
from algoperf_orchestrator.full_suite import Options, full_suite
from algoperf_orchestrator.scheduler import Policy
from algoperf_orchestrator.suite import Suite

SUBMISSIONS = ("adamw", "nadamw")


def demo(workloads: Sequence[str], experiment: Path, data_dir: Path, clock: Literal["wall", "virtual"]) -> int:
    """Runs the small suite and returns the exit code of `full_suite`."""
    suite = Suite(
        submissions=SUBMISSIONS,
        frameworks=tuple(_frameworks()),
        scale=Scale.MINI,
        workloads=tuple(workloads),
        studies=1,
        trials=1,
        clock=clock,
    )
    return full_suite(suite, experiment, data_dir, Options(policy=Policy()))


def _frameworks() -> list[Framework]:
    """Those that ALGOPERF_FRAMEWORKS names, or all that are installed."""
    named = os.environ.get("ALGOPERF_FRAMEWORKS", "").split()
    chosen = [Framework(name) for name in named] or frameworks.installed()
    for framework in chosen:
        frameworks.check_installed(framework)
    if not chosen:
        raise ValueError("No framework is installed; install one with `uv pip install 'algoperf-core[jax]'`.")
    return chosen
