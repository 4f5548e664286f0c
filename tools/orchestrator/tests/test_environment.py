"""The process settings, and the devices that are found."""

import pytest

from algoperf.spec import Framework
from algoperf_orchestrator import environment
from algoperf_orchestrator.environment import Devices, find_devices, process_settings

CPU = Devices(kind="cpu")
GPUS = Devices(kind="cuda", ids=("0", "1"), count=2)


def test_the_shell_does_not_decide_what_changes_results() -> None:
    shell = dict.fromkeys(environment.REMOVED, "1") | {"HOME": "here", "OMP_WAIT_POLICY": "ACTIVE"}
    settings = process_settings(Framework.JAX, "v1.0", CPU)
    assert settings.name == "v1.0-jax-cpu"
    assert settings.environment(shell) == {
        "HOME": "here",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONSAFEPATH": "1",
    }


@pytest.mark.parametrize(("rules", "is_set"), [("v1.0", True), ("v0.6", False)])
def test_pytorch_multiplies_in_tf32_from_v1_on(rules: str, is_set: bool) -> None:
    settings = process_settings(Framework.PYTORCH, rules, GPUS)
    assert ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE" in settings.variables) is is_set
    assert settings.variables["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert settings.name == f"{rules}-pytorch-cuda"


@pytest.mark.parametrize(
    ("visible", "requested", "ids"),
    [
        (None, None, ("GPU-0", "GPU-1", "GPU-2")),
        (None, 2, ("GPU-0", "GPU-1")),
        ("2,1", None, ("GPU-2", "GPU-1")),
        ("GPU-1, MIG-7", None, ("GPU-1", "MIG-7")),
        ("", None, ()),
    ],
)
def test_cuda_devices(
    monkeypatch: pytest.MonkeyPatch, three_gpus: None, visible: str | None, requested: int | None, ids: tuple[str, ...]
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = find_devices(requested)
    assert found == (Devices(kind="cuda", ids=ids, count=len(ids)) if ids else CPU)


def test_more_devices_than_there_are(three_gpus: None) -> None:
    with pytest.raises(ValueError, match="asks for 4 but 3 are here"):
        find_devices(4)


def test_without_cuda_the_cpu_can_be_several() -> None:
    assert find_devices(None) == CPU
    assert find_devices(2) == Devices(kind="cpu", count=2)
    variables = process_settings(Framework.JAX, "v1.0", find_devices(2)).variables
    assert variables["XLA_FLAGS"] == "--xla_force_host_platform_device_count=2"
