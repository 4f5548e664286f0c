"""What the report says in words, and how it names submissions."""

import re

import pytest

from algoperf_scoring import board
from algoperf_scoring.report import series, tables, words


def test_series_keep_apart():
    found = list(series.series([str(index) for index in range(30)]).values())
    assert [one.letter for one in found][24:28] == ["Y", "Z", "AA", "AB"]
    assert len({(one.colour, one.dashes) for one in found}) == 30
    assert len({one.colour for one in found[:12]}) == 12
    assert not any(one.dashes for one in found[:12])


def test_changes_of_rank():
    data = {
        "submissions": {"a": {"score": 0.9}, "b": {"score": 0.8}, "c": {"score": 0.7}},
        "robustness": {"without_submission": {"a": {"b": 0.5, "c": 0.6}, "c": {"a": 0.9, "b": 0.9}}},
    }
    found = tables.changes(data, "without_submission")
    assert {name: (one.rank, one.up) for name, one in found["a"].items()} == {"b": (2, -1), "c": (1, 1)}
    assert {name: (one.rank, one.up) for name, one in found["c"].items()} == {"a": (1, 0), "b": (1, 1)}
    assert tables.num_changed(found) == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.0, "0.00 s"),
        (89.96, "90.0 s"),
        (90, "1.50 min"),
        (879.4, "14.7 min"),
        (5399, "90.0 min"),
        (5400, "1.50 h"),
        (359_999, "100 h"),
        (3_600_000, "1,000 h"),
    ],
)
def test_durations(seconds, text):
    assert words.duration(seconds).replace("\u202f", " ") == text


def test_reasons_are_told_for_every_kind():
    assert set(words.REASONS) == {reason.value for reason in board.Reason}


def test_machines_in_words():
    facts = {"submission": "a", "framework": "jax", "gpu_model_name": "V100", "gpu_count": 8, "jax": "0.4", "trials": 3}
    assert tables.machine(facts) == ("8 × V100", "unknown", "jax 0.4")
    assert tables.machine({"submission": "a", "trials": 1}) == ("unknown", "unknown", "unknown")


@pytest.mark.parametrize(
    ("scores", "studies", "text"),
    [
        (
            {"a": 0.9, "b": 0.8},
            3,
            "a is first with a score of 0.9000, 95 % interval 0.7000 to 1.0000; it comes first in 60.0 %",
        ),
        ({"a": 0.9, "b": 0.8}, 1, "a is first with a score of 0.9000."),
        ({"a": 0.9, "b": 0.9, "c": 0.9}, 3, "a, b and c are first with a score of 0.9000."),
        ({"a": 0.5}, 3, "a is first with a score of 0.5000; with nobody to compare with"),
        ({"a": 0.0, "b": 0.0}, 3, "No submission reached a target"),
    ],
)
def test_headline(scores, studies, text):
    data = {
        "bootstrap": {"level": 0.95, "studies": studies},
        "submissions": {
            name: {
                "score": score,
                "rank": 1 + sum(other > score for other in scores.values()),
                "interval": [0.7, 1.0],
                "first": 0.6,
            }
            for name, score in scores.items()
        },
    }
    assert re.sub(r"<[^>]*>", "", tables.headline(data)).replace("\u202f", " ").startswith(text)


def test_names_break_where_words_end_and_turn_nothing_around():
    assert words.breakable("a_b/c<i>") == "<bdi>a_<wbr>b/<wbr>c&lt;i&gt;</bdi>"
