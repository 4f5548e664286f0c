"""Workloads and submissions that are installed, found through their packages' entry points.

Listing imports the packages' `spec` modules, which are data; a framework is imported when a workload is made.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from algoperf.spec import DEFAULT_RULES, Framework, SubmissionSpec, WorkloadSpec

if TYPE_CHECKING:
    from algoperf.workload import Workload

WORKLOADS = "algoperf.workloads"
TEST_WORKLOADS = "algoperf.test_workloads"
SUBMISSIONS = "algoperf.submissions"


@lru_cache(maxsize=1)
def _all_entry_points() -> dict[str, dict[str, EntryPoint]]:
    found = entry_points()
    return {
        group: {entry.name: entry for entry in sorted(found.select(group=group))}
        for group in (WORKLOADS, TEST_WORKLOADS, SUBMISSIONS)
    }


def workload_names() -> list[str]:
    """Names of the installed workloads, sorted."""
    return list(_all_entry_points()[WORKLOADS])


def submission_names() -> list[str]:
    """Names of the installed submissions, sorted."""
    return list(_all_entry_points()[SUBMISSIONS])


def is_installed(workload: str) -> bool:
    """Whether a workload, one for tests included, is installed."""
    groups = _all_entry_points()
    return workload in groups[WORKLOADS] or workload in groups[TEST_WORKLOADS]


def workload_spec(name: str) -> WorkloadSpec:
    """The facts of an installed workload at full scale. Raises ValueError for a name that is not installed."""
    groups = _all_entry_points()
    entry = groups[WORKLOADS].get(name) or groups[TEST_WORKLOADS].get(name)
    if entry is None:
        known = ", ".join(workload_names()) or "none"
        raise ValueError(
            f"There is no workload {name!r}; installed are: {known}. "
            "Another one may need its package, such as `uv pip install algoperf-workload-ogbg`."
        )
    spec: WorkloadSpec = entry.load()
    return spec


def submission_spec(name: str) -> SubmissionSpec:
    """An installed submission. Raises ValueError for a name that is not installed."""
    entry = _all_entry_points()[SUBMISSIONS].get(name)
    if entry is None:
        known = ", ".join(submission_names()) or "none"
        raise ValueError(f"There is no submission {name!r}; installed are: {known}. A path to a file works as well.")
    spec: SubmissionSpec = entry.load()
    return spec


def search_space_path(spec: SubmissionSpec) -> Path | None:
    """The tuning search space that an installed submission brings, if it brings one."""
    path = Path(str(files(spec.package).joinpath("tuning_search_space.json")))
    return path if path.exists() else None


def make_workload(
    spec: WorkloadSpec, framework: Framework, data_dir: Path | None = None, rules: str = DEFAULT_RULES
) -> Workload:
    """The workload in one framework, on this process's devices.

    Raises:
        ValueError: the workload does not exist in this framework.
        ImportError: the framework is not installed; the message says how to install it.
    """
    from algoperf import backends

    if framework not in spec.implementations:
        raise ValueError(f"{spec.name} has no implementation in {framework.value}.")
    backend = backends.load(framework)
    path = spec.implementations[framework]
    try:
        workload: Workload = resolve_name(path)(spec, backend, data_dir, rules)
    except ModuleNotFoundError as error:
        package = path.split(".")[0].replace("algoperf_", "algoperf-workload-")
        raise ImportError(
            f"{spec.name} in {framework.value} needs {error.name}; install it with "
            f"`uv pip install '{package}[{framework.value}]'`.",
            name=error.name,
        ) from error
    return workload
