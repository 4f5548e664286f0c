"""What metadata files say about where logs come from."""

import json

import pytest

from algoperf_scoring import logs, provenance
from algoperf_scoring.anomalies import Kind
from algoperf_scoring.rules import published

RULES = published("v0.6")
# As the public implementation writes it.
PUBLIC = {
    "workload.validation_target_value": 30.8491,
    "gpu_model_name": "Tesla V100-SXM2-16GB",
    "gpu_count": 8,
    "gpu_driver": "550.90.12",
    "cpu_model_name": "Intel(R) Xeon(R) CPU @ 2.00GHz",
    "python_version": "3.11.10",
    "hostname": "secret.example.org",
    "git_commit_hash": "0123",
}
# As this project writes it.
OURS = {
    "workload.target": {"metric": "bleu", "goal": "max", "validation": 30.8491, "test": 30.7219},
    "device_kind": "NVIDIA A100",
    "device_count": 4,
    "clock": "wall",
    "versions": {"jax": "0.9.0", "algoperf": "1.0.0"},
}


def write(root, submission, number, metadata, framework="jax"):
    """Writes a trial of wmt; metadata are an object, or what the file holds, or None for no file."""
    trial = root / submission / "study_0" / f"wmt_{framework}" / f"trial_{number}"
    trial.mkdir(parents=True)
    (trial / "eval_measurements.csv").write_text("global_step,score,validation/bleu\n1,5.0,1.0\n")
    if isinstance(metadata, bytes):
        (trial / "meta_data_0.json").write_bytes(metadata)
    elif metadata is not None:
        (trial / "meta_data_0.json").write_text(json.dumps(metadata))
    return trial


def read(root):
    return provenance.read(logs.read([root], RULES, "external"))


def test_machines_are_counted_most_first(tmp_path):
    for number in (1, 2, 3):
        write(tmp_path, "adam", number, OURS)
    for number in (1, 2, 3, 4):
        write(tmp_path, "sgd", number, PUBLIC, "pytorch")
    write(tmp_path, "adam", 4, OURS | {"device_count": 8})
    found = read(tmp_path)
    ours = {"submission": "adam", "framework": "jax", "device_kind": "NVIDIA A100", "clock": "wall"}
    versions = OURS["versions"]
    assert found.machines == [
        {"submission": "sgd", "framework": "pytorch", "trials": 4}
        | {name: PUBLIC[name] for name in PUBLIC if name.startswith(("gpu", "cpu", "python"))},
        {**ours, "device_count": 4, **versions, "trials": 3},
        {**ours, "device_count": 8, **versions, "trials": 1},
    ]
    assert found.anomalies == []
    # Names of hosts and other facts are not for a report.
    assert "secret" not in json.dumps(found.machines)


@pytest.mark.parametrize(
    "metadata",
    [None, b"", b"{", b"[1, 2]", b"null", b'"text"', b"\xff\xfe{}", b'{"clock": "wall"', b"[" * 100_000],
    ids=["missing", "empty", "cut", "list", "null", "text", "encoding", "torn", "deep"],
)
def test_damaged_metadata_says_nothing(tmp_path, metadata):
    write(tmp_path, "adam", 1, metadata)
    found = read(tmp_path)
    assert found.machines == [{"submission": "adam", "framework": "jax", "trials": 1}]
    assert found.anomalies == []


@pytest.mark.parametrize("versions", [None, "1.0", ["jax"], 3])
def test_versions_that_are_no_mapping(tmp_path, versions):
    write(tmp_path, "adam", 1, {"clock": "wall", "versions": versions})
    assert read(tmp_path).machines == [{"submission": "adam", "framework": "jax", "clock": "wall", "trials": 1}]


@pytest.mark.parametrize(
    "metadata",
    [{"workload.validation_target_value": 29.5}, {"workload.target": {"validation": 29.5}}],
    ids=["public", "ours"],
)
def test_other_target(tmp_path, metadata):
    trial = write(tmp_path, "adam", 1, metadata)
    write(tmp_path, "adam", 2, PUBLIC)
    write(tmp_path, "adam", 3, OURS)
    (anomaly,) = read(tmp_path).anomalies
    assert (anomaly.path, anomaly.kind) == (trial.resolve(), Kind.OTHER_TARGET)
    assert anomaly.detail == "29.5; it is scored by 30.8491"


@pytest.mark.parametrize(
    "metadata",
    [{"workload.validation_target_value": "unknown"}, {"workload.target": {"test": 1.0}}, {"workload.target": 5}],
)
def test_target_that_is_not_told(tmp_path, metadata):
    write(tmp_path, "adam", 1, metadata)
    assert read(tmp_path).anomalies == []


def test_other_clock(tmp_path):
    trial = write(tmp_path, "adam", 1, OURS | {"clock": "virtual"})
    write(tmp_path, "adam", 2, OURS)
    write(tmp_path, "adam", 3, {})
    found = read(tmp_path)
    assert [(one.path, one.kind, one.detail) for one in found.anomalies] == [
        (trial.resolve(), Kind.OTHER_CLOCK, "virtual")
    ]
    assert [machine.get("clock") for machine in found.machines] == ["virtual", "wall", None]


def test_what_a_version_is_called_does_not_hide_what_the_path_says(tmp_path):
    write(tmp_path, "adam", 1, {"versions": {"submission": "1.0", "framework": "2.0", "trials": "3.0"}})
    (machine,) = read(tmp_path).machines
    assert (machine["submission"], machine["framework"], machine["trials"]) == ("adam", "jax", 1)


def test_another_budget_and_another_ruleset_are_reported(tmp_path):
    trial = write(tmp_path, "adam", 1, PUBLIC | {"workload.max_allowed_runtime_sec": 48151})
    (trial / "flags_0.json").write_text(json.dumps({"tuning_ruleset": "self"}))
    other = write(tmp_path, "adam", 2, PUBLIC | {"workload.max_allowed_runtime_sec": 43336})
    (other / "flags_0.json").write_text(json.dumps({"ruleset": "external"}))
    found = [(one.path, one.kind, one.detail) for one in read(tmp_path).anomalies]
    assert found == [
        (trial, Kind.OTHER_BUDGET, "48151 s; it is scored by 43336 s"),
        (trial, Kind.OTHER_RULESET, "self"),
    ]
