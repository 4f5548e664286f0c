"""What is written as JSON is what docs/scores.schema.json says, and docs/scores.md shows."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from algoperf_scoring import board, document, logs
from algoperf_scoring.board import Reason
from algoperf_scoring.times import Missing, Selection

DOCS = Path(__file__).parents[3] / "docs"
SCHEMA = json.loads((DOCS / "scores.schema.json").read_text())


@pytest.fixture
def data(tmp_path, rules, write_board, write_trial, trial_path):
    """A board with most of what can be told: reached and missed targets, anomalies, missing studies, a baseline."""
    write_board(tmp_path)
    write_trial(tmp_path / trial_path("lion", "language"), [5, 20, 30], [10, 31.0, float("nan")], metric="bleu")
    (tmp_path / "lion" / "submission_info.yml").write_text("authors: [A, B]")

    def make(selection=Selection.FASTEST, missing=Missing.DROP, baseline="adam"):
        read = logs.read([tmp_path], rules, "external")
        analysis = document.Analysis(board=board.score(read, selection, missing), baseline=baseline)
        return json.loads(json.dumps(document.as_data(analysis), allow_nan=False))

    return make


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("selection", list(Selection))
@pytest.mark.parametrize("missing", list(Missing))
@pytest.mark.parametrize("baseline", [None, "lion"])
def test_scores_are_as_described(data, selection, missing, baseline):
    found = data(selection, missing, baseline)
    assert found["submissions"]["lion"]["workloads"]["language"]["time_to_target_s"] in (20.0, None)
    jsonschema.validate(found, SCHEMA)


def test_the_description_notices_what_is_wrong(data):
    found = data()
    found["submissions"]["lion"]["score"] = 1.5
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, SCHEMA)


def test_the_reasons_are_those_of_the_documentation():
    cell = SCHEMA["properties"]["submissions"]["additionalProperties"]["properties"]["workloads"][
        "additionalProperties"
    ]
    assert cell["properties"]["reason"]["enum"] == [None, *Reason]
    section = (DOCS / "scores.md").read_text().partition("## Why a cell is infinite")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(Reason)


def test_the_example_of_the_documentation_is_part_of_what_is_written(data):
    (example,) = re.findall(r"```json\n(.*?)```", (DOCS / "scores.md").read_text(), re.DOTALL)
    shown = json.loads(example)
    found = data()
    assert set(shown) <= set(found)
    submission, cell = shown["submissions"]["NAME"], shown["submissions"]["NAME"]["workloads"]["wmt"]
    assert set(submission) <= set(found["submissions"]["lion"])
    assert set(cell) <= set(found["submissions"]["lion"]["workloads"]["language"])
