"""Each way in which a trial's file can be wrong: what is left of the trial, what is said, and that no other changes."""

from collections import Counter

import numpy as np
import pytest

from algoperf_scoring import anomalies, logs
from algoperf_scoring.anomalies import Anomaly, Kind

TRIAL = "adam/study_0/vision_jax/trial_1"
FILE = f"{TRIAL}/eval_measurements.csv"
FIRST, SECOND, THIRD = (10.0, 0.125), (20.0, 0.25), (30.0, 0.75)
ALL = [FIRST, SECOND, THIRD]
NAN = float("nan")
METRIC = "validation/accuracy"


def cell(column, text, row=1):
    """Writes `text` into a cell, rows counted from the header."""

    def damage(good):
        lines = [line.split(b",") for line in good.splitlines()]
        lines[row][lines[0].index(column.encode())] = text
        return b"".join(b",".join(line) + b"\n" for line in lines)

    return damage


def both_times(text, row):
    score, submission = cell("score", text, row), cell("accumulated_submission_time", text, row)
    return lambda good: submission(score(good))


def column_removed(*columns):
    def damage(good):
        lines = [line.split(b",") for line in good.splitlines()]
        keep = [index for index, name in enumerate(lines[0]) if name.decode() not in columns]
        return b"".join(b",".join(line[index] for index in keep) + b"\n" for line in lines)

    return damage


def line_inserted(line, after=2):
    """Inserts a line after so many lines, the header counted."""

    def damage(good):
        lines = good.splitlines(keepends=True)
        return b"".join([*lines[:after], line(good) if callable(line) else line, *lines[after:]])

    return damage


def first_lines(count):
    return lambda good: b"".join(good.splitlines(keepends=True)[:count])


def swapped(good):
    header, first, second, third = good.splitlines(keepends=True)
    return header + second + first + third


def num_commas(good):
    return good.splitlines()[0].count(b",")


def one_field_too_many(good):
    """As of a line that was cut and then written on."""
    line = b",".join(str(100 + index).encode() for index in range(num_commas(good) + 2))
    return line_inserted(line + b"\n")(good)


def fields(count):
    """A line of the first fields of the third row, in place of it."""

    def damage(good):
        header, first, second, third = good.splitlines(keepends=True)
        return header + first + second + b",".join(third.split(b",")[:count]) + b"\n"

    return damage


# The name, the damage, the rows that are left as (time, metric), and what is said about the file.
DAMAGES = [
    ("0 bytes", lambda good: b"", [], [Kind.EMPTY_FILE]),
    ("one line end", lambda good: b"\n", [], [Kind.EMPTY_FILE]),
    ("blanks alone", lambda good: b" \t\r\n\n  \n", [], [Kind.EMPTY_FILE]),
    ("header without its end", lambda good: good.splitlines()[0], [], [Kind.HEADER_ONLY]),
    ("header", first_lines(1), [], [Kind.HEADER_ONLY]),
    ("one row", first_lines(2), [FIRST], [Kind.ONE_EVALUATION]),
    ("two rows", first_lines(3), [FIRST, SECOND], []),
    ("nan", cell(METRIC, b"nan", 3), [FIRST, SECOND, (30.0, NAN)], [Kind.NAN_METRIC]),
    ("NaN", cell(METRIC, b"NaN", 3), [FIRST, SECOND, (30.0, NAN)], [Kind.NAN_METRIC]),
    ("no metric", cell(METRIC, b"", 3), [FIRST, SECOND, (30.0, NAN)], [Kind.NAN_METRIC]),
    ("word for a metric", cell(METRIC, b"0.75x", 3), [FIRST, SECOND, (30.0, NAN)], [Kind.NAN_METRIC]),
    ("infinite metric", cell(METRIC, b"inf"), [(10.0, np.inf), SECOND, THIRD], []),
    ("negative infinity", cell(METRIC, b"-inf"), [(10.0, -np.inf), SECOND, THIRD], []),
    ("stray quote", cell(METRIC, b'"0.125'), [(10.0, NAN), SECOND, THIRD], [Kind.NAN_METRIC]),
    ("quote that opens a line", cell("accumulated_eval_time", b'"'), ALL, []),
    ("quotes around a number", cell(METRIC, b'"0.125"'), [(10.0, NAN), SECOND, THIRD], [Kind.NAN_METRIC]),
    ("no metric column", column_removed(METRIC), [(10.0, NAN), (20.0, NAN), (30.0, NAN)], [Kind.MISSING_COLUMN]),
    ("no step column", column_removed("global_step"), ALL, [Kind.MISSING_COLUMN]),
    ("no score column", column_removed("score"), ALL, []),
    ("no submission time column", column_removed("accumulated_submission_time"), ALL, []),
    ("no time column", column_removed("score", "accumulated_submission_time"), [], [Kind.MISSING_COLUMN]),
    ("no column that is not needed", column_removed("total_duration", "train/loss", "test/num_examples"), ALL, []),
    ("cut line", lambda good: good[:-40], [FIRST, SECOND], [Kind.TRUNCATED_LINE]),
    ("lines swapped", swapped, [SECOND, FIRST, THIRD], [Kind.TIME_BACKWARDS]),
    ("time goes back", both_times(b"5.0", 2), [FIRST, (5.0, 0.25), THIRD], [Kind.TIME_BACKWARDS]),
    ("time stands", both_times(b"10.0", 2), [FIRST, (10.0, 0.25), THIRD], []),
    ("header again", line_inserted(first_lines(1)), ALL, [Kind.UNREADABLE_ROW]),
    ("garbage", line_inserted(b"Traceback (most recent call last):\n"), ALL, [Kind.UNREADABLE_ROW]),
    ("NUL", line_inserted(b"\x00" * 500 + b"\n"), ALL, [Kind.UNREADABLE_ROW]),
    ("no UTF-8", line_inserted(b"\xff\xfe,\x80,\xc3\x28\n"), ALL, [Kind.UNREADABLE_ROW]),
    ("NUL at the end", lambda good: good + b"\x00" * 500, ALL, [Kind.TRUNCATED_LINE]),
    ("blank line", line_inserted(b"\n"), ALL, [Kind.UNREADABLE_ROW]),
    ("commas alone", line_inserted(lambda good: b"," * num_commas(good) + b"\n"), ALL, [Kind.UNREADABLE_ROW]),
    ("too many fields", one_field_too_many, ALL, [Kind.UNREADABLE_ROW]),
    ("too few for a time", fields(4), [FIRST, SECOND], [Kind.UNREADABLE_ROW]),
    ("too few for a metric", fields(9), [FIRST, SECOND], [Kind.UNREADABLE_ROW]),
    ("CRLF", lambda good: good.replace(b"\n", b"\r\n"), ALL, []),
    ("CRLF, not after the last line", lambda good: good.replace(b"\n", b"\r\n")[:-2], ALL, []),
    ("CR for LF", lambda good: good.replace(b"\n", b"\r"), [], [Kind.HEADER_ONLY]),
    ("byte order mark", lambda good: b"\xef\xbb\xbf" + good, ALL, []),
    ("NaN for a time", cell("score", b"nan", 2), [FIRST, THIRD], [Kind.NO_TIME]),
    ("infinite time", cell("score", b"inf", 3), [FIRST, SECOND], [Kind.NO_TIME]),
    ("other score", cell("score", b"10.5"), [(10.5, 0.125), SECOND, THIRD], [Kind.SCORE_IS_NOT_TIME]),
    ("no submission time", cell("accumulated_submission_time", b""), ALL, []),
]


@pytest.mark.parametrize(("damage", "rows", "kinds"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_a_damaged_file_is_reported_and_changes_no_other(
    board, rules, rows_by_trial, anomalies_below, damage, rows, kinds
):
    clean = logs.read([board], rules, "external")
    assert clean.anomalies == []
    file = board / FILE
    file.write_bytes(damage(file.read_bytes()))

    found = logs.read([board], rules, "external")

    missing = [] if rows else [("adam", Kind.MISSING_TRIAL)]
    assert anomalies_below(found, board) == sorted([*((FILE, kind) for kind in kinds), *missing])
    assert anomalies.count(found.anomalies) == Counter([*kinds, *(kind for _, kind in missing)])
    check_rows(found, board, rows)
    check_others(found, clean, board, rows_by_trial)


def check_rows(found, board, rows):
    (trial,) = (trial for trial in found.trials if trial.folder.path == board / TRIAL)
    evaluations = found.evaluations
    pairs = np.stack([evaluations.time_s[trial.rows], evaluations.metric[trial.rows]], axis=1)
    np.testing.assert_array_equal(pairs, np.array(rows).reshape(-1, 2))


def check_others(found, clean, board, rows_by_trial):
    before, after = rows_by_trial(clean, board), rows_by_trial(found, board)
    assert list(after) == list(before)
    assert {path: rows for path, rows in after.items() if path != TRIAL} == {
        path: rows for path, rows in before.items() if path != TRIAL
    }


def remove_file(board):
    (board / FILE).unlink()


def put_folder_in_place(board):
    remove_file(board)
    (board / FILE).mkdir()


def put_dangling_link_in_place(board):
    remove_file(board)
    (board / FILE).symlink_to(board / "nowhere")


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (remove_file, Kind.NO_EVALUATIONS),
        (put_folder_in_place, Kind.UNREADABLE),
        (put_dangling_link_in_place, Kind.NO_EVALUATIONS),
    ],
)
def test_a_file_that_cannot_be_read_is_reported_and_changes_no_other(
    board, rules, rows_by_trial, anomalies_below, damage, kind
):
    clean = logs.read([board], rules, "external")
    damage(board)
    found = logs.read([board], rules, "external")
    assert anomalies_below(found, board) == sorted([(FILE, kind), ("adam", Kind.MISSING_TRIAL)])
    check_rows(found, board, [])
    check_others(found, clean, board, rows_by_trial)


def test_a_file_that_may_not_be_read_is_reported(board, rules, anomalies_below, monkeypatch):
    file = (board / FILE).resolve()
    read_bytes = type(file).read_bytes

    def refuse(path):
        if path == file:
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(type(file), "read_bytes", refuse)
    found = logs.read([board], rules, "external")
    assert anomalies_below(found, board) == sorted([(FILE, Kind.UNREADABLE), ("adam", Kind.MISSING_TRIAL)])
    assert "Permission denied" in [one.detail for one in found.anomalies]


def test_evaluations_after_the_budget_are_reported_and_kept(board, rules, write_trial, anomalies_below):
    write_trial(board / TRIAL, [99.0, 100.0, 100.5, 101.0], [0.1, 0.2, 0.3, 0.4])
    found = logs.read([board], rules, "external")
    assert anomalies_below(found, board) == [(TRIAL, Kind.AFTER_BUDGET)]
    assert found.anomalies[0].detail == "2 evaluations"
    check_rows(found, board, [(99.0, 0.1), (100.0, 0.2), (100.5, 0.3), (101.0, 0.4)])


def test_the_budget_is_that_of_the_ruleset(board, rules, write_trial):
    write_trial(board / TRIAL, [100.5, 150.0], [0.1, 0.2])
    kinds = anomalies.count(logs.read([board], rules, "self").anomalies)
    assert Kind.AFTER_BUDGET not in kinds


def test_details_say_how_many_and_which(board, rules, write_trial):
    write_trial(board / TRIAL, [10.0, 20.0, None, 40.0], [None, 0.2, 0.3, None], without=("global_step",))
    found = {one.kind: one.detail for one in logs.read([board], rules, "external").anomalies}
    assert found == {
        Kind.MISSING_COLUMN: "global_step",
        Kind.NO_TIME: "1 lines",
        Kind.NAN_METRIC: "2 of 3 evaluations",
    }


def test_a_file_can_be_wrong_in_many_ways(board, rules, anomalies_below):
    file = board / FILE
    lines = swapped(file.read_bytes()).splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:2], b"garbage\n", *lines[2:], b"1,2"]))
    found = logs.read([board], rules, "external")
    kinds = [Kind.TRUNCATED_LINE, Kind.UNREADABLE_ROW, Kind.TIME_BACKWARDS]
    assert anomalies_below(found, board) == sorted((FILE, kind) for kind in kinds)
    check_rows(found, board, [SECOND, FIRST, THIRD])


def test_count_is_in_the_order_of_the_kinds(tmp_path):
    given = [Kind.AFTER_BUDGET, Kind.STRAY_FILE, Kind.AFTER_BUDGET]
    counted = anomalies.count(Anomaly(tmp_path, kind) for kind in given)
    assert list(counted.items()) == [(Kind.STRAY_FILE, 1), (Kind.AFTER_BUDGET, 2)]
    assert anomalies.count([]) == {}
