"""Preparation that is killed, interrupted, or for which there is no room: it goes on with what is finished."""

import errno

import pytest
from scans import Knees, contents_of, job

from algoperf.testing.killed_preparation import failed_runs, interrupt_at, killed_runs
from algoperf_fastmri import unpacking
from algoperf_fastmri.prepare import prepare_files
from algoperf_fastmri.volumes import DamagedVolume


@pytest.fixture
def knees(tmp_path):
    return Knees(tmp_path / "downloads")


@pytest.fixture
def straight(knees, tmp_path):
    """What comes of the archives."""
    return prepared(knees, tmp_path / "straight")


def prepared(knees, folder, **options):
    prepare_files(job(folder, knees.folder, **options), knees.published)
    return contents_of(folder)


def finished(folder):
    """The volumes that no later run writes again, by their place on disk; they may move to another folder."""
    return {path.name: path.stat().st_ino for path in folder.glob("*/[!.]*.h5")}


def keeps(folder, before):
    now = finished(folder)
    return all(now.get(name) == inode for name, inode in before.items())


@pytest.mark.parametrize("seed", range(2))
def test_a_preparation_that_is_killed_again_and_again_comes_to_the_same(knees, straight, tmp_path, seed):
    folder, kills = tmp_path / "killed", 0
    runs = killed_runs(
        prepare_files, job(folder, knees.folder), knees.published, settings={}, seed=seed, operations=(8, 40)
    )
    before = finished(folder)
    for _ in runs:
        assert keeps(folder, before)
        before = finished(folder)
        kills += 1
    assert keeps(folder, before)
    assert kills >= 4
    assert contents_of(folder) == straight


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_preparation_that_fails_anywhere_leaves_what_is_finished(
    knees, straight, tmp_path, monkeypatch, error, number
):
    folder, said, numbers = tmp_path / "failed", [], []

    def prepare():
        prepared(knees, folder)

    # Two times each volume, and each index; the first time nothing is there afterwards.
    for line in failed_runs(prepare, monkeypatch, number + 2, error):
        said.append(line)
        assert not list(folder.rglob(".*.tmp"))
        numbers.append(len(finished(folder)))
    assert numbers == sorted(numbers)
    assert len(said) > 3
    if isinstance(error, OSError):
        assert all("cannot be written ([Errno 28] No space left on device); mend that" in line for line in said)
    assert contents_of(folder) == straight


def interrupted_at(knees, folder, what):
    interrupt_at(lambda report: prepare_files(job(folder, knees.folder, report), knees.published), what)


@pytest.mark.parametrize("moment", ["knee_singlecoil_train: 2 of", "knee_singlecoil_val: 4 of"])
def test_finished_volumes_are_neither_read_nor_written_again(knees, straight, tmp_path, monkeypatch, moment):
    folder = tmp_path / "cut"
    interrupted_at(knees, folder, moment)
    before = finished(folder)
    assert before
    checked, check_volume = [], unpacking.check_volume
    monkeypatch.setattr(unpacking, "check_volume", lambda *arguments: checked.append(1) or check_volume(*arguments))
    assert prepared(knees, folder) == straight
    assert keeps(folder, before)
    assert len(checked) == 10 - len(before)


@pytest.mark.parametrize("moment", ["train: ", "validation: ", "test: "])
def test_what_is_unpacked_needs_no_archive(knees, straight, tmp_path, moment):
    folder = tmp_path / "cut"
    interrupted_at(knees, folder, moment)
    before = finished(folder)
    assert len(before) == 10
    prepare_files(job(folder, None), knees.published)
    assert keeps(folder, before)
    assert contents_of(folder) == straight


def test_an_archive_that_is_unpacked_is_not_needed_again(knees, straight, tmp_path):
    folder = tmp_path / "cut"
    full = knees.folder / "knee_singlecoil_train.tar.xz"
    content = full.read_bytes()
    full.write_bytes(content[:-4])
    with pytest.raises(unpacking.DataError):
        prepared(knees, folder)
    full.write_bytes(content)
    knees.published.archives.reverse()
    # Whatever of the other one was done.
    interrupted_at(knees, folder, "validation: ")
    (knees.folder / "knee_singlecoil_val.tar.xz").unlink()
    prepared(knees, folder)
    assert contents_of(folder) == straight


def test_what_was_left_out_is_looked_at_again_by_a_run_that_goes_on(knees, tmp_path, monkeypatch):
    """So that it is named, whichever run it was that finished."""
    odd = max(knees.contents["train"])
    check_volume = unpacking.check_volume

    def check(path, image_size):
        if odd in path.name:
            raise DamagedVolume("torn")
        check_volume(path, image_size)

    monkeypatch.setattr(unpacking, "check_volume", check)
    straight = prepared(knees, tmp_path / "straight", skip_damaged=True)
    for moment in ("knee_singlecoil_train: 3", "train: "):
        interrupt_at(
            lambda report: prepare_files(
                job(tmp_path / "cut", knees.folder, report, skip_damaged=True), knees.published
            ),
            moment,
        )
    assert prepared(knees, tmp_path / "cut", skip_damaged=True) == straight
    assert any(odd in line for line in (tmp_path / "cut" / "train" / "index.json").read_text().splitlines())
