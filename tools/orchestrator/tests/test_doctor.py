"""What `doctor` finds: each check on made-up machines, and all of them on this one."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from algoperf import registry
from algoperf.spec import Framework
from algoperf_orchestrator import doctor, doctor_checks, doctor_processes, doctor_software, processes
from algoperf_orchestrator.doctor_checks import Check, Level, Mount
from algoperf_orchestrator.doctor_processes import Busy, Marked
from algoperf_orchestrator.doctor_software import Gpu, Gpus, Probe

GIB = 2**30
A100 = "NVIDIA A100-SXM4-40GB"
FOUR = [Gpu(uuid=f"GPU-{number}", name=A100, driver="570.1", percent=0, memory_mib=4) for number in range(4)]


def levels(checks: Iterable[Check]) -> list[tuple[str, str]]:
    """Names and statuses; what is wrong has a fix and a sentence."""
    found = list(checks)
    for one in found:
        assert one.found.endswith(".")
        assert one.fix or one.status is Level.OK
    return [(one.name, one.status.value) for one in found]


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("Linux", (3, 11), ["ok", "ok"]),
        ("Linux", (3, 13), ["ok", "ok"]),
        ("Linux", (3, 14), ["ok", "problem"]),
        ("Darwin", (3, 10), ["warning", "problem"]),
    ],
)
def test_system(name: str, version: tuple[int, int], expected: list[str]) -> None:
    assert [status for _, status in levels(doctor_checks.system(name, version, "<3.14,>=3.11"))] == expected


@pytest.mark.parametrize(
    ("cores", "total", "available", "expected"),
    [(8, 64, 32, "ok"), (64, 64, 32, "warning"), (2, 64, 3, "warning"), (2, 64, 0.5, "problem")],
)
def test_memory(cores: int, total: float, available: float, expected: str) -> None:
    checks = doctor_checks.memory(cores, int(total * GIB), int(available * GIB))
    assert levels(checks) == [("cores", "ok"), ("memory", expected)]


@pytest.mark.parametrize(("free", "expected"), [(100, "ok"), (5, "warning"), (0.5, "problem")])
def test_space(tmp_path: Path, free: float, expected: str) -> None:
    assert levels([doctor_checks.space("data folder", tmp_path, int(free * GIB))]) == [("data folder", expected)]


def test_a_folder_that_is_to_be_made_is_not_made(tmp_path: Path) -> None:
    assert doctor_checks.writable("here", tmp_path / "a" / "b").status is Level.OK
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert levels(doctor_checks.folder("here", tmp_path / "file" / "a")) == [("here", "problem")]


@pytest.mark.parametrize(
    ("kind", "expected"), [("nfs4", "warning"), ("lustre", "warning"), ("fuse.sshfs", "warning"), ("ext4", "ok")]
)
def test_the_ledger_belongs_on_a_local_disk(tmp_path: Path, kind: str, expected: str) -> None:
    mounted = [
        Mount(point=Path("/"), kind="nfs"),
        Mount(point=tmp_path, kind="ext4"),
        Mount(point=tmp_path / "a", kind="hidden"),
        Mount(point=tmp_path / "a", kind=kind),
        Mount(point=tmp_path / "ab", kind="nfs"),
    ]
    (check,) = doctor_checks.network(tmp_path / "a" / "experiment", mounted)
    assert check.status == expected
    assert ("same machine" in check.fix) == (expected == "warning")


@pytest.mark.parametrize(
    ("resolution_s", "forward", "synchronised", "expected"),
    [
        (1e-9, True, True, ["ok", "ok"]),
        (1e-9, True, None, ["ok", "ok"]),
        (1e-9, True, False, ["ok", "warning"]),
        (0.015, True, True, ["warning", "ok"]),
        (1e-9, False, True, ["problem", "ok"]),
    ],
)
def test_clock(resolution_s: float, forward: bool, synchronised: bool | None, expected: list[str]) -> None:
    assert [status for _, status in levels(doctor_checks.clock(resolution_s, forward, synchronised))] == expected


@pytest.mark.parametrize(("answer", "expected"), [("yes\n", True), ("no\n", False), ("", None)])
def test_timedatectl_is_asked(monkeypatch: pytest.MonkeyPatch, answer: str, expected: bool | None) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("pathlib.Path.exists", lambda path: False)
    pretend(monkeypatch, {"timedatectl": answer})
    assert doctor_checks._is_synchronised() is expected


@pytest.mark.parametrize(
    ("used", "cores", "expected"), [(0.1, 2, "ok"), (0.6, 2, "warning"), (2.0, 64, "ok"), (8.0, 64, "warning")]
)
def test_load(used: float, cores: int, expected: str) -> None:
    (check,) = doctor_processes.load(
        used, [Busy(name="idle", pid=1, cores=0), Busy(name="cc", pid=7, cores=used)], cores
    )
    assert check.status == expected
    assert ("cc (pid 7)" in check.found) == (expected == "warning")
    assert "idle" not in check.found


def test_processes_that_nobody_watches_are_named() -> None:
    mine, other = Path("/experiment/mine"), Path("/experiment/other")
    marked = [
        Marked(pid=7, folder=mine, is_supervised=True),
        Marked(pid=8, folder=mine, is_supervised=False),
        Marked(pid=12, folder=other, is_supervised=False),
        Marked(pid=11, folder=other, is_supervised=False),
    ]
    (check,) = doctor_processes.stale(marked)
    assert (check.status, check.fix) == (Level.WARNING, "kill 11 12")
    assert str(other) in check.found
    assert levels(doctor_processes.stale([])) == [("left-over processes", "ok")]


def test_a_left_over_process_is_found(tmp_path: Path) -> None:
    """One is a child of this test, which watches it; the other's parent has ended."""
    sleep = f"{sys.executable} -c 'import time; time.sleep(60)'"
    for name, command in (("watched", f"exec {sleep}"), ("left", f"setsid {sleep} >/dev/null 2>&1 & echo $!")):
        variables = {**os.environ, processes.MARK: str(tmp_path / name)}
        child = subprocess.Popen(["/bin/sh", "-c", command], stdout=subprocess.PIPE, text=True, env=variables)
        if name == "left":
            left = int(child.communicate()[0])
        else:
            watched = child
    try:
        named: list[Check] = []
        end = time.monotonic() + 10
        while not named and time.monotonic() < end:
            named = [one for one in doctor_processes.this_stale() if str(tmp_path) in one.found]
        (check,) = named
        assert str(tmp_path / "left") in check.found
        assert str(left) in check.fix.split()
    finally:
        os.kill(left, 9)
        watched.kill()
        watched.communicate()


def test_without_gpus_results_are_local() -> None:
    assert levels(doctor_software.gpus(Gpus(), has_driver=False)) == [("GPUs", "ok")]
    assert levels(doctor_software.gpus(Gpus(), has_driver=True)) == [("GPUs", "warning")]
    assert {check.found.split(",")[0] for check in doctor_software.results([])} == {"local"}


def test_reference_accelerators_give_official_results() -> None:
    found = {check.name: check.found for check in doctor_software.results(FOUR)}
    assert found["results under v1.0"] == "official, on 4× NVIDIA A100 40 GB (--devices 4)."
    assert found["results under v0.6"].startswith(f"comparable at full scale, with those of the same GPUs: 4× {A100}")
    found = {check.name: check.found for check in doctor_software.results(FOUR[:3])}
    assert found["results under v1.0"].startswith("comparable")


def test_an_old_driver_and_a_busy_gpu() -> None:
    old = [Gpu(uuid="GPU-0", name=A100, driver="470.82", percent=97, memory_mib=30_000)]
    assert levels(doctor_software.gpus(Gpus(found=old), has_driver=True)) == [
        ("GPUs", "problem"),
        ("GPU load", "warning"),
    ]
    assert levels(doctor_software.gpus(Gpus(found=FOUR), has_driver=True)) == [("GPUs", "ok")]
    (check,) = doctor_software.gpus(Gpus(error="no devices were found"), has_driver=True)
    assert (check.status, check.found) == (Level.PROBLEM, "nvidia-smi fails: no devices were found.")


def test_nvidia_smi_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = "".join(f"GPU {number}: NVIDIA A100 (UUID: GPU-{number})\n" for number in range(3))
    rows = "".join(f"GPU-{number}, {A100}, 570.1, [N/A], 12\n" for number in range(3))
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    pretend(monkeypatch, {"-L": listed, "--query-gpu": rows})
    found = doctor_software.find_gpus()
    assert [(one.uuid, one.name, one.driver, one.percent, one.memory_mib) for one in found.found] == [
        (f"GPU-{number}", A100, "570.1", 0, 12) for number in (0, 2)
    ]
    pretend(monkeypatch, {"--query-gpu": "Failed to initialize NVML\n"}, code=9)
    assert doctor_software.find_gpus() == Gpus(error="Failed to initialize NVML")


def test_a_cpu_build_beside_gpus_is_a_problem() -> None:
    seeing = Probe(version="1.0", gpus=(A100,) * 4)
    blind = Probe(version="1.0+cpu", has_cuda=False)
    jax, pytorch = doctor_software.check_frameworks({Framework.JAX: blind, Framework.PYTORCH: seeing}, FOUR)
    assert (jax.status, jax.fix) == (Level.PROBLEM, "uv pip install 'algoperf-core[jax-cuda]'")
    assert jax.found == f"1.0+cpu sees only the CPU, being a build for the CPU; nvidia-smi shows 4× {A100}."
    assert (pytorch.status, pytorch.found) == (Level.OK, f"1.0, sees 4× {A100}.")
    checks = list(doctor_software.check_frameworks({Framework.PYTORCH: blind}, FOUR))
    assert levels(checks) == [("jax", "ok"), ("pytorch", "problem")]
    assert "torch" in checks[1].fix
    assert levels(doctor_software.check_frameworks({}, [])) == [("jax", "problem"), ("pytorch", "problem")]


def test_a_framework_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("algoperf_orchestrator.frameworks.installed", lambda: [Framework.JAX, Framework.PYTORCH])
    broken = {Framework.JAX: "import nothing_of_this_name", Framework.PYTORCH: "import time; time.sleep(60)"}
    monkeypatch.setattr(doctor_software, "_PROBES", broken)
    monkeypatch.setattr(doctor_software, "PROBE_LIMIT_S", 2.0)
    probes = doctor_software.probe_frameworks()
    assert probes[Framework.JAX].error == "ModuleNotFoundError: No module named 'nothing_of_this_name'"
    assert probes[Framework.PYTORCH].error == "it did not answer within 2 s"
    assert levels(doctor_software.check_frameworks(probes, [])) == [("jax", "problem"), ("pytorch", "problem")]


def test_data(tmp_path: Path) -> None:
    checks = {check.name: check for check in doctor_software.data(tmp_path)}
    full, mini = checks["data of ogbg, full"], checks["data of ogbg, mini"]
    assert (full.status, full.fix) == (Level.WARNING, "algoperf-orchestrate data prepare ogbg --scale full")
    assert (mini.status, mini.fix) == (Level.OK, "algoperf-orchestrate data prepare ogbg --scale mini")


def test_damaged_data_is_a_problem(tmp_path: Path) -> None:
    folder = tmp_path / registry.workload_spec("ogbg").dataset.name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    statuses = {check.name: check.status for check in doctor_software.data(tmp_path)}
    assert statuses["data of ogbg, full"] is Level.PROBLEM


def test_variables_of_the_shell() -> None:
    shell = {"PYTHONHASHSEED": "0", "XLA_FLAGS": "--xla_x", "HOME": "here", "JAX_ENABLE_X64": "1"}
    (check,) = doctor_software.variables(shell, ("JAX_", "XLA_"))
    assert check.found.startswith("Trials are not given JAX_ENABLE_X64, PYTHONHASHSEED.")
    assert check.found.endswith("XLA_FLAGS=--xla_x.")
    assert check.fix.endswith("unset XLA_FLAGS")
    (check,) = doctor_software.variables({"HOME": "here"}, ("JAX_",))
    assert (check.status, check.fix) == (Level.OK, "")


def test_a_check_that_fails_is_a_problem_and_stops_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails() -> Iterator[Check]:
        yield Check(name="first", found="It works.")
        raise KeyError("what")

    fine = ("fine", lambda: [Check(name="fine", found="It works.")])
    monkeypatch.setattr(doctor, "_looks", lambda place: [("broken", fails), fine])
    found = doctor.examine(doctor.Place(tmp_path, None))
    assert [(one.name, one.status.value) for one in found] == [("first", "ok"), ("broken", "problem"), ("fine", "ok")]
    assert found[1].found == "this check itself failed: KeyError: 'what'"
    assert doctor.worst(found) is Level.PROBLEM
    assert doctor.worst([]) is Level.OK


@pytest.mark.parametrize(("status", "code"), [(Level.OK, 0), (Level.WARNING, 0), (Level.PROBLEM, 1)])
def test_what_is_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], status: Level, code: int
) -> None:
    found = [Check(name="thing", status=status, found="It is [bold] so.", fix="mend it")]
    monkeypatch.setattr(doctor, "examine", lambda place: found)
    assert doctor.doctor(tmp_path, None, True) == code
    assert json.loads(capsys.readouterr().out) == {
        "checks": [{"name": "thing", "status": status.value, "found": "It is [bold] so.", "fix": "mend it"}],
        "worst": status.value,
    }
    assert doctor.doctor(tmp_path, None, False) == code
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split() == [status.value, "thing", "It", "is", "[bold]", "so.", "mend", "it"]


def test_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor.doctor(tmp_path / "data", tmp_path / "experiment", True)
    told = json.loads(capsys.readouterr().out)
    assert code == (told["worst"] == "problem")
    checks = {one["name"]: one for one in told["checks"]}
    assert not [one for one in checks.values() if "itself failed" in one["found"]]
    assert all(one["fix"] for one in checks.values() if one["status"] != "ok")
    assert {"load", "Python", "memory", "clock", "jax", "pytorch", "experiment", "leases"} <= set(checks)
    assert (checks["jax"]["status"], checks["pytorch"]["status"]) == ("ok", "ok")
    assert list(tmp_path.iterdir()) == []


def pretend(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str], code: int = 0) -> None:
    """Programs that answer by the first word of theirs that is known."""

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        text = next(text for word, text in answers.items() if any(part.startswith(word) for part in command))
        return subprocess.CompletedProcess(command, code, stdout=text, stderr="")

    monkeypatch.setattr("subprocess.run", run)
