"""The records of a trial: read back exactly, whatever was written and whenever its process died."""

import enum
import errno
import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf import record_files
from algoperf.records import (
    EVALUATIONS,
    RecordsError,
    TrialRecords,
    check_same_config,
    read_evaluations,
    read_experiment,
    read_trial,
    trial_folder,
    write_atomic,
)

PUBLISHED = Path(__file__).parent / "golden" / "published_trial"
CONFIG: dict[str, Any] = {
    "workload": "toy",
    "seed": 1,
    "hyperparameters": {"lr": 0.1, "clip": None},
}
STRANGE = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1, 1e16, 3.0]

floats = st.floats(allow_nan=True) | st.sampled_from(STRANGE)
names = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"))
numbers = floats | st.integers()
tables = st.lists(names, min_size=1, max_size=4, unique=True).flatmap(
    lambda columns: st.lists(st.fixed_dictionaries({name: numbers for name in columns}), max_size=4)
)


def _bits(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that are equal exactly if types and bits are (every NaN being the same one)."""

    def bits(value: Any) -> Any:
        if isinstance(value, int):
            return value, "int"
        return "nan" if math.isnan(value) else struct.pack("d", value)

    return [{key: bits(value) for key, value in row.items()} for row in rows]


def _row(step: int, **metrics: float) -> dict[str, float | int]:
    return {"global_step": step, "preemption_count": 0, "validation/loss": 1 / step, **metrics}


def _started(folder: Path, evaluations: Sequence[dict[str, Any]] = (), count: int = 0) -> TrialRecords:
    records = TrialRecords(folder)
    records.start(CONFIG, {"count": count}, count, evaluations)
    return records


@contextmanager
def _folder() -> Iterator[Path]:
    """A new folder for each example that hypothesis makes up."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "trial_1"


@given(tables, tables)
@settings(deadline=None, max_examples=60)
def test_evaluations_are_read_back_exactly(rows: list[dict], others: list[dict]) -> None:
    with _folder() as folder:
        records = _started(folder)
        for row in rows:
            records.append_evaluation(row)
        assert _bits(read_evaluations(folder / EVALUATIONS)) == _bits(rows)
        _started(folder, others)
        assert _bits(read_trial(folder).evaluations) == _bits(others)


@given(tables)
@settings(deadline=None, max_examples=10)
def test_columns_are_sorted_and_a_torn_tail_is_dropped_at_every_byte(rows: list[dict]) -> None:
    with _folder() as folder:
        records = _started(folder)
        for row in rows:
            records.append_evaluation(row)
        path = folder / EVALUATIONS
        content = path.read_bytes() if rows else b""
        for length in range(len(content)):
            path.write_bytes(content[:length])
            whole = max(content[:length].count(b"\n") - 1, 0)
            read = read_evaluations(path)
            assert _bits(read) == _bits(rows[:whole])
            assert all(list(row) == sorted(row) for row in read)


@pytest.mark.parametrize("kept", range(4))
def test_a_resumed_trial_forgets_what_its_checkpoint_does_not_know(tmp_path: Path, kept: int) -> None:
    rows = [_row(step) for step in (1, 2, 3)]
    records = _started(tmp_path)
    for row in rows:
        records.append_evaluation(row)
    with (tmp_path / EVALUATIONS).open("ab") as file:
        file.write(b"4,0,0.2")  # the process died here
    records = _started(tmp_path, rows[:kept], count=1)
    assert read_evaluations(tmp_path / EVALUATIONS) == rows[:kept]
    assert (tmp_path / EVALUATIONS).exists() == (kept > 0)
    records.append_evaluation(_row(9))
    assert read_evaluations(tmp_path / EVALUATIONS) == [*rows[:kept], _row(9)]


def test_an_append_writes_its_row_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = _started(tmp_path)
    written: list[int] = []
    write = os.write

    def counting_write(descriptor: int, data: bytes) -> int:
        written.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counting_write)
    for step in range(1, 101):
        records.append_evaluation({"global_step": 10**6 + step, "loss": 0.5})
    header = len("global_step,loss\n")
    assert written == [header + len("1000001,0.5\n")] + 99 * [len("1000001,0.5\n")]


def test_every_evaluation_has_the_columns_of_the_first(tmp_path: Path) -> None:
    records = _started(tmp_path)
    records.append_evaluation(_row(1))
    for row in (_row(2, extra=1.0), {"global_step": 2}):
        with pytest.raises(RecordsError, match="differs from the first in"):
            records.append_evaluation(row)
    assert read_evaluations(tmp_path / EVALUATIONS) == [_row(1)]


def test_the_files_of_a_trial(tmp_path: Path) -> None:
    folder = trial_folder(tmp_path, 0, "ogbg", "jax", 1)
    assert folder == tmp_path / "study_0" / "ogbg_jax" / "trial_1"
    records = _started(folder)
    assert records.num_starts == 1
    assert records.preemption_count == 0
    record = read_trial(folder)
    assert (record.config, record.hparams) == (CONFIG, CONFIG["hyperparameters"])
    assert (record.end_reason, record.outcome) == (None, {})
    assert (record.evaluations, record.measurements, record.metadata) == ([], [], [{"count": 0}])
    hparams = (folder / "hparams.json").stat().st_mtime_ns
    records = _started(folder, [_row(1)], count=1)
    assert (folder / "hparams.json").stat().st_mtime_ns == hparams
    records.finish({"end_reason": "reached", "seconds": {"submission": math.inf}})
    record = read_trial(folder)
    assert record.end_reason == "reached"
    assert record.outcome["seconds"] == {"submission": math.inf}
    assert record.metadata == [{"count": 0}, {"count": 1}]
    assert record.config == CONFIG
    assert json.loads((folder / "trial.json").read_text())["state"] == "finished"
    assert sorted(path.name for path in folder.iterdir()) == [
        EVALUATIONS,
        *("flags_0.json", "flags_1.json", "hparams.json"),
        *("meta_data_0.json", "meta_data_1.json", "trial.json"),
    ]


def test_restarts_are_counted_and_kept_in_order(tmp_path: Path) -> None:
    for count in range(12):
        assert TrialRecords(tmp_path).num_starts == count
        _started(tmp_path, count=count)
    assert read_trial(tmp_path).metadata == [{"count": count} for count in range(12)]
    (tmp_path / "flags_old.json").touch()
    with pytest.raises(RecordsError, match="no number at the end of its name"):
        read_trial(tmp_path)


def test_a_trial_that_failed_before_it_started_is_recorded_too(tmp_path: Path) -> None:
    records = TrialRecords(tmp_path / "trial_1")
    records.check_same_config(CONFIG)
    records.finish({"end_reason": "error"})
    assert read_trial(tmp_path / "trial_1").end_reason == "error"
    check_same_config(tmp_path / "trial_1", CONFIG)


def test_no_hyperparameters(tmp_path: Path) -> None:
    TrialRecords(tmp_path).start({"hyperparameters": None}, {}, 0, [])
    assert json.loads((tmp_path / "hparams.json").read_text()) == {}


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    check_same_config(tmp_path, CONFIG)
    _started(tmp_path)
    check_same_config(tmp_path, CONFIG)
    hyperparameters = dict(reversed(CONFIG["hyperparameters"].items()))
    reordered = {**dict(reversed(CONFIG.items())), "hyperparameters": hyperparameters}
    assert json.dumps(reordered) != json.dumps(CONFIG)
    check_same_config(tmp_path, reordered)
    for change, message in [
        ({"seed": 2}, r"\(seed 1 there, 2 here\)"),
        ({"seed": 1.0}, r"\(seed 1 there, 1.0 here\)"),
        ({"new": "x"}, r'\(new absent there, "x" here\)'),
        ({"a": 1, "b": 1, "c": 1, "seed": 2}, r"c absent there, 1 here; and 1 more\)"),
    ]:
        with pytest.raises(RecordsError, match=message) as caught:
            check_same_config(tmp_path, {**CONFIG, **change})
        assert str(tmp_path) in str(caught.value)
        assert "choose another --experiment" in str(caught.value)
        with pytest.raises(RecordsError, match=message):
            TrialRecords(tmp_path).start({**CONFIG, **change}, {}, 1, [])
    assert read_trial(tmp_path).metadata == [{"count": 0}]


def test_a_configuration_with_nan_is_the_same_as_itself(tmp_path: Path) -> None:
    config = {"hyperparameters": {"lr": math.nan}, "path": Path("a"), "betas": (0.9, 0.99)}
    TrialRecords(tmp_path).start(config, {}, 0, [])
    check_same_config(tmp_path, config)


@pytest.mark.parametrize("content", [b"", b'{"state"', b"[]", b"\xff", b"{}", b'{"config": 3}'])
def test_a_damaged_trial_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "trial.json").write_bytes(content)
    for read in (lambda: check_same_config(tmp_path, CONFIG), lambda: read_trial(tmp_path)):
        with pytest.raises(RecordsError, match=r"trial\.json .*--experiment"):
            read()


@pytest.mark.parametrize("content", ["a,b\n1\n", "a,b\n1,2,3\n", "a\nx\n", "a\n1\n\n2\n", 'a\n"1\n'])
def test_a_damaged_evaluation_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / EVALUATIONS).write_text(content)
    with pytest.raises(RecordsError, match=r"eval_measurements\.csv is damaged"):
        read_evaluations(tmp_path / EVALUATIONS)


def test_missing_folders_are_named(tmp_path: Path) -> None:
    assert read_evaluations(tmp_path / "nothing.csv") == []
    with pytest.raises(RecordsError, match="There is no trial at"):
        read_trial(tmp_path / "nothing")
    with pytest.raises(RecordsError, match="There is no experiment at"):
        read_experiment(tmp_path / "nothing")
    for study, trial in ((-1, 1), (0, 0)):
        with pytest.raises(ValueError, match="count from 0 and from 1"):
            trial_folder(tmp_path, study, "toy", "jax", trial)


def test_an_experiment_is_read_in_order(tmp_path: Path) -> None:
    keys = [(0, "a", 1), (0, "a", 2), (0, "a", 10), (0, "b", 1), (2, "a", 1), (10, "a", 1)]
    for study, workload, trial in reversed(keys):
        _started(trial_folder(tmp_path, study, workload, "jax", trial))
    (tmp_path / "ledger.sqlite").touch()
    expected = [trial_folder(tmp_path, study, name, "jax", trial) for study, name, trial in keys]
    assert [record.folder for record in read_experiment(tmp_path)] == expected


def test_published_logs_are_read(tmp_path: Path) -> None:
    folder = trial_folder(tmp_path, 0, "criteo1tb", "pytorch", 1)
    shutil.copytree(PUBLISHED, folder)
    (record,) = read_experiment(tmp_path)
    assert record.config["workload"] == "criteo1tb"
    assert record.hparams["use_nadam"] is False
    assert record.metadata[0]["gpu_count"] == 8
    assert (record.end_reason, record.measurements) == (None, [])
    first, _, last = record.evaluations
    assert first["validation/loss"] == 0.2451472607572914
    assert repr(first["validation/num_examples"]) == "83274637"
    assert repr(last["global_step"]) == "239"
    assert math.isnan(last["validation/loss"])


def test_published_measurements_have_only_what_was_logged(tmp_path: Path) -> None:
    (tmp_path / "measurements.csv").write_text("global_step,loss,norm\n1,0.5,\n2,,0.25\n")
    expected = [{"global_step": 1, "loss": 0.5}, {"global_step": 2, "norm": 0.25}]
    assert read_trial(tmp_path).measurements == expected


class _OnDevice:
    """Stands for an array on a device: its value is waited for."""

    shape = ()
    waits = 0

    def __float__(self) -> float:
        type(self).waits += 1
        return 0.5


def test_logging_does_not_wait_for_the_device(tmp_path: Path) -> None:
    _OnDevice.waits = 0
    records = _started(tmp_path)
    logger = records.metrics_logger()
    metrics: dict[str, Any] = {"loss": _OnDevice()}
    logger.append_scalar_metrics(metrics, 1)
    metrics.clear()  # the submission may do with its dict what it likes
    assert _OnDevice.waits == 0
    assert not (tmp_path / "measurements.jsonl").exists()
    records.append_evaluation(_row(1))
    assert _OnDevice.waits == 1
    logger.append_scalar_metrics({"norm": np.float32(0.25)}, np.int64(2), 7, is_eval=True)
    logger.append_scalar_metrics({"one": np.ones(1)[0], "step": 3}, global_step=3)
    records.finish({"end_reason": "reached"})
    expected = [
        {"loss": 0.5, "global_step": 1, "preemption_count": 0},
        {"norm": 0.25, "global_step": 2, "preemption_count": 7},
        {"one": 1.0, "step": 3.0, "global_step": 3, "preemption_count": 0},
    ]
    assert read_trial(tmp_path).measurements == expected
    (tmp_path / "measurements.jsonl").unlink()
    assert read_trial(tmp_path).measurements == expected
    header = (tmp_path / "measurements.csv").read_text().splitlines()[0]
    assert header == "global_step,loss,norm,one,preemption_count,step"


@pytest.mark.parametrize("metrics", [{"a": "1"}, {"a": None}, {"a": [1]}, {"a": np.ones(2)}, {"a\n": 1}])
def test_what_is_no_number_cannot_be_logged(tmp_path: Path, metrics: dict[str, Any]) -> None:
    logger = _started(tmp_path).metrics_logger()
    with pytest.raises(RecordsError, match="The logged metric 'a"):
        logger.append_scalar_metrics(metrics, 1)
    logger.flush()
    assert not (tmp_path / "measurements.jsonl").exists()


@given(st.lists(st.dictionaries(st.sampled_from("abc"), floats), max_size=5))
@settings(deadline=None, max_examples=30)
def test_measurements_are_read_back_exactly_and_survive_a_torn_tail(rows: list[dict]) -> None:
    with _folder() as folder:
        records = _started(folder)
        logger = records.metrics_logger()
        for step, row in enumerate(rows):
            logger.append_scalar_metrics(row, step)
        logger.flush()
        with (folder / "measurements.jsonl").open("ab") as file:
            file.write(b'{"global_step": 7')
        counts = {"preemption_count": 0}
        expected = [{**row, "global_step": i, **counts} for i, row in enumerate(rows)]
        assert _bits(read_trial(folder).measurements) == _bits(expected)
        records = _started(folder, count=1)
        records.metrics_logger().append_scalar_metrics({"a": 1.0}, 9)
        records.finish({"end_reason": "budget"})
        expected.append({"a": 1.0, "global_step": 9, "preemption_count": 1})
        assert _bits(read_trial(folder).measurements) == _bits(expected)


def test_the_outcome_is_written_even_if_a_metric_is_gone(tmp_path: Path) -> None:
    class Donated(_OnDevice):
        def __float__(self) -> float:
            raise RuntimeError("Array has been deleted.")

    records = _started(tmp_path)
    records.metrics_logger().append_scalar_metrics({"loss": Donated()}, 1)
    with pytest.raises(RuntimeError, match="deleted"):
        records.finish({"end_reason": "reached"})
    assert read_trial(tmp_path).end_reason == "reached"


def test_what_configurations_and_metadata_are_made_of(tmp_path: Path) -> None:
    color = enum.Enum("color", ["RED"])
    metadata = {
        "path": Path("a") / "b",
        "loss_type": color.RED,
        "shape": (1, 2),
        "numpy": [np.float32(0.5), np.int64(3), np.bool_(True), np.arange(2)],
        "budgets": MappingProxyType({"v1.0": {"max": math.nan}}),
    }
    TrialRecords(tmp_path).start(CONFIG, metadata, 0, [])
    (read,) = read_trial(tmp_path).metadata
    assert math.isnan(read.pop("budgets")["v1.0"]["max"])
    assert read == {
        "path": os.path.join("a", "b"),
        "loss_type": "RED",
        "shape": [1, 2],
        "numpy": [0.5, 3, True, [0, 1]],
    }
    with pytest.raises(TypeError, match="A object cannot be recorded"):
        TrialRecords(tmp_path).start(CONFIG, {"what": object()}, 1, [])


def _full_disk(*_: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("function", ["write", "fsync", "open"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, function, _full_disk)
        with pytest.raises(OSError, match="No space left"):
            write_atomic(path, b"new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    write_atomic(path, b"new")
    assert path.read_text() == "new"


def test_a_write_may_take_several_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    write_atomic(tmp_path / "file", "ten letters")
    assert (tmp_path / "file").read_text() == "ten letters"


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("failure", ["write", "fsync", "short"])
def test_a_full_disk_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str, first: bool
) -> None:
    records = _started(tmp_path)
    before = [] if first else [_row(1)]
    for row in before:
        records.append_evaluation(row)
    write = os.write
    with monkeypatch.context() as patch:
        if failure == "short":
            patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
        else:
            patch.setattr(os, failure, _full_disk)
        with pytest.raises(OSError, match="No space left"):
            records.append_evaluation(_row(2))
    assert read_evaluations(tmp_path / EVALUATIONS) == before
    records.append_evaluation(_row(3))
    assert read_evaluations(tmp_path / EVALUATIONS) == [*before, _row(3)]


def test_a_file_is_on_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for module, name in ((os, "fsync"), (Path, "replace")):
        real = getattr(module, name)
        spy = lambda *a, real=real, name=name: (calls.append(name), real(*a))[1]  # noqa: E731
        monkeypatch.setattr(module, name, spy)
    write_atomic(tmp_path / "file", "x")
    assert calls == ["fsync", "replace", "fsync"]
    calls.clear()
    record_files.append_durably(tmp_path / "log", b"x\n")
    record_files.append_durably(tmp_path / "log", b"x\n")
    assert calls == ["fsync", "fsync", "fsync"]


def test_a_killed_process_leaves_whole_rows(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from algoperf.records import TrialRecords\n"
        "records = TrialRecords(pathlib.Path(sys.argv[1]))\n"
        "records.start({}, {}, 0, [])\n"
        "logger = records.metrics_logger()\n"
        "step = 0\n"
        "while True:\n"
        "    step += 1\n"
        "    logger.append_scalar_metrics({'loss': 1 / step}, step)\n"
        "    records.append_evaluation({'global_step': step, 'loss': 1 / step})\n"
        "    if step == 50: print('go', flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"go\n"
        process.send_signal(signal.SIGKILL)
    record = read_trial(tmp_path)
    assert len(record.evaluations) >= 50
    for rows in (record.evaluations, record.measurements):
        steps = range(1, len(rows) + 1)
        assert [row["global_step"] for row in rows] == list(steps)
        assert [row["loss"] for row in rows] == [1 / step for step in steps]
    assert len(record.evaluations) - len(record.measurements) in (0, 1)
