"""Prepared data: whole or not at all, and every way in which it can be damaged."""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest

from algoperf.data import DataError, preparation
from algoperf.spec import DatasetSpec, Scale
from algoperf.testing.toy import TOY

COMMAND = "algoperf-orchestrate data prepare toy --scale mini"


@pytest.fixture
def functions(monkeypatch):
    """The functions of a workload's data set, for a test to replace."""

    def prepare(job):
        folder = job.folder
        job.report("Writing two files.")
        (folder / "train").mkdir(exist_ok=True)
        (folder / "train" / "examples.bin").write_bytes(b"0123456789" * 10)
        (folder / "names.txt").write_text("a\nb\n")
        return [folder / "train" / "examples.bin", folder / "names.txt"]

    module = ModuleType("prepared_toy")
    module.prepare, module.open_dataset = prepare, lambda spec, folder: SimpleNamespace(folder=folder)
    monkeypatch.setitem(sys.modules, "prepared_toy", module)
    return module


@pytest.fixture
def spec(functions):
    dataset = DatasetSpec(
        name="toy/mini", open="prepared_toy:open_dataset", finalize="none:none", prepare="prepared_toy:prepare"
    )
    return replace(TOY.at(Scale.MINI), dataset=dataset)


@pytest.fixture
def folder(spec, tmp_path):
    """The prepared folder."""
    return preparation.prepare(spec, tmp_path, None, print)


def test_prepared_data_is_opened(spec, tmp_path, folder):
    assert folder == tmp_path / "toy" / "mini"
    assert preparation.open_prepared(spec, tmp_path).folder == folder
    preparation.verify(spec, tmp_path)
    status = preparation.status(spec, tmp_path)
    assert (status.state, status.folder, status.num_bytes) == ("prepared", folder, 104)
    assert sorted(json.loads((folder / "manifest.json").read_text())) == ["names.txt", "train/examples.bin"]


def test_what_is_prepared_is_not_made_again(spec, tmp_path, folder, functions):
    functions.prepare = None
    lines = []
    assert preparation.prepare(spec, tmp_path, None, lines.append) == folder
    assert len(lines) == 1
    assert "prepared already" in lines[0]


def test_what_is_done_is_reported(spec, tmp_path):
    lines = []
    folder = preparation.prepare(spec, tmp_path, None, lines.append)
    checksums = "Recording the checksums of toy/mini."
    assert lines == ["Writing two files.", checksums, f"toy/mini is prepared: {folder}"]


def test_an_interrupted_preparation_goes_on(spec, tmp_path, functions):
    whole = functions.prepare

    def interrupted(job):
        (job.folder / "half").touch()
        raise KeyboardInterrupt

    functions.prepare = interrupted
    with pytest.raises(KeyboardInterrupt):
        preparation.prepare(spec, tmp_path, None, print)
    assert preparation.status(spec, tmp_path).state == "unfinished"
    with pytest.raises(DataError, match=f"toy is not prepared in .*mini; run `{COMMAND}`"):
        preparation.open_prepared(spec, tmp_path)

    def resumed(job):
        assert (job.folder / "half").exists()
        return whole(job)

    functions.prepare = resumed
    preparation.prepare(spec, tmp_path, None, print)
    preparation.open_prepared(spec, tmp_path)


def test_the_source_is_passed_on(spec, tmp_path, functions):
    seen = []
    functions.prepare = lambda job: seen.append(job.source) or []
    preparation.prepare(spec, tmp_path, tmp_path / "archive.zip", print)
    assert seen == [tmp_path / "archive.zip"]


@pytest.mark.parametrize("check", [preparation.open_prepared, preparation.verify])
def test_data_that_is_not_there_names_the_command(spec, tmp_path, check):
    with pytest.raises(DataError, match=f"toy is not prepared in .*mini; run `{COMMAND}`"):
        check(spec, tmp_path)
    assert preparation.status(spec, tmp_path).state == "missing"


def test_no_data_directory_is_said(spec):
    with pytest.raises(DataError, match="toy at mini scale needs a data directory; pass --data-dir"):
        preparation.open_prepared(spec, None)


def test_generated_data_needs_nothing(spec, functions):
    generated = replace(spec, dataset=replace(spec.dataset, name=""))
    assert preparation.open_prepared(generated, None).folder is None
    assert preparation.status(generated, None).state == "generated"
    preparation.verify(generated, None)


def truncate(folder):
    path = folder / "train" / "examples.bin"
    path.write_bytes(path.read_bytes()[:-1])


def alter(folder):
    path = folder / "train" / "examples.bin"
    path.write_bytes(b"!" + path.read_bytes()[1:])


def remove(folder):
    (folder / "train" / "examples.bin").unlink()


DAMAGES = [
    (truncate, "has 99 bytes instead of 100"),
    (alter, "was altered"),
    (remove, "is missing"),
]


@pytest.mark.parametrize("check", [preparation.open_prepared, preparation.verify])
@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damage_is_found_and_named(spec, tmp_path, folder, damage, message, check):
    damage(folder)
    with pytest.raises(DataError) as caught:
        check(spec, tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{folder / 'train' / 'examples.bin'} {message}")
    assert f"delete {folder} and run `{COMMAND}`" in text


def test_preparing_again_finds_damage_too(spec, tmp_path, folder):
    alter(folder)
    with pytest.raises(DataError, match="was altered"):
        preparation.prepare(spec, tmp_path, None, print)


@pytest.mark.parametrize("manifest", ["", '{"names.txt": {"si', "[]", '{"names.txt": 4}', '{"names.txt": {"size": 4}}'])
@pytest.mark.parametrize(
    "check",
    [
        preparation.open_prepared,
        preparation.verify,
        preparation.status,
        lambda spec, data_dir: preparation.prepare(spec, data_dir, None, print),
    ],
)
def test_a_damaged_manifest_is_found_and_named(spec, tmp_path, folder, manifest, check):
    (folder / "manifest.json").write_text(manifest)
    with pytest.raises(DataError) as caught:
        check(spec, tmp_path)
    assert str(folder / "manifest.json") in str(caught.value)
    assert f"delete {folder} and run `{COMMAND}`" in str(caught.value)


def test_large_data_is_hashed_when_it_is_verified_and_not_when_it_is_opened(spec, tmp_path, folder, monkeypatch):
    monkeypatch.setattr(preparation, "HASH_ON_OPEN_BYTES", 103)
    alter(folder)
    preparation.open_prepared(spec, tmp_path)
    with pytest.raises(DataError, match="was altered"):
        preparation.verify(spec, tmp_path)
    truncate(folder)
    with pytest.raises(DataError, match="99 bytes"):
        preparation.open_prepared(spec, tmp_path)


def test_two_that_prepare_the_same_folder_wait_for_each_other(spec, tmp_path, functions):
    whole, calls, started, goes_on = functions.prepare, [], threading.Event(), threading.Event()

    def slow(job):
        calls.append(job)
        started.set()
        assert goes_on.wait(30)
        return whole(job)

    functions.prepare = slow
    lines = []
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(preparation.prepare, spec, tmp_path, None, print)
        assert started.wait(30)
        second = pool.submit(preparation.prepare, spec, tmp_path, None, lines.append)
        while not lines:
            time.sleep(0.01)
        assert lines == [f"Another process is preparing {tmp_path / 'toy' / 'mini'}; waiting for it."]
        goes_on.set()
        assert first.result() == second.result()
    assert len(calls) == 1


def test_checksums_tell_data_apart(spec, tmp_path, folder, functions):
    first = preparation.checksums(spec, tmp_path)
    assert first == preparation.checksums(spec, tmp_path)
    whole = functions.prepare

    def other(job):
        files = whole(job)
        files[1].write_text("c\n")
        return files

    functions.prepare = other
    preparation.prepare(spec, tmp_path / "other", None, print)
    assert preparation.checksums(spec, tmp_path / "other") != first
    assert preparation.checksums(replace(spec, dataset=replace(spec.dataset, name="")), None) == {"data_sha256": None}


def test_the_checksum_of_a_single_file_is_recorded_where_the_data_set_wants_it(spec, tmp_path, folder):
    name = next(path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.txt")))
    wanted = replace(spec, dataset=replace(spec.dataset, recorded={"words_sha256": name}))
    found = preparation.checksums(wanted, tmp_path)
    assert found == preparation.checksums(spec, tmp_path) | {"words_sha256": preparation.file_sha256(folder / name)}


def test_files_that_trials_record_are_compared_however_large_the_data(spec, tmp_path, folder, monkeypatch):
    monkeypatch.setattr(preparation, "HASH_ON_OPEN_BYTES", 0)
    (folder / "names.txt").write_text("a\nc\n")
    preparation.open_prepared(spec, tmp_path)
    wanted = replace(spec, dataset=replace(spec.dataset, recorded={"names_sha256": "names.txt"}))
    with pytest.raises(DataError, match=r"names\.txt was altered"):
        preparation.open_prepared(wanted, tmp_path)


def test_who_names_a_source_hears_that_it_is_not_used(spec, tmp_path, folder):
    told = []
    preparation.prepare(spec, tmp_path, tmp_path / "other", told.append)
    assert told[-1].endswith(f"; to prepare it from {tmp_path / 'other'}, delete that folder first")
    preparation.prepare(spec, tmp_path, None, told.append)
    assert told[-1].endswith(str(folder))
