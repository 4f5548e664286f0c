"""Submissions and trials are found where the layout has them; what else lies there is said and changes nothing."""

import os
import shutil

import pytest

from algoperf_scoring import find, logs
from algoperf_scoring.anomalies import Anomaly, Kind

WORKLOADS = ("vision", "speech", "language", "vision_gelu")


def names(*paths):
    return list(find.submission_folders(paths)[0])


def make(path):
    path.mkdir(parents=True)
    return path


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


class TestSubmissionFolders:
    def test_a_board(self, board):
        found, anomalies = find.submission_folders([board])
        assert list(found.items()) == [("adam", board / "adam"), ("sgd", board / "sgd")]
        assert anomalies == []

    def test_a_submission(self, board):
        assert names(board / "sgd") == ["sgd"]

    def test_a_folder_far_above(self, board, tmp_path):
        above = tmp_path / "repository"
        shutil.move(board, make(above / "1" / "2" / "3" / "4") / "5")
        make(above / "docs" / "images")
        found, anomalies = find.submission_folders([above])
        assert list(found.values()) == [above / "1/2/3/4/5/adam", above / "1/2/3/4/5/sgd"]
        # Only what lies beside submissions was meant to be one.
        assert anomalies == []

    def test_boards_at_different_depths_below_one_folder(self, board, write_board):
        write_board(board.parent / "more" / "deep", ["lion"])
        assert names(board.parent) == ["adam", "lion", "sgd"]

    @pytest.mark.parametrize(("inside", "expected"), [("", ["adam", "sgd"]), ("adam", ["adam"])])
    def test_the_current_folder(self, board, monkeypatch, tmp_path, inside, expected):
        monkeypatch.chdir(board / inside)
        assert names(find.Path(".")) == expected
        monkeypatch.chdir(tmp_path)
        assert names(find.Path("board") / inside) == expected

    def test_equal_names_are_told_apart_by_what_lies_above(self, tmp_path, write_board):
        write_board(tmp_path / "old", ["adam", "sgd"])
        write_board(tmp_path / "new", ["adam"])
        write_board(tmp_path / "other" / "new", ["adam"])
        expected = {
            "old/adam": tmp_path / "old/adam",
            f"{tmp_path.name}/new/adam": tmp_path / "new/adam",
            "other/new/adam": tmp_path / "other/new/adam",
            "sgd": tmp_path / "old/sgd",
        }
        boards = [tmp_path / "old", tmp_path / "new", tmp_path / "other/new"]
        for order in (boards, boards[::-1], [tmp_path]):
            found, _ = find.submission_folders(order)
            assert list(found.items()) == sorted(expected.items())

    def test_a_submission_that_is_given_twice_counts_once(self, board):
        assert names(board, board / "adam", board / "sgd" / "..", board) == ["adam", "sgd"]

    def test_folders_beside_submissions_are_reported(self, board):
        make(board / "notes" / "old")
        make(board / ".git" / "study_0")
        touch(board / "README.md")
        found, anomalies = find.submission_folders([board])
        assert list(found) == ["adam", "sgd"]
        assert anomalies == [Anomaly(board / "notes", Kind.NO_STUDIES)]

    def test_a_folder_beside_submissions_is_reported_once(self, board):
        make(board / "notes")
        assert find.submission_folders([board, board, board.parent])[1] == [Anomaly(board / "notes", Kind.NO_STUDIES)]

    def test_no_folder(self, board):
        file = board / "adam/study_0/vision_jax/trial_1/eval_measurements.csv"
        for path, problem in ((board / "nothing", "does not exist"), (file, "is no folder")):
            with pytest.raises(ValueError, match=problem) as error:
                find.submission_folders([board, path])
            self.check_sentence(str(error.value), path)

    @pytest.mark.parametrize("inside", ["board/adam/study_0", "board/adam/study_0/vision_jax/trial_1"])
    def test_part_of_a_study(self, board, rules, inside):
        path = board.parent / inside
        with pytest.raises(ValueError, match="is one study or part of one") as error:
            logs.read([path], rules, "external")
        self.check_sentence(str(error.value), path)
        assert str(error.value).endswith(f"name its submission, {board / 'adam'}.")

    @pytest.mark.parametrize("inside", ["empty", "empty/deep"])
    def test_no_logs(self, board, rules, inside):
        make(board.parent / "empty" / "deep")
        touch(board.parent / "empty" / "study_1")
        path = board.parent / inside
        with pytest.raises(ValueError, match="holds no study_<k> folder") as error:
            logs.read([board, path], rules, "external")
        self.check_sentence(str(error.value), path)

    def check_sentence(self, message, path):
        assert str(path) in message
        assert "\n" not in message
        assert ". " not in message
        assert message[-1] in ".…"

    def test_a_link_to_a_submission_is_one(self, board, tmp_path):
        make(tmp_path / "linked")
        (tmp_path / "linked" / "lion").symlink_to(board / "sgd")
        assert names(tmp_path / "linked") == ["lion"]

    def test_links_that_go_round_end(self, board, monkeypatch):
        for number in range(4):
            (board / f"round_{number}").symlink_to(board)
        (board / "self").symlink_to(board / "self")
        calls = []
        scandir = os.scandir
        monkeypatch.setattr(find.os, "scandir", lambda path: calls.append(path) or scandir(path))
        assert names(board) == ["adam", "sgd"]
        assert len(calls) < 100

    def test_a_link_that_goes_round_inside_a_submission_is_stray(self, board, rules):
        (board / "adam" / "study_0" / "vision_jax" / "again").symlink_to(board / "adam")
        found, anomalies = find.trial_folders("adam", board / "adam", rules)
        assert len(found) == 16
        assert [one.kind for one in anomalies] == [Kind.STRAY_FOLDER]


# The name, what is made (a trailing slash: a folder), and what is said about what.
ADDITIONS = [
    ("trial directly under the study", "adam/study_0/trial_1/", Kind.MISPLACED_TRIAL, "adam/study_0/trial_1"),
    ("trial directly under the submission", "adam/trial_1/", Kind.STRAY_FOLDER, "adam/trial_1"),
    ("file in the submission", "adam/scores.csv", Kind.STRAY_FILE, "adam/scores.csv"),
    ("log in the study", "adam/study_1/vision_jax_10-09-2024.log", Kind.STRAY_FILE, None),
    ("log in the workload", "adam/study_1/vision_jax/run.log", Kind.STRAY_FILE, None),
    ("file that is called as a workload", "adam/study_1/speech_pytorch", Kind.STRAY_FILE, None),
    ("file that is called as a trial", "adam/study_1/vision_jax/trial_9", Kind.STRAY_FILE, None),
    ("old trial", "adam/study_1/vision_jax/trial_1_old/", Kind.STRAY_FOLDER, "adam/study_1/vision_jax/trial_1_old"),
    ("old study", "adam/study_1_old/", Kind.STRAY_FOLDER, "adam/study_1_old"),
    ("plots", "adam/study_1/plots/", Kind.STRAY_FOLDER, "adam/study_1/plots"),
    ("workload without a framework", "adam/study_1/vision/trial_1/", Kind.STRAY_FOLDER, "adam/study_1/vision"),
    ("another framework", "adam/study_1/vision_mxnet/trial_1/", Kind.STRAY_FOLDER, "adam/study_1/vision_mxnet"),
    ("unknown workload", "adam/study_1/chess_jax/trial_1/", Kind.UNKNOWN_WORKLOAD, "adam/study_1/chess_jax"),
    (
        "unscored workload",
        "sgd/study_1/speech_tanh_jax/trial_1/",
        Kind.UNSCORED_WORKLOAD,
        "sgd/study_1/speech_tanh_jax",
    ),
    ("workload without trials", "adam/study_1/speech_pytorch/", Kind.NO_TRIALS, "adam/study_1/speech_pytorch"),
    ("what a submission brings", "adam/submission_info.yml", None, None),
    ("what a repository brings", "adam/README.md", None, None),
    ("what a desktop leaves", "adam/study_1/vision_jax/.DS_Store", None, None),
    ("files of a trial", "adam/study_1/vision_jax/trial_1/vision_jax.log", None, None),
    ("folders of a trial", "adam/study_1/vision_jax/trial_1/checkpoints/", None, None),
]


@pytest.mark.parametrize(("addition", "kind", "path"), [a[1:] for a in ADDITIONS], ids=[a[0] for a in ADDITIONS])
def test_what_the_layout_does_not_have_is_reported_and_changes_nothing(
    board, rules, rows_by_trial, anomalies_below, addition, kind, path
):
    clean = logs.read([board], rules, "external")
    (make if addition.endswith("/") else touch)(board / addition)
    found = logs.read([board], rules, "external")
    assert anomalies_below(found, board) == ([(path or addition, kind)] if kind else [])
    assert list(rows_by_trial(found, board).items()) == list(rows_by_trial(clean, board).items())


def test_trials_come_sorted_by_what_their_paths_say(tmp_path, rules, trial_path):
    given = [("vision", 0, 10), ("vision", 0, 9), ("vision", 10, 1), ("speech", 2, 1), ("vision_gelu", 2, 3)]
    for workload, study, number in given:
        make(tmp_path / trial_path("adam", workload, study, number, "pytorch"))
    found, _ = find.trial_folders("its name", tmp_path / "adam", rules)
    assert [(one.workload, one.study, one.number) for one in found] == sorted(given)
    assert {(one.submission, one.framework) for one in found} == {("its name", "pytorch")}
    assert [one.path for one in found] == [tmp_path / trial_path("adam", *one, "pytorch") for one in sorted(given)]


@pytest.mark.parametrize(
    ("jax", "pytorch", "asked", "expected"),
    [
        (3, 2, None, "jax"),
        (2, 3, None, "pytorch"),
        (2, 2, None, "jax"),
        (2, 3, "jax", "jax"),
        (3, 2, "pytorch", "pytorch"),
    ],
)
def test_of_a_workload_in_both_frameworks_one_is_scored(tmp_path, rules, trial_path, jax, pytorch, asked, expected):
    for framework, count in (("jax", jax), ("pytorch", pytorch)):
        for number in range(count):
            folder = make(tmp_path / trial_path("adam", "vision", number % 2, number, framework))
            touch(folder / "eval_measurements.csv")
    # However many there are that left nothing.
    for number in range(10, 20):
        make(tmp_path / trial_path("adam", "vision", 0, number, "pytorch" if expected == "jax" else "jax"))
    make(tmp_path / trial_path("adam", "speech", framework="pytorch"))

    found, anomalies = find.trial_folders("adam", tmp_path / "adam", rules, asked)

    vision = [one.framework for one in found if one.workload == "vision"]
    assert vision == [expected] * {"jax": jax, "pytorch": pytorch}[expected]
    # Workloads choose for themselves.
    assert [one.framework for one in found if one.workload == "speech"] == ["pytorch"] * (asked != "jax")
    if asked:
        assert anomalies == []
    else:
        detail = f"vision: {jax} of jax, {pytorch} of pytorch trials with evaluations; scored: {expected}"
        assert anomalies == [Anomaly(tmp_path / "adam", Kind.BOTH_FRAMEWORKS, detail)]


def remove(path):
    return lambda board: shutil.rmtree(board / path)


def make_different(folder):
    """Copies of a trial are told apart by one evaluation more."""
    for path in folder.rglob("eval_measurements.csv"):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines, lines[-1]]))


def add_trial(board):
    shutil.copytree(board / "adam/study_0/speech_jax/trial_1", board / "adam/study_0/speech_jax/trial_7")
    make_different(board / "adam/study_0/speech_jax/trial_7")


def add_study(board):
    shutil.copytree(board / "adam/study_0", board / "adam/study_2")
    make_different(board / "adam/study_2")


def remove_workload(board):
    for study in (0, 1):
        shutil.rmtree(board / f"adam/study_{study}/speech_jax")


# The damage, what is said about the submission, and how many of the 32 trials are left.
NUMBERS = [
    (remove("adam/study_1"), {(Kind.MISSING_STUDY, f"{name}: 1 of 2 studies") for name in WORKLOADS}, 24),
    (remove("adam/study_1/speech_jax"), {(Kind.MISSING_STUDY, "speech: 1 of 2 studies")}, 30),
    (remove_workload, {(Kind.MISSING_WORKLOAD, "speech")}, 28),
    (remove("adam/study_1/speech_jax/trial_2"), {(Kind.MISSING_TRIAL, "speech, study 1: 1 of 2 trials")}, 31),
    (add_trial, {(Kind.EXTRA_TRIAL, "speech, study 0: 3 of 2 trials")}, 33),
    (add_study, {(Kind.EXTRA_STUDY, f"{name}: 3 of 2 studies") for name in WORKLOADS}, 40),
]


@pytest.mark.parametrize(
    ("damage", "expected", "count"),
    NUMBERS,
    ids=["study", "workload in a study", "workload", "trial", "more trials", "more"],
)
def test_more_or_fewer_than_the_rules_ask_for(board, rules, rows_by_trial, damage, expected, count):
    before = rows_by_trial(logs.read([board], rules, "external"), board)
    damage(board)
    found = logs.read([board], rules, "external")
    assert {(one.kind, one.detail) for one in found.anomalies} == expected
    assert {one.path for one in found.anomalies} <= {board / "adam"}
    assert len(found.anomalies) == len(expected)
    after = rows_by_trial(found, board)
    assert len(after) == count
    assert all(after[path] == before[path] for path in set(before) & set(after))


def test_how_many_are_asked_for_depends_on_the_ruleset(board, rules):
    found = logs.read([board], rules, "self").anomalies
    assert {one.kind for one in found} == {Kind.MISSING_STUDY, Kind.EXTRA_TRIAL}
    assert "vision: 2 of 3 studies" in {one.detail for one in found}
    assert "vision, study 0: 2 of 1 trials" in {one.detail for one in found}


def test_a_trial_without_evaluations_is_one_that_is_missing(board, rules):
    (board / "adam/study_0/vision_jax/trial_2/eval_measurements.csv").unlink()
    found = logs.read([board], rules, "external").anomalies
    assert (Kind.MISSING_TRIAL, "vision, study 0: 1 of 2 trials") in {(one.kind, one.detail) for one in found}


@pytest.mark.parametrize("closed", ["sgd/study_1", "sgd/study_0/speech_jax"])
def test_a_folder_that_may_not_be_read_is_reported_and_changes_no_other(
    board, rules, rows_by_trial, monkeypatch, closed
):
    before = rows_by_trial(logs.read([board], rules, "external"), board)
    scandir = os.scandir

    def refuse(path):
        if str(path) == str(board / closed):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = logs.read([board], rules, "external")
    assert Anomaly(board / closed, Kind.UNREADABLE, "Permission denied") in found.anomalies
    after = rows_by_trial(found, board)
    assert after == {path: rows for path, rows in before.items() if not path.startswith(f"{closed}/")}


def test_a_report_beside_submissions_is_no_anomaly(tmp_path):
    (tmp_path / "mine" / "study_0").mkdir(parents=True)
    report = tmp_path / "report"
    report.mkdir()
    (report / "scores.json").write_text("{}")
    submissions, anomalies = find.submission_folders([tmp_path])
    assert list(submissions) == ["mine"]
    assert anomalies == []
