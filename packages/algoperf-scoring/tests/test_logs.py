"""Logs are the same in whatever order folders and files are made, listed and named; and how a trial ended."""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf_scoring import board, find, logs
from algoperf_scoring.anomalies import Kind


@pytest.fixture(scope="module")
def odd_boards(tmp_path_factory, write_board, write_trial, trial_path):
    """Two boards with much that is wrong, below one folder; and their files in sorted order, with what they hold."""
    root = tmp_path_factory.mktemp("odd")
    for name in ("first", "second"):
        board = write_board(root / name, ["adam", "sgd"] if name == "first" else ["adam"])
        write_trial(board / trial_path("adam", "vision", 0, 1, "pytorch"), [1.0], [0.5])
        write_trial(board / trial_path("adam", "vision", 0, 10), [1.0, 2.0], [None, 0.5], end_reason="oom")
        write_trial(board / trial_path("adam", "vision", 0, 9), [2.0, 1.0, 500.0], [0.1, 0.2, 0.3])
        (board / trial_path("adam", "speech") / "eval_measurements.csv").write_bytes(b"")
        (board / trial_path("adam", "speech", 1) / "eval_measurements.csv").write_bytes(b"score\n1\n\n2")
        write_trial(board / "adam" / "study_0" / "trial_1", [1.0], [0.5])
        write_trial(board / "notes", [1.0], [0.5])
        (board / "adam" / "scores.csv").touch()
        shutil.rmtree(board / "adam" / "study_1" / "language_jax")
    content = {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    return root, content


def as_data(found, root):
    """All that `found` holds, with paths below `root`."""

    def below(path):
        return path.relative_to(root.resolve()).as_posix()

    return {
        "submissions": [(name, below(path)) for name, path in found.submissions.items()],
        "trials": [
            (below(one.folder.path), one.folder.submission, one.rows.start, one.rows.stop, one.end_reason)
            for one in found.trials
        ],
        "evaluations": {name: values.tobytes() for name, values in vars(found.evaluations).items()},
        "anomalies": [(below(one.path), one.kind, one.detail) for one in found.anomalies],
        "sha256": found.sha256,
    }


@pytest.fixture(scope="module")
def expected(odd_boards, rules):
    root, _ = odd_boards
    data = as_data(logs.read([root / "first", root / "second"], rules, "external"), root)
    kinds = {kind for _, kind, _ in data["anomalies"]}
    assert len(kinds) >= 12
    assert data["trials"] == sorted(data["trials"], key=lambda one: one[1:3])
    return data


@settings(deadline=None, max_examples=8)
@given(st.randoms(use_true_random=False))
def test_the_order_in_which_files_are_made_does_not_matter(odd_boards, expected, rules, tmp_path_factory, order):
    _, content = odd_boards
    root = tmp_path_factory.mktemp("again")
    paths = list(content)
    order.shuffle(paths)
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content[path])
    assert as_data(logs.read([root / "first", root / "second"], rules, "external"), root) == expected


@pytest.mark.parametrize(
    "given_folders",
    [["second", "first"], ["."], ["first", "second", "first"], [".", "second"], ["first/adam", "second", "first"]],
    ids=str,
)
def test_the_order_of_the_folders_does_not_matter(odd_boards, expected, rules, given_folders):
    root, _ = odd_boards
    found = logs.read([root / name for name in given_folders], rules, "external")
    assert as_data(found, root) == expected


@pytest.mark.parametrize("seed", range(8))
def test_the_order_in_which_a_folder_is_listed_does_not_matter(odd_boards, expected, rules, monkeypatch, seed):
    root, _ = odd_boards
    rng = random.Random(seed)
    scandir = os.scandir

    def shuffled(path):
        entries = list(scandir(path))
        rng.shuffle(entries)
        return Entries(entries)

    monkeypatch.setattr(find.os, "scandir", shuffled)
    found = logs.read([root / "first", root / "second"], rules, "external")
    monkeypatch.undo()
    assert as_data(found, root) == expected


class Entries(list):
    """Closes as os.scandir's iterator does."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_trials_share_the_arrays_without_gaps(odd_boards, rules):
    root, _ = odd_boards
    found = logs.read([root], rules, "external")
    stops = [0, *(trial.rows.stop for trial in found.trials)]
    assert [trial.rows.start for trial in found.trials] == stops[:-1]
    assert {len(values) for values in vars(found.evaluations).values()} == {stops[-1]}
    assert [trial.folder for trial in found.trials] == sorted(trial.folder for trial in found.trials)
    assert found.anomalies == sorted(found.anomalies)


def test_the_digest_is_of_paths_and_files(board, rules, tmp_path):
    def digest(folder):
        return logs.read([folder], rules, "external").sha256

    before = digest(board)
    moved = Path(shutil.copytree(board, tmp_path / "elsewhere" / "board"))
    assert digest(moved) == before
    file = moved / "adam/study_0/vision_jax/trial_1/eval_measurements.csv"
    file.write_bytes(file.read_bytes().replace(b"0.125", b"0.126"))
    assert digest(moved) != before
    shutil.copy(board / file.relative_to(moved), file)
    assert digest(moved) == before
    # The files in their order stay the same.
    (moved / "adam/study_0/vision_jax/trial_2").rename(moved / "adam/study_0/vision_jax/trial_3")
    assert digest(moved) != before


def test_a_submission_may_have_no_trials(board, rules):
    (board / "empty" / "study_0").mkdir(parents=True)
    found = logs.read([board], rules, "external")
    assert list(found.submissions) == ["adam", "empty", "sgd"]
    assert len(found.trials) == 32


def test_no_trials_at_all(tmp_path, rules):
    (tmp_path / "adam" / "study_0").mkdir(parents=True)
    found = logs.read([tmp_path], rules, "external")
    assert list(found.submissions) == ["adam"]
    assert len(found.trials) == len(found.evaluations) == 0


def test_one_framework_is_read(board, rules, write_trial, trial_path):
    write_trial(board / trial_path("sgd", "vision", framework="pytorch"), [1.0, 2.0], [0.5, 0.6])
    (trial,) = logs.read([board], rules, "external", framework="pytorch").trials
    assert trial.folder.path == board / trial_path("sgd", "vision", framework="pytorch")
    assert len(logs.read([board], rules, "external", framework="jax").trials) == 32


class TestEndOfATrial:
    @pytest.fixture
    def read_trial(self, tmp_path, rules, write_trial, trial_path):
        def read(content=None, evaluations=2):
            path = write_trial(tmp_path / trial_path("adam", "vision"), list(range(evaluations)), [0.5] * evaluations)
            if content is not None:
                (path / "trial.json").write_bytes(content)
            (trial,) = logs.read([tmp_path], rules, "external").trials
            return trial

        return read

    @pytest.mark.parametrize(
        ("end_reason", "evaluations", "has_crashed"),
        [
            (None, 0, True),
            (None, 1, True),
            (None, 2, False),
            ("reached", 0, True),
            ("reached", 1, False),
            ("budget", 2, False),
            ("diverged", 1, False),
            ("error", 5, True),
            ("oom", 5, True),
            ("infrastructure", 5, False),
        ],
    )
    def test_has_crashed(self, read_trial, end_reason, evaluations, has_crashed):
        content = end_reason and json.dumps({"end_reason": end_reason, "steps": 5}).encode()
        trial = read_trial(content, evaluations)
        assert trial.end_reason == end_reason
        assert trial.num_evaluations == evaluations
        assert trial.has_crashed is has_crashed

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b'{"end_reason": "oo',
            b"null",
            b"[]",
            b'"oom"',
            b"{}",
            b'{"end_reason": null}',
            b'{"end_reason": 3}',
            b'{"end_reason": ["oom"]}',
            b"\xff\xfe\x00",
            b"\x00" * 100,
            b'{"end_reason": ' + b"1" * 10_000 + b"}",
            b"[" * 100_000,
        ],
        ids=lambda content: repr(content[:20]),
    )
    def test_a_damaged_trial_json_says_nothing(self, read_trial, content):
        trial = read_trial(content)
        assert trial.end_reason is None
        assert trial.num_evaluations == 2
        assert not trial.has_crashed

    def test_a_folder_in_place_of_trial_json_says_nothing(self, read_trial, tmp_path, trial_path):
        (tmp_path / trial_path("adam", "vision") / "trial.json").mkdir(parents=True)
        assert read_trial().end_reason is None

    def test_the_reason_is_of_the_trial_it_lies_in(self, board, rules, write_trial, trial_path):
        write_trial(board / trial_path("adam", "speech", 1, 2), [], [], metric="wer", end_reason="oom")
        found = logs.read([board], rules, "external")
        assert [trial.folder.path for trial in found.trials if trial.has_crashed] == [
            board / trial_path("adam", "speech", 1, 2)
        ]
        assert Kind.HEADER_ONLY in {one.kind for one in found.anomalies}


class TestUnfinishedTrials:
    """A trial that runs, was killed, or was stopped by the machine may still reach what it has not reached."""

    @pytest.fixture
    def cell(self, tmp_path, rules, write_trial, trial_path):
        def make(times, metrics, record):
            folder = write_trial(tmp_path / trial_path("adam", "speech"), times, metrics, metric="wer")
            (folder / "trial.json").write_text(json.dumps(record))
            read = logs.read([tmp_path], rules, "self")
            return board.score(read).cells["adam", "speech"], {one.kind for one in read.anomalies}

        return make

    @pytest.mark.parametrize("record", [{"state": "running"}, {"state": "finished", "end_reason": "infrastructure"}])
    @pytest.mark.parametrize("number", [1, 2])
    def test_without_its_target_it_is_not_a_miss_and_no_crash(self, cell, record, number):
        found, kinds = cell([10, 20][:number], [0.5, 0.4][:number], record)
        assert (found.reason, found.studies_s) == (board.Reason.UNFINISHED, {})
        assert found.detail.endswith("1 have not ended")
        assert Kind.UNFINISHED in kinds

    def test_with_its_target_it_counts(self, cell):
        found, kinds = cell([10, 20], [0.5, 0.3], {"state": "running"})
        assert (found.reason, found.time_s, found.selected) == (None, 20, {0: 1})
        assert Kind.UNFINISHED in kinds

    def test_once_it_has_ended_it_is_a_miss(self, cell):
        found, kinds = cell([10, 20], [0.5, 0.4], {"state": "finished", "end_reason": "budget"})
        assert (found.reason, found.time_s) == (board.Reason.NOT_REACHED, np.inf)
        assert Kind.UNFINISHED not in kinds


def test_the_same_file_twice_is_reported(tmp_path, rules, write_trial, trial_path):
    for study in (0, 1):
        write_trial(tmp_path / trial_path("adam", "speech", study), [10, 20], [0.5, 0.3], metric="wer")
    found = [one for one in logs.read([tmp_path], rules, "self").anomalies if one.kind is Kind.SAME_FILE]
    assert [(one.path, one.detail) for one in found] == [
        (tmp_path / trial_path("adam", "speech", 1), "adam/study_0/speech_jax/trial_1")
    ]


def test_a_name_that_is_no_text_is_written_as_one(tmp_path, rules, write_trial):
    folder = tmp_path / b"caf\xe9".decode(errors="surrogateescape")
    write_trial(folder / "study_0/speech_jax/trial_1", [10, 20], [0.5, 0.3], metric="wer")
    assert list(logs.read([tmp_path], rules, "self").submissions) == ["caf\\xe9"]
