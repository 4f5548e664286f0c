"""Preparation of click logs that are as they should be, and of click logs that are not."""

import gzip
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
from click_logs import (
    NUM_TEST,
    NUM_TRAINED,
    NUM_VALIDATION,
    ClickLogs,
    check_rows,
    contents_of,
    files_in,
    job,
    rows,
    text,
)

from algoperf.data import DataError, preparation
from algoperf.data.archives import Archive
from algoperf_criteo import click_log, days, prepare
from algoperf_criteo.prepare import prepare_files, prepare_full
from algoperf_criteo.published import PUBLISHED
from algoperf_criteo.spec import CRITEO1TB
from algoperf_criteo.store import StoredRows


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(click_log, "_BLOCK_BYTES", 1_500)


@pytest.fixture(params=[1, 2], ids=["one process", "two processes"])
def processors(request, monkeypatch):
    monkeypatch.setattr(days, "num_processors", lambda: request.param)


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(days, "num_processors", lambda: 1)


@pytest.fixture
def logs(tmp_path):
    return ClickLogs(tmp_path / "downloads")


def prepared(logs, folder, report=print):
    return prepare_files(job(folder, logs.folder, report), logs.published)


def test_what_is_published_is_prepared(logs, tmp_path, processors):
    files = prepared(logs, tmp_path / "full")
    logs.check(tmp_path / "full")
    assert set(files) == files_in(tmp_path / "full")
    assert len(files) == 2 * 5
    assert not list((tmp_path / "full").glob(".*"))
    # What is all there needs no source.
    assert prepare_files(job(tmp_path / "full", None, pytest.fail), logs.published) == files


def test_it_is_prepared_verified_and_opened_as_the_workload_s(logs, tmp_path, alone, monkeypatch):
    monkeypatch.setattr(prepare, "PUBLISHED", logs.published)
    spec = replace(
        CRITEO1TB,
        num_train_examples=sum(NUM_TRAINED),
        num_eval_train_examples=64,
        num_validation_examples=NUM_VALIDATION,
        num_test_examples=NUM_TEST,
        dataset=replace(CRITEO1TB.dataset, options=replace(CRITEO1TB.dataset.options, block=8, window=2)),
    )
    preparation.prepare(spec, tmp_path / "data", logs.folder, print)
    preparation.verify(spec, tmp_path / "data")
    preparation.open_prepared(spec, tmp_path / "data")


def test_the_facts_of_the_published_files_are_those_of_the_workload():
    assert [day.name for day in PUBLISHED] == [f"day_{number}.gz" for number in range(24)]
    *trained, evaluated = PUBLISHED
    assert [list(day.parts) for day in trained] == [[f"day_{number:02}"] for number in range(23)]
    # The first rows are for the test.
    assert list(evaluated.parts.items()) == [
        ("test", CRITEO1TB.num_test_examples),
        ("validation", CRITEO1TB.num_validation_examples),
    ]
    assert sum(day.num_rows for day in trained) == CRITEO1TB.num_train_examples
    assert sum(day.num_rows for day in PUBLISHED) == 4_373_472_329
    assert (PUBLISHED[0].num_rows, PUBLISHED[22].num_rows, evaluated.num_rows) == (
        195_841_983,
        189_747_893,
        178_274_637,
    )
    assert all(isinstance(day, Archive) and day.size is None for day in PUBLISHED)


def test_each_line_that_is_said_is_short_and_new(logs, tmp_path, processors):
    said = []
    prepared(logs, tmp_path / "full", said.append)
    assert len(said) == len(set(said))
    assert all("\n" not in line and len(line) < 300 for line in said)
    finished = [line for line in said if " is done: " in line]
    assert sorted(finished) == [
        "day_0.gz is done: day_00.",
        "day_1.gz is done: day_01.",
        "day_2.gz is done: day_02.",
        "day_3.gz is done: test and validation.",
    ]
    rows_done = [line for line in said if line not in finished]
    assert rows_done[-1] == "180 of 180 rows are done (100%)."


def test_how_far_it_is_is_said_now_and_then(logs, tmp_path, alone):
    said = []
    prepared(logs, tmp_path / "full", said.append)
    percents = [int(line.split("(")[1].split("%")[0]) for line in said if "rows are done" in line]
    assert len(percents) > 10
    assert all(after - before >= days._REPORT_EVERY_PERCENT for before, after in pairwise(percents))
    # A run that goes on counts what is there.
    shutil.rmtree(tmp_path / "full" / "day_01")
    said.clear()
    prepared(logs, tmp_path / "full", said.append)
    assert len(said) > 5
    assert 110 < int(said[0].split(" of 180")[0]) < 125


@pytest.mark.parametrize("number", [0, 3])
def test_a_missing_file_is_named_with_the_way_to_it(logs, tmp_path, number):
    (logs.folder / f"day_{number}.gz").rename(logs.folder / f"day_{number}.zip")
    expected = f"There is no day_{number}.gz in .*downloads, but there is day_{number}.zip; download day {number}."
    with pytest.raises(DataError, match=expected):
        prepared(logs, tmp_path / "full", pytest.fail)


@pytest.mark.parametrize(("source", "message"), [(None, "needs a folder with"), ("file", "file is not a folder")])
def test_without_a_folder_all_files_are_named(tmp_path, source, message):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=f"{message}.*--scale full --source FOLDER") as error:
        prepare_full(job(tmp_path / "full", source and tmp_path / source))
    assert all(f"day_{number}.gz" in str(error.value) for number in range(24))


def test_each_published_file_can_be_had(tmp_path):
    (tmp_path / "source").mkdir()
    with pytest.raises(
        DataError, match=r"no day_0.gz in .* download it from https://.*CriteoClickLogs .* and run `algo"
    ):
        prepare_full(job(tmp_path / "full", tmp_path / "source"))


@pytest.mark.parametrize("day", [1, 3])
@pytest.mark.parametrize("change", [-20, -1, 1, 60])
def test_a_day_of_another_size_is_refused(logs, tmp_path, alone, day, change):
    size = logs.published[day].num_rows
    logs.write(f"day_{day}.gz", text(rows(size + change)))
    expected = f"day_{day}.gz has {size + change} rows and the published day_{day}.gz has {size}; download day {day}."
    with pytest.raises(DataError, match=expected):
        prepared(logs, tmp_path / "full")
    assert not [part for part in logs.published[day].parts if (tmp_path / "full" / part).exists()]
    assert not list((tmp_path / "full").glob(".*"))


DAMAGES = {
    "truncated": (lambda content: content[:-200], r"cannot be read after line \d+ \(Compressed file ended"),
    "wrong checksum": (lambda content: content[:-6] + bytes(6), r"cannot be read after line \d+ \(CRC check failed"),
    "no row": (lambda content: gzip.compress(gzip.decompress(content) + b"x\n"), "has 1 field instead of 40"),
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("day", [1, 3])
def test_a_damaged_file_is_named_whichever_process_reads_it(logs, tmp_path, processors, day, name):
    change, message = DAMAGES[name]
    path = logs.folder / f"day_{day}.gz"
    content = path.read_bytes()
    path.write_bytes(change(content))
    with pytest.raises(DataError, match=f"day_{day}.gz {message}"):
        prepared(logs, tmp_path / "full")
    assert not [part for part in logs.published[day].parts if (tmp_path / "full" / part).exists()]
    assert not list((tmp_path / "full").glob(".*"))
    # And with the right one it goes on.
    path.write_bytes(content)
    prepared(logs, tmp_path / "full")
    logs.check(tmp_path / "full")


def test_one_day_that_fails_stops_the_others(logs, tmp_path, monkeypatch):
    """Rather than after an hour."""
    monkeypatch.setattr(days, "num_processors", lambda: 2)
    logs.write("day_0.gz", b"no row\n")
    # Of some seconds.
    content = text(rows(50)) * 20_000
    (logs.folder / "day_1.gz").write_bytes(gzip.compress(content, 1))
    logs.published[1] = replace(logs.published[1], parts={"day_01": 1_000_000})
    with pytest.raises(DataError, match=r"day_0\.gz has 1 field"):
        prepared(logs, tmp_path / "full")
    assert not files_in(tmp_path / "full")


def test_a_disk_that_is_too_small_is_noticed_first(logs, tmp_path, alone, monkeypatch):
    usage, needed = shutil.disk_usage(tmp_path), 180 * 157
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(DataError, match=r"takes 0\.0 GiB more in .*full, where .* make room or choose another"):
        prepared(logs, tmp_path / "full", pytest.fail)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    prepared(logs, tmp_path / "full")
    # Only what is missing counts.
    shutil.rmtree(tmp_path / "full" / "day_00")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=40 * 157))
    prepared(logs, tmp_path / "full")
    logs.check(tmp_path / "full")


def test_what_a_killed_run_has_left_is_removed_before_room_is_looked_for(logs, tmp_path, alone, monkeypatch):
    left = tmp_path / "full" / ".day_01.tmp"
    left.mkdir(parents=True)
    (left / "inputs.npy").write_bytes(bytes(1_000))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0 if left.exists() else 10**9))
    prepared(logs, tmp_path / "full")
    logs.check(tmp_path / "full")


def test_a_day_that_lost_a_file_is_made_again_and_needs_only_its_file(logs, tmp_path, alone):
    prepared(logs, tmp_path / "full")
    straight = contents_of(tmp_path / "full")
    (tmp_path / "full" / "test" / "labels.npy").unlink()
    (tmp_path / "full" / "day_02" / "inputs.npy").unlink()
    for number in (0, 1):
        (logs.folder / f"day_{number}.gz").unlink()
    prepared(logs, tmp_path / "full")
    assert contents_of(tmp_path / "full") == straight


_FROM_STANDARD_INPUT = """
import pickle
from pathlib import Path
from algoperf.data.preparation import Preparation
from algoperf_criteo import days
from algoperf_criteo.prepare import prepare_files

days.num_processors = lambda: 2
folder, source, published = Path({folder!r}), Path({source!r}), pickle.loads({published!r})
folder.mkdir()
prepare_files(Preparation(folder=folder, source=source, report=print), published)
"""


def test_where_no_process_can_start_this_one_does_the_work(logs, tmp_path):
    """Such as where the main program is read from standard input."""
    program = _FROM_STANDARD_INPUT.format(
        folder=str(tmp_path / "full"), source=str(logs.folder), published=pickle.dumps(logs.published)
    )
    result = subprocess.run([sys.executable], input=program, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Other processes cannot start or were killed; going on in this one." in result.stdout
    logs.check(tmp_path / "full")


def test_several_members_and_blocks_make_no_difference(logs, tmp_path, alone, monkeypatch):
    some_rows = logs.rows["test"] + logs.rows["validation"]
    path = logs.folder / "day_3.gz"
    path.write_bytes(b"".join(gzip.compress(text([row])) for row in some_rows))
    for size in (1, 2**22):
        monkeypatch.setattr(click_log, "_BLOCK_BYTES", size)
        prepared(logs, tmp_path / f"blocks of {size}")
        logs.check(tmp_path / f"blocks of {size}")
    check_rows(tmp_path / "blocks of 1" / "test", some_rows[:NUM_TEST])
    assert len(StoredRows.load(tmp_path / "blocks of 1" / "validation")) == NUM_VALIDATION
