"""What results of a trial are good for, by where it ran."""

from dataclasses import replace

import pytest

from algoperf.spec import Framework, Scale, TuningRuleset
from algoperf.trial_config import TrialConfig
from algoperf_orchestrator import profiles

FULL = TrialConfig(
    workload="ogbg",
    scale=Scale.FULL,
    framework=Framework.JAX,
    submission="nadamw",
    ruleset=TuningRuleset.SELF,
    rules="v1.0",
    seed=0,
    max_runtime_s=1.0,
)
A100, V100 = "NVIDIA A100-SXM4-40GB", "Tesla V100-SXM2-16GB"


@pytest.mark.parametrize(
    ("rules", "kind", "count", "expected"),
    [
        ("v1.0", A100, 4, "official"),
        ("v0.6", V100, 8, "official"),
        ("v0.5", V100, 8, "official"),
        ("v1.0", V100, 8, "comparable"),
        ("v0.6", A100, 4, "comparable"),
        ("v1.0", A100, 8, "comparable"),
        ("v1.0", "NVIDIA A100-SXM4-80GB", 4, "comparable"),
        ("v1.0", f"{A100} MIG 1g.5gb", 4, "comparable"),
        ("v1.0", "NVIDIA H100 80GB HBM3", 4, "comparable"),
    ],
)
def test_gpus(rules: str, kind: str, count: int, expected: str) -> None:
    hardware = {"device_kind": kind, "device_count": count, "device_platform": "gpu"}
    status, why = profiles.status(replace(FULL, rules=rules), hardware)
    assert status.value == expected
    assert why == profiles.REFERENCE[rules].title or why.startswith(f"{count}× {kind} instead of")


@pytest.mark.parametrize(
    ("changes", "platform", "why"),
    [
        ({"scale": Scale.MINI}, "gpu", "mini scale"),
        ({"clock": "virtual"}, "gpu", "virtual clock"),
        ({}, "cpu", f"no GPU, but {A100}"),
    ],
)
def test_what_is_for_development(changes: dict[str, object], platform: str, why: str) -> None:
    hardware = {"device_kind": A100, "device_count": 4, "device_platform": platform}
    assert profiles.status(replace(FULL, **changes), hardware) == ("local", why)  # type: ignore[arg-type]
