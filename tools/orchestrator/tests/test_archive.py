"""Packed experiments: the same bytes each time, every change is named, and hostile ones do no harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import algoperf_baselines
from algoperf import submission
from algoperf.records import TrialRecords
from algoperf.spec import Framework, Scale
from algoperf.trial_config import TrialConfig
from algoperf_orchestrator import archive, archive_check, verdict
from algoperf_orchestrator.archive import package
from algoperf_orchestrator.archive_check import unpacked, verify
from algoperf_orchestrator.attempt import Attempt
from algoperf_orchestrator.ledger import Ledger, Row
from algoperf_orchestrator.planned import PlannedTrial
from algoperf_orchestrator.verdict import Cause, Verdict
from algoperf_scoring import find

POINT = {"learning_rate": 0.1, "beta": float("nan")}
BASELINES = Path(str(algoperf_baselines.__file__)).parent
MINE = ("parts.py", "submission.py")
ADAMW = ("__init__.py", "_jax.py", "adamw/__init__.py", "adamw/jax.py", "batch_sizes.py")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "somewhere" / "mine"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / ".venv").mkdir()
    for name in ("submission.py", "parts.py", "unused.py", "__pycache__/parts.pyc", ".venv/big.py"):
        (folder / name).write_text(f"# {name}\n")
    return folder


@pytest.fixture
def experiment(tmp_path: Path, code: Path) -> Path:
    """Trials: 1 and 2 of mine are done, 3 was refused, 4 is planned; adamw, which is installed, has one."""
    folder = tmp_path / "experiment"
    (folder / "report").mkdir(parents=True)
    (folder / "report" / "index.html").write_text("derived")
    (folder / "rules.json").write_text("{}")
    mine = [PlannedTrial(label="mine", config=config(str(code / "submission.py"), number)) for number in (1, 2, 3, 4)]
    with Ledger(folder, create=True) as ledger:
        ledger.add([*mine, PlannedTrial(label="adamw", config=config("adamw", 1))])
        owner = ledger.register("local")
        ran = {"mine": (code, MINE), "adamw": (BASELINES, ADAMW)}
        for row in ledger.rows():
            if (row.key.submission, row.key.trial) != ("mine", 4):
                number = ledger.claim(row, owner)
                assert number is not None
                ledger.end(row.id, number, write_logs(row, folder, *ran[row.key.submission]))
    return folder


def config(submission: str, trial: int) -> TrialConfig:
    return TrialConfig(
        workload="toy",
        scale=Scale.MINI,
        framework=Framework.JAX,
        submission=submission,
        seed=100 + trial,
        trial=trial,
        hyperparameters=POINT,
        max_runtime_s=20.0,
    )


def write_logs(row: Row, experiment: Path, code: Path, files: tuple[str, ...]) -> Verdict:
    folder = row.folder(experiment)
    folder.mkdir(parents=True)
    newest = Attempt(number=1, verdict=verdict.of_cause(Cause.REFUSED, "it has no update_params"))
    if row.key.trial != 3:
        records = TrialRecords(folder)
        ran = {"submission_files": files, "submission_sha256": submission.content_hash(code, files)}
        records.start(row.config.as_json(), ran, 0, [])
        records.append_evaluation({"global_step": 1, "validation/accuracy": 0.5})
        records.finish({"end_reason": "steps", "seconds": {}})
        newest.verdict = verdict.of_outcome({"end_reason": "steps"})
    newest.write(folder)
    for name in ("checkpoints/1/state.bin", ".lock", ".stop.1", "x.tmp", "stderr.log"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("secret" if name != "stderr.log" else "said")
    assert newest.verdict is not None
    return newest.verdict


TRIAL = "mine/study_0/toy_jax/trial_1"


def test_there_and_back(experiment: Path, tmp_path: Path) -> None:
    path = package(experiment, tmp_path)
    assert path == tmp_path / "experiment.tar.gz"
    assert verify(path) == []
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert names[:-1] == sorted(names[:-1])
    assert names[-1] == archive.SUMS
    assert {(one.uid, one.gid, one.uname, one.gname, one.mtime, one.mode) for one in members} == {
        (0, 0, "", "", 0, 0o644)
    }
    assert [name for name in names if name.startswith(".submissions/mine/")] == [
        f".submissions/mine/{name}.py" for name in ("parts", "submission", "unused")
    ]
    assert ".submissions/adamw/adamw/jax.py" in names
    assert [name.rpartition("/")[2] for name in names if name.startswith(f"{TRIAL}/")] == [
        "attempt.json",
        "eval_measurements.csv",
        "flags_0.json",
        "hparams.json",
        "meta_data_0.json",
        "stderr.log",
        "trial.json",
    ]
    assert not [name for name in names if name.startswith("report") or str(tmp_path) in name]
    with unpacked(path) as folder:
        for name in ("trial.json", "eval_measurements.csv"):
            assert (folder / TRIAL / name).read_bytes() == (experiment / TRIAL / name).read_bytes()
        assert verify(folder) == []
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", archive.SUMS], cwd=folder, check=True)
        assert "algoperf-orchestrator==" in (folder / "environment.txt").read_text()
        assert " @ " not in (folder / "environment.txt").read_text()
        # Whoever scores it sees the logs and nothing else.
        submissions, anomalies = find.submission_folders([folder])
        assert (list(submissions), anomalies) == (["adamw", "mine"], [])
    assert not folder.exists()
    with unpacked(experiment) as same:
        assert same == experiment


def test_the_same_bytes_again(experiment: Path, tmp_path: Path) -> None:
    first = package(experiment, tmp_path / "a.tar.gz")
    for path in experiment.rglob("*"):
        os.utime(path, (1, 1))
    (experiment / TRIAL / "stderr.log").chmod(0o600)
    second = package(experiment, tmp_path / "b.tar.gz")
    assert first.read_bytes() == second.read_bytes()
    assert package(experiment, first).read_bytes() == second.read_bytes()


def test_running_trials(experiment: Path, tmp_path: Path) -> None:
    with Ledger(experiment) as ledger:
        (planned,) = [row for row in ledger.rows() if row.state == "planned"]
        ledger.claim(planned, ledger.register("local"))
    with pytest.raises(ValueError, match=r"Trials are running .*trial_4.*--allow-running"):
        package(experiment, tmp_path)
    assert verify(package(experiment, tmp_path, allow_running=True)) == []


def test_what_cannot_be_packed(experiment: Path, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="neither a folder nor a name that ends"):
        package(experiment, tmp_path / "x.zip")
    monkeypatch.setattr(archive, "_MAX_CODE_FILES", 2)
    with pytest.raises(ValueError, match=r"The code of adamw in .* is more than 64 MiB or 2 files"):
        package(experiment, tmp_path)
    monkeypatch.undo()
    (experiment / TRIAL / "link").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="link is neither a file nor a folder"):
        package(experiment, tmp_path)
    (experiment / TRIAL / "link").unlink()
    (experiment / TRIAL / "two\nlines").touch()
    with pytest.raises(ValueError, match="no list of checksums"):
        package(experiment, tmp_path)
    (experiment / TRIAL / "two\nlines").unlink()
    (code / "submission.py").unlink()
    with pytest.raises(ValueError, match="There is no submission file"):
        package(experiment, tmp_path)
    assert not list(tmp_path.glob("*.tar.gz*"))


def test_an_experiment_beside_its_code(experiment: Path, code: Path, tmp_path: Path) -> None:
    shutil.move(experiment, code / "runs")
    first = package(code / "runs", code).read_bytes()
    assert package(code / "runs", code).read_bytes() == first
    with tarfile.open(code / "runs.tar.gz") as tar:
        assert not [name for name in tar.getnames() if name.startswith(".submissions/mine/runs")]


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """As a full disk: a write above it fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_what_was_there(experiment: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.tar.gz"
    target.parent.mkdir()
    before = package(experiment, target).read_bytes()
    (experiment / TRIAL / "stderr.log").write_bytes(os.urandom(4 << 20))
    with no_file_above(1 << 20), pytest.raises(OSError, match="File too large"):
        package(experiment, target)
    assert [path.name for path in target.parent.iterdir()] == ["a.tar.gz"]
    assert target.read_bytes() == before


Change = Callable[[Path], Any]


def edit_json(name: str, **values: Any) -> Change:
    def change(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**data, **values}))

    return change


def edit_ledger(**values: Any) -> Change:
    """Changes the first trial of the ledger."""

    def change(folder: Path) -> None:
        data = json.loads((folder / archive.LEDGER).read_text())
        row = data["trials"][0]
        row.update({name: {**row["config"], **value} if name == "config" else value for name, value in values.items()})
        (folder / archive.LEDGER).write_text(json.dumps(data))

    return change


@pytest.fixture
def opened(experiment: Path, tmp_path: Path) -> Path:
    with unpacked(package(experiment, tmp_path)) as folder:
        return shutil.copytree(folder, tmp_path / "opened")


def edit(name: str) -> Change:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + b"\n")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (edit(f"{TRIAL}/stderr.log"), f"{TRIAL}/stderr.log was changed."),
        (lambda folder: (folder / f"{TRIAL}/stderr.log").unlink(), f"{TRIAL}/stderr.log is missing."),
        (lambda folder: (folder / f"{TRIAL}/new").touch(), f"{TRIAL}/new is not in SHA256SUMS."),
        (lambda folder: (folder / "more").symlink_to("/"), "more is not in SHA256SUMS."),
        (lambda folder: (folder / archive.SUMS).unlink(), "SHA256SUMS is missing."),
        (lambda folder: (folder / archive.SUMS).write_bytes(b"\xff\n" * 3), "SHA256SUMS is damaged."),
    ],
)
def test_what_does_not_fit_its_sum_is_named(opened: Path, change: Change, problem: str) -> None:
    change(opened)
    assert verify(opened)[0] == problem


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (edit_ledger(reason="reached"), f"{TRIAL} ended with 'reached' in ledger.json, but with 'steps' in its logs."),
        (edit_ledger(config={"seed": 7}), f"{TRIAL} has seed 101 in trial.json, but 7 in ledger.json."),
        (edit_json(f"{TRIAL}/flags_0.json", seed=7), f"{TRIAL} has seed 7 in flags_0.json, but 101 in ledger.json."),
        (edit_json(f"{TRIAL}/hparams.json", beta=1), f"{TRIAL} has other hyperparameters in hparams.json than in "),
        (
            edit_json(f"{TRIAL}/trial.json", end_reason="budget"),
            f"{TRIAL} ended with 'steps' in ledger.json, but with 'b",
        ),
        (edit(".submissions/mine/parts.py"), f"{TRIAL} was run with other code than .submissions/mine ("),
        (
            edit_json(f"{TRIAL}/meta_data_0.json", submission_files=["../../ledger.json"]),
            f"{TRIAL} was run with other code than .submissions/mine (",
        ),
        (edit(".submissions/adamw/adamw/jax.py"), "adamw/study_0/toy_jax/trial_1 was run with other code than "),
        (lambda folder: shutil.rmtree(folder / TRIAL), f"{TRIAL} is done in ledger.json, but has no logs."),
        (lambda folder: shutil.copytree(folder / TRIAL, folder / f"{TRIAL}1"), f"{TRIAL}1 is not in ledger.json."),
        (lambda folder: (folder / archive.LEDGER).unlink(), "ledger.json is missing or damaged (KeyError"),
        (edit_ledger(submission="../../etc"), "ledger.json is missing or damaged (ValueError"),
        (edit_ledger(state="unheard of"), "ledger.json is missing or damaged (ValueError"),
    ],
)
def test_what_contradicts_the_plan_is_named(opened: Path, change: Change, problem: str) -> None:
    """Also where the sums were made anew."""
    change(opened)
    (opened / archive.SUMS).unlink()
    names = sorted(str(path.relative_to(opened)) for path in opened.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256((opened / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (opened / archive.SUMS).write_text("".join(lines))
    problems = verify(opened)
    assert any(one.startswith(problem) for one in problems), problems


def test_a_supervisors_verdict_is_compared(opened: Path) -> None:
    edit_json("mine/study_0/toy_jax/trial_3/attempt.json", verdict=None)(opened)
    assert "mine/study_0/toy_jax/trial_3 ended with 'refused' in ledger.json, but with None in its logs." in verify(
        opened
    )


def member(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b"x"
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(content) if kind == tarfile.REGTYPE else 0
    return info, content


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ([member("/tmp/absolute")], "outside of it"),
        ([member("a/../../up")], "outside of it"),
        ([member("a", tarfile.SYMTYPE, "/etc"), member("a/b")], "which is no file"),
        ([member("a"), member("b", tarfile.LNKTYPE, "a")], "which is no file"),
        ([member("a", tarfile.FIFOTYPE)], "which is no file"),
        ([member("a", tarfile.CHRTYPE)], "which is no file"),
        ([member("a"), member("./a")], "twice"),
        ([member("a"), member("a/b")], "twice"),
        ([member("a", content=bytes(200_000))], "unpacks to more than"),
        ([member("x" * 120_000)], "unpacks to more than"),
        ([member(str(number)) for number in range(11)], "unpacks to more than"),
    ],
)
def test_hostile_archives_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: list[tuple[tarfile.TarInfo, bytes]], match: str
) -> None:
    monkeypatch.setattr(archive_check, "_MAX_FILES", 10)
    monkeypatch.setattr(archive_check, "_MAX_BYTES", 150_000)
    monkeypatch.setattr(archive_check, "_MAX_READ", 100_000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with tarfile.open(tmp_path / "hostile.tar.gz", "w:gz") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content) if info.size else None)
    with pytest.raises(ValueError, match=match):
        verify(tmp_path / "hostile.tar.gz")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["hostile.tar.gz", "temporary"]


def test_damaged_archives_are_told_so(experiment: Path, tmp_path: Path) -> None:
    path = package(experiment, tmp_path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for damaged in (whole[: len(whole) // 2], bytes(flipped), b"no gzip", gzip.compress(b"no tar"), b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"is damaged or no archive of an experiment \(.*\); get it anew"):
            verify(path)
    with pytest.raises(ValueError, match="There is no archive or folder"):
        verify(tmp_path / "none")
