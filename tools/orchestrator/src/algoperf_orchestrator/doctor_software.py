"""What can be wrong with what is installed: frameworks and the GPUs that they see, packages, data, settings."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from algoperf import registry
from algoperf.data import DataError, preparation
from algoperf.spec import Framework, Scale, WorkloadSpec
from algoperf_orchestrator import environment, frameworks
from algoperf_orchestrator.doctor_checks import Check, Level
from algoperf_orchestrator.profiles import REFERENCE, ResultsStatus

# Importing a framework takes seconds; on a busy machine, many.
PROBE_LIMIT_S = 60.0
_TOOL_LIMIT_S = 20.0
_QUERY = "uuid,name,driver_version,utilization.gpu,memory.used"
# CUDA 12's.
_LEAST_DRIVER = 525
# An idle GPU holds a little.
_BUSY_MIB = 600
_BUSY_PERCENT = 10
_PROBES = {
    Framework.JAX: (
        "import jax, json; found = jax.devices();"
        "names = [one.device_kind for one in found if one.platform in ('gpu', 'cuda')];"
        "print(json.dumps([jax.__version__, names, True]))"
    ),
    Framework.PYTORCH: (
        "import torch, json; count = torch.cuda.device_count();"
        "names = [torch.cuda.get_device_name(number) for number in range(count)];"
        "print(json.dumps([torch.__version__, names, torch.version.cuda is not None]))"
    ),
}
_CUDA_BUILD = {
    Framework.JAX: "uv pip install 'algoperf-core[jax-cuda]'",
    Framework.PYTORCH: "uv pip install --reinstall-package torch 'algoperf-core[pytorch]'",
}


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU, as the driver knows it."""

    uuid: str
    name: str
    driver: str
    percent: int
    memory_mib: int


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """What the driver's tool says.

    Attributes:
        found: the GPUs that trials may use.
        error: why it says nothing.
    """

    found: Sequence[Gpu] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a framework says of itself in a process of its own.

    Attributes:
        version: its version; empty if it cannot be imported.
        gpus: names of those that it sees.
        has_cuda: whether its build could see any, as far as it tells.
        error: why it cannot be imported.
    """

    version: str = ""
    gpus: tuple[str, ...] = ()
    has_cuda: bool = True
    error: str = ""


def find_gpus() -> Gpus:
    """All GPUs that trials may use."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Gpus()
    command = [tool, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TOOL_LIMIT_S)
    except subprocess.TimeoutExpired:
        return Gpus(error=f"it does not answer within {_TOOL_LIMIT_S:.0f} s")
    if done.returncode:
        return Gpus(error=" ".join(f"{done.stdout} {done.stderr}".split()) or f"exit code {done.returncode}")
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    usable = environment.find_devices(None).ids
    found = [
        Gpu(uuid=uuid, name=name, driver=driver, percent=_number(percent), memory_mib=_number(used))
        for uuid, name, driver, percent, used in rows
        # CUDA_VISIBLE_DEVICES may name a GPU by the beginning of its UUID.
        if uuid.startswith(usable)
    ]
    return Gpus(found=found)


def _number(text: str) -> int:
    """Some GPUs do not tell some figures."""
    return int(text) if text.isdigit() else 0


def gpus(told: Gpus, has_driver: bool) -> Iterator[Check]:
    """The driver, and whether others use its GPUs."""
    found = told.found
    if told.error:
        fix = "mend the NVIDIA driver until nvidia-smi lists the GPUs"
        yield Check(name="GPUs", status=Level.PROBLEM, found=f"nvidia-smi fails: {told.error}.", fix=fix)
    elif not found and has_driver:
        text = "The NVIDIA driver is loaded, but nvidia-smi is not there or shows no GPU that may be used."
        fix = "put nvidia-smi on the PATH, and unset CUDA_VISIBLE_DEVICES"
        yield Check(name="GPUs", status=Level.WARNING, found=text, fix=fix)
    elif not found:
        yield Check(name="GPUs", found="There are no NVIDIA GPUs; trials run on the CPU.")
    else:
        yield _driver(found)
        yield from _gpu_load(found)


def _driver(found: Sequence[Gpu]) -> Check:
    driver = found[0].driver
    text = f"{_kinds(one.name for one in found)}, driver {driver}"
    if int(driver.partition(".")[0]) >= _LEAST_DRIVER:
        return Check(name="GPUs", found=f"{text}.")
    fix = f"install an NVIDIA driver of version {_LEAST_DRIVER} or newer"
    return Check(name="GPUs", status=Level.PROBLEM, found=f"{text}, which is too old for CUDA 12.", fix=fix)


def _gpu_load(found: Sequence[Gpu]) -> Iterator[Check]:
    busy = [one for one in found if one.percent > _BUSY_PERCENT or one.memory_mib > _BUSY_MIB]
    if busy:
        text = "; ".join(f"{one.uuid}: {one.percent} % busy, {one.memory_mib} MiB used" for one in busy)
        yield Check(name="GPU load", status=Level.WARNING, found=f"{text}.", fix="stop what nvidia-smi lists, or wait")


def probe_frameworks() -> dict[Framework, Probe]:
    """Imports each installed framework, all at once, each in a process of its own."""
    processes = {name: _start(name) for name in frameworks.installed()}
    end = time.monotonic() + PROBE_LIMIT_S
    return {name: _finish(process, end) for name, process in processes.items()}


def _start(framework: Framework) -> subprocess.Popen[str]:
    # JAX would take most of a GPU's memory from a trial that runs.
    variables = {"PYTHONSAFEPATH": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    settings = environment.ProcessSettings(name="doctor", variables=variables)
    return subprocess.Popen(
        [sys.executable, "-c", _PROBES[framework]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=settings.environment(os.environ),
    )


def _finish(process: subprocess.Popen[str], end: float) -> Probe:
    try:
        out, err = process.communicate(timeout=max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Probe(error=f"it did not answer within {PROBE_LIMIT_S:.0f} s")
    lines = (err.strip() or f"exit code {process.returncode}").splitlines()
    if process.returncode:
        return Probe(error=lines[-1][:200])
    version, names, has_cuda = json.loads(out.splitlines()[-1])
    return Probe(version=version, gpus=tuple(names), has_cuda=has_cuda)


def check_frameworks(probes: Mapping[Framework, Probe], found: Sequence[Gpu]) -> Iterator[Check]:
    """Whether each framework can be imported, and sees the GPUs that are here."""
    for framework in Framework:
        install = f"uv pip install 'algoperf-core[{framework.value}]'"
        if framework in probes:
            yield _framework(framework, probes[framework], found)
        elif probes:
            yield Check(name=framework.value, found="It is not installed; the other framework is.", fix=install)
        else:
            told = "It is not installed, nor is the other framework."
            yield Check(name=framework.value, status=Level.PROBLEM, found=told, fix=install)


def _framework(framework: Framework, probe: Probe, found: Sequence[Gpu]) -> Check:
    name = framework.value
    if probe.error:
        fix = f"uv pip install --reinstall 'algoperf-core[{name}]'"
        return Check(name=name, status=Level.PROBLEM, found=f"It cannot be imported: {probe.error}.", fix=fix)
    seen = _kinds(probe.gpus) if probe.gpus else "the CPU"
    if len(probe.gpus) >= len(found):
        return Check(name=name, found=f"{probe.version}, sees {seen}.")
    build = "" if probe.has_cuda else ", being a build for the CPU"
    told = f"{probe.version} sees only {seen}{build}; nvidia-smi shows {_kinds(one.name for one in found)}."
    return Check(name=name, status=Level.PROBLEM, found=told, fix=_CUDA_BUILD[framework])


def results(found: Sequence[Gpu]) -> Iterator[Check]:
    """What results of this machine would be good for, under each version of the rules."""
    for rules, reference in REFERENCE.items():
        fitting = [one for one in found if reference.matches(one.name, reference.count)]
        if len(fitting) >= reference.count:
            told = f"{ResultsStatus.OFFICIAL}, on {reference.title} (--devices {reference.count})."
        elif found:
            here = _kinds(one.name for one in found)
            told = (
                f"{ResultsStatus.COMPARABLE} at full scale, with those of the same GPUs: {here}, not {reference.title}."
            )
        else:
            told = f"{ResultsStatus.LOCAL}, for development: there is no GPU, and {reference.title} are asked for."
        yield Check(name=f"results under {rules}", found=told)


def _kinds(names: Iterable[str]) -> str:
    """Like 4× NVIDIA A100."""
    every = list(names)
    return " and ".join(f"{every.count(name)}× {name}" for name in dict.fromkeys(every))


def packages() -> Iterator[Check]:
    """Versions of our packages, and whether there is anything to train."""
    versions = {
        name: one.version for one in distributions() if (name := one.metadata["Name"] or "").startswith("algoperf-")
    }
    yield Check(name="packages", found=", ".join(f"{name} {versions[name]}" for name in sorted(versions)) + ".")
    if not registry.workload_names():
        fix = "uv pip install algoperf-workload-ogbg"
        yield Check(name="workloads", status=Level.WARNING, found="No workload is installed.", fix=fix)


def data(data_dir: Path) -> Iterator[Check]:
    """What is on disk of each data set; variants of a workload share theirs."""
    specs = [registry.workload_spec(name) for name in registry.workload_names()]
    scaled = (spec.at(scale) for spec in specs for scale in spec.scales)
    shared: dict[str, WorkloadSpec] = {}
    for spec in scaled:
        shared.setdefault(spec.dataset.name or spec.name, spec)
    for spec in shared.values():
        yield _data(spec, data_dir)


def _data(spec: WorkloadSpec, data_dir: Path) -> Check:
    name = f"data of {spec.name}, {spec.scale.value}"
    try:
        found = preparation.status(spec, data_dir)
    except DataError as error:
        return Check(name=name, status=Level.PROBLEM, found=str(error), fix=preparation.prepare_command(spec))
    if found.state in ("generated", "prepared"):
        return Check(name=name, found=f"It is {found.state}.")
    # Few need the data of everything at full scale; mini data is made in no time, when it is needed.
    level = Level.WARNING if spec.scale is Scale.FULL or found.state == "unfinished" else Level.OK
    return Check(name=name, status=level, found=f"It is {found.state}.", fix=preparation.prepare_command(spec))


def executors() -> Iterator[Check]:
    """What could run trials on several machines."""
    ray, submitit = (importlib.util.find_spec(name) is not None for name in ("ray", "submitit"))
    there = [*["ray"] * ray, *["submitit"] * submitit, *["sbatch"] * bool(shutil.which("sbatch"))]
    told = (
        f"Besides this machine there are: {', '.join(there)}." if there else "Trials can be run on this machine alone."
    )
    missing = [*["ray"] * (not ray), *["slurm"] * (not submitit)]
    fix = f"for clusters: uv pip install 'algoperf-orchestrator[{','.join(missing)}]'" if missing else ""
    yield Check(name="executors", found=told, fix=fix)


def variables(shell: Mapping[str, Any], decisive: tuple[str, ...]) -> Iterator[Check]:
    """Variables of the shell that trials are not given, and those that change results or speed.

    Args:
        shell: its variables.
        decisive: how names begin of those that are recorded with each trial.
    """
    removed = sorted(set(shell) & set(environment.REMOVED))
    kept = sorted(name for name in shell if name.startswith(decisive) and name not in removed)
    parts = []
    if removed:
        parts.append(f"Trials are not given {', '.join(removed)}.")
    if kept:
        told = ", ".join(f"{name}={shell[name]}" for name in kept)
        parts.append(f"Trials are given, and their records name, what may change results or speed: {told}.")
    fix = f"to be rid of it: unset {' '.join(kept)}" if kept else ""
    yield Check(name="environment", found=" ".join(parts) or "It sets nothing that changes results.", fix=fix)
