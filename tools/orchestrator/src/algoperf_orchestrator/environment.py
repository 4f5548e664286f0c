"""The settings of a trial's process that change its results or its speed, as data.

They are set before the process starts, because the frameworks read them when they are imported, and
so that neither a submission nor the shell that a trial is started from decides them.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from algoperf.spec import Framework

# Whatever the shell says about these is not for a trial.
REMOVED = (
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_ENABLE_X64",
    "JAX_THREEFRY_PARTITIONABLE",
    "LOCAL_RANK",
    "NVIDIA_TF32_OVERRIDE",
    "PYTHONHASHSEED",
    "RANK",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "WORLD_SIZE",
)

# As `nvidia-smi -L` prints them.
_UUID = re.compile(r"^GPU .*\(UUID: ([^)]+)\)", re.MULTILINE)

# A file beside which a trial is started must not stand in for an installed package.
_ALWAYS = {"PYTHONSAFEPATH": "1"}
# Spinning threads doubled PyTorch's step time on busy machines.
_CPU = {"OMP_WAIT_POLICY": "PASSIVE"}
# Per rules version and framework. v1.0 multiplies float32 matrices of PyTorch in TF32, as
# `torch.set_float32_matmul_precision("high")` does; JAX does so by default. v0.6's GPUs cannot.
_CUDA: Mapping[tuple[str, Framework], Mapping[str, str]] = {
    ("v1.0", Framework.PYTORCH): {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
}


@dataclass(frozen=True, kw_only=True)
class Devices:
    """The devices of one trial.

    Attributes:
        kind: what they are.
        ids: UUIDs of the CUDA devices, as in `CUDA_VISIBLE_DEVICES`.
        count: how many; on the CPU, how many are pretended.
    """

    kind: Literal["cpu", "cuda"]
    ids: tuple[str, ...] = ()
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    """A named profile.

    Attributes:
        name: rules version, framework and kind of device, e.g. "v1.0-pytorch-cuda".
        variables: environment variables that it sets.
    """

    name: str
    variables: Mapping[str, str]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """A process's environment: what it inherits, less `REMOVED`, and the settings."""
        kept = {name: value for name, value in inherited.items() if name not in REMOVED}
        return kept | dict(self.variables)


def process_settings(framework: Framework, rules: str, devices: Devices) -> ProcessSettings:
    """The profile for a trial."""
    variables = dict(_ALWAYS)
    if devices.kind == "cuda":
        variables |= _CUDA.get((rules, framework), {})
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(devices.ids)
    else:
        variables |= _CPU
        if devices.count > 1 and framework is Framework.JAX:
            variables["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices.count}"
    if devices.count > 1 and framework is Framework.PYTORCH:
        threads = max(1, (os.cpu_count() or 1) // devices.count)
        variables["OMP_NUM_THREADS"] = str(threads)
    return ProcessSettings(name=f"{rules}-{framework.value}-{devices.kind}", variables=variables)


def find_devices(requested: int | None) -> Devices:
    """The first `requested` CUDA devices, or all; without any the CPU, which can be several."""
    if requested is not None and requested < 1:
        raise ValueError(f"--devices is {requested}; ask for at least 1.")
    found = _cuda_devices()
    if not found:
        return Devices(kind="cpu", count=requested or 1)
    if requested is not None and requested > len(found):
        raise ValueError(f"--devices asks for {requested} but {len(found)} are here; ask for fewer.")
    chosen = found[:requested]
    return Devices(kind="cuda", ids=chosen, count=len(chosen))


def _cuda_devices() -> tuple[str, ...]:
    """UUIDs of the GPUs that this process may use, in the driver's order."""
    # Not through a framework: importing one takes seconds, and would take memory on the devices.
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    output = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False).stdout
    present = tuple(_UUID.findall(output))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not present:
        return present
    names = [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return tuple(present[int(name)] if name.isdigit() and int(name) < len(present) else name for name in names)


def default_data_dir() -> Path:
    """Where prepared data lies unless `--data-dir` or `ALGOPERF_DATA` says otherwise."""
    from platformdirs import user_data_path

    return user_data_path("algoperf") / "data"
