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


def test_trials_on_other_data_or_with_another_tokenizer_are_reported(tmp_path):
    recorded = {"workload.dataset": {"recorded": {"tokenizer_sha256": "tokenizer.model"}}}
    most = OURS | recorded | {"data_sha256": "aa" * 32, "tokenizer_sha256": "bb" * 32}
    for number in (1, 2):
        write(tmp_path, "adam", number, most | {"submission_sha256": "11" * 32})
    other = write(tmp_path, "sgd", 1, most | {"data_sha256": "cc" * 32, "submission_sha256": "22" * 32})
    moved = write(tmp_path, "sgd", 2, most)
    (moved / "meta_data_1.json").write_text(json.dumps(most | {"tokenizer_sha256": "dd" * 32}))
    write(tmp_path, "sgd", 3, OURS | {"data_sha256": None, "workload.dataset": "text"})
    found = [(one.path, one.kind, one.detail) for one in read(tmp_path).anomalies]
    assert found == [
        (other.resolve(), Kind.OTHER_DATA, "data_sha256 cccccccc…, in most aaaaaaaa…"),
        (moved.resolve(), Kind.OTHER_DATA, "tokenizer_sha256 dddddddd…, in most bbbbbbbb…"),
    ]


def says(status, reason="", **other):
    return {"results_status": status, "results_status_reason": reason, **other}


A100 = {"device_kind": "NVIDIA A100", "device_count": 4}
H100 = {"device_kind": "NVIDIA H100", "device_count": 4}


@pytest.mark.parametrize(
    ("told", "status", "sentence"),
    [
        ([says("official", "4× A100")] * 2, "official", "Results: official (4× A100)."),
        ([says("official", "4× A100"), PUBLIC], "unknown", "Results: unknown whether official; the logs do not say."),
        (
            [says("official", "4× A100"), says("comparable", "4× H100 instead")],
            "comparable",
            "Results: comparable (4× H100 instead in 1 of 2 trials); compare them only with results of the same GPUs.",
        ),
        (
            [says("local", "mini scale")],
            "local",
            "Results: local (mini scale); compare them only with each other.",
        ),
        (
            [says("local", "mini scale"), PUBLIC, says("official", "4× A100")],
            "local",
            "Results: local (mini scale in 1 of 3 trials); compare them only with each other.",
        ),
        ([None], "unknown", "Results: unknown whether official; the logs do not say."),
        ([says("splendid", "I say so")], "unknown", "Results: unknown whether official; the logs do not say."),
        ([says(["official"])], "unknown", "Results: unknown whether official; the logs do not say."),
        ([says("local", None)], "local", "Results: local (None); compare them only with each other."),
    ],
)
def test_a_board_is_as_good_as_its_worst_trial(tmp_path, told, status, sentence):
    for number, metadata in enumerate(told, 1):
        write(tmp_path, "adam", number, metadata and {**metadata, **({} if metadata is PUBLIC else A100)})
    standing = provenance.standing(read(tmp_path).origins)
    assert standing.status == status
    assert standing.sentence == sentence or standing.sentence.startswith(f"{sentence} The machines differ")
    assert sum(standing.counts.values()) == len(told)


def test_a_comparable_board_says_that_its_machines_differ(tmp_path):
    for number, gpus in enumerate((A100, A100, H100), 1):
        write(tmp_path, "adam", number, says("comparable", "others", **gpus))
    standing = provenance.standing(read(tmp_path).origins)
    assert standing.accelerators == {"4× NVIDIA A100": 2, "4× NVIDIA H100": 1}
    assert "The machines differ (trials on 4× NVIDIA A100: 2; 4× NVIDIA H100: 1)" in standing.sentence
    same = provenance.standing(read(tmp_path).origins[:2])
    assert "differ" not in same.sentence


def test_a_trial_that_went_on_elsewhere_is_as_good_as_its_worst_start(tmp_path):
    trial = write(tmp_path, "adam", 1, says("official", "4× A100", hostname="one", **A100))
    (trial / "meta_data_1.json").write_text(json.dumps(says("comparable", "4× H100", hostname="two", **H100)))
    (trial / "meta_data_2.json").write_text(json.dumps(says("official", "4× A100", hostname="one", **A100)))
    (origin,) = read(tmp_path).origins
    assert (origin.status, origin.reason) == ("comparable", "4× H100")
    assert (origin.hosts, origin.accelerators) == (("one", "two"), ("4× NVIDIA A100", "4× NVIDIA H100"))


def test_a_virtual_clock_is_no_wall_clock(tmp_path):
    write(tmp_path, "adam", 1, OURS | {"clock": "virtual"})
    write(tmp_path, "adam", 2, {})
    assert [origin.is_wall_clock for origin in read(tmp_path).origins] == [False, True]


def test_official_under_other_rules_is_not_official_here(tmp_path):
    trial = write(tmp_path, "adam", 1, says("official", "4× A100"))
    (trial / "flags_0.json").write_text(json.dumps({"rules": "v1.0"}))
    (origin,) = read(tmp_path).origins
    assert (origin.status, origin.reason) == ("local", "run under rules v1.0")


def test_reasons_are_a_line_that_can_be_written(tmp_path):
    write(
        tmp_path, "adam", 1, b'{"results_status": "local", "results_status_reason": "a\\n\\ud800' + b"x" * 999 + b'"}'
    )
    (origin,) = read(tmp_path).origins
    assert origin.reason.startswith("a \\ud800xxx")
    assert len(origin.reason.encode()) == 200


def test_a_sentence_names_a_few_reasons(tmp_path):
    for number in range(1, 6):
        write(tmp_path, "adam", number, says("local", f"reason {number}"))
    standing = provenance.standing(read(tmp_path).origins)
    assert "reason 3 in 1 of 5 trials; 2 more); compare" in standing.sentence
    assert "reason 4" not in standing.sentence
    assert len(standing.as_data()["reasons"]) == 5


def test_of_no_trials_nobody_knows():
    standing = provenance.standing([])
    assert standing.as_data() == {"status": "unknown", "counts": {}, "reasons": [], "accelerators": {}}
