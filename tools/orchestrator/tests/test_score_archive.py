"""The commands `score` and `compare` on archives that `package` made: they say what they say of the experiment."""

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from algoperf import submission
from algoperf.records import TrialRecords
from algoperf.spec import Framework, Scale, TuningRuleset
from algoperf_orchestrator import archive, verdict
from algoperf_orchestrator.ledger import Ledger
from algoperf_orchestrator.plan import make_plan
from algoperf_orchestrator.suite import Suite

Cli = Callable[..., Any]
OUTCOME = {"end_reason": "steps", "seconds": {}}


def make_experiment(folder: Path, seconds: dict[str, float], code: Path) -> Path:
    """An experiment of finished trials on the toy workload: each reaches the target after so many seconds."""
    for name in seconds:
        shutil.copytree(code, folder.parent / "code" / name, dirs_exist_ok=True)
    plan = make_plan(
        Suite(
            submissions=tuple(str(folder.parent / "code" / name) for name in seconds),
            frameworks=(Framework.JAX,),
            ruleset=TuningRuleset.SELF,
            scale=Scale.MINI,
            workloads=("toy",),
            studies=2,
        )
    )
    folder.mkdir()
    (folder / "rules.json").write_text(json.dumps(dataclasses.asdict(plan.rules)))
    with Ledger(folder, create=True) as ledger:
        ledger.add(plan.trials)
        owner = ledger.register("local")
        for row in ledger.rows():
            number = ledger.claim(row, owner)
            assert number is not None
            records = TrialRecords(row.folder(folder))
            row.folder(folder).mkdir(parents=True)
            records.start(
                row.config.as_json(),
                {"submission_files": [], "submission_sha256": submission.content_hash(folder, ())},
                0,
                [],
            )
            for step, value in ((1, 0.1), (2, 1.0)):
                time_s = seconds[row.key.submission] * step / 2
                times = {"score": time_s, "accumulated_submission_time": time_s}
                records.append_evaluation({"global_step": step, "validation/accuracy": value, **times})
            records.finish(OUTCOME)
            ledger.end(row.id, number, verdict.of_outcome(OUTCOME))
    return folder


@pytest.fixture
def experiment(tmp_path: Path, sgd: Path) -> Path:
    return make_experiment(tmp_path / "e", {"quick": 4.0, "slow": 8.0}, sgd.parent)


@pytest.fixture
def packed(experiment: Path, tmp_path: Path) -> Path:
    return archive.package(experiment, tmp_path / "packed.tar.gz")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where archives are unpacked."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def without_paths(value: Any) -> Any:
    """A document without what says where the logs lay."""
    if isinstance(value, dict):
        return {name: without_paths(one) for name, one in value.items() if name not in ("path", "folder", "where")}
    return [without_paths(one) for one in value] if isinstance(value, list) else value


def test_an_archive_scores_as_its_experiment_does(
    cli: Cli, experiment: Path, packed: Path, temporary: Path, tmp_path: Path
) -> None:
    found = []
    for logs in (experiment, packed):
        result = cli("score", logs, "--json", "-", "--html", tmp_path / "page", "--csv", tmp_path / "tables")
        assert result.code == 0, result.err
        found.append(json.loads(result.out))
    assert without_paths(found[1]) == without_paths(found[0])
    assert found[1]["submissions"]["quick"]["score"] > found[1]["submissions"]["slow"]["score"]
    assert not any("stray" in json.dumps(one) for one in found[1]["anomalies"])
    assert list(temporary.iterdir()) == []


def test_folders_and_archives_are_scored_together(cli: Cli, packed: Path, tmp_path: Path, sgd: Path) -> None:
    other = make_experiment(tmp_path / "other", {"quick": 2.0}, sgd.parent)
    again = archive.package(other, tmp_path)
    result = cli("score", packed, again, "--json", "-")
    assert result.code == 0, result.err
    assert sorted(json.loads(result.out)["submissions"]) == ["other/quick", "packed/quick", "slow"]


def test_archives_of_one_submission_are_compared(
    cli: Cli, packed: Path, tmp_path: Path, sgd: Path, temporary: Path
) -> None:
    other = archive.package(make_experiment(tmp_path / "other", {"mine": 2.0}, sgd.parent), tmp_path)
    unpacked = tmp_path / "e" / "quick"
    result = cli("compare", other, unpacked)
    assert result.code == 0, result.err
    assert "mine is 2.000 times as fast as quick" in result.out
    result = cli("compare", other, packed)
    assert result.code == 2
    assert result.err == f"{packed} holds 2 submissions; unpack it and name one of them, such as {packed / 'quick'}.\n"
    assert list(temporary.iterdir()) == []


def test_a_damaged_archive_is_told_in_a_sentence(cli: Cli, packed: Path, tmp_path: Path, temporary: Path) -> None:
    packed.write_bytes(packed.read_bytes()[:-100])
    result = cli("score", packed)
    assert result.code == 2
    assert result.err.startswith(f"{packed} is damaged or no archive of an experiment")
    assert result.err.count("\n") == 1
    missing = cli("score", tmp_path / "none.tar.gz")
    assert missing.code == 2
    assert "none.tar.gz does not exist" in missing.err
    assert list(temporary.iterdir()) == []
