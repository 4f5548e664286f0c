"""submission_info.yml, as people really write it."""

from pathlib import Path

import pytest

from algoperf_scoring import submission_info

WHOLE = """\
submission_name: "Schedule-Free AdamW"
submission_folder: submissions/schedule_free
authors: "Ada Lovelace, Alan Turing"
affiliations: "Example University"
version: 1.0
ruleset: external
framework: PyTorch
description: >
  Averages instead of
  a schedule.
"""
# The dump of a conda environment, which has been handed in as a submission_info.yml.
CONDA = """\
name: secret-environment
channels:
  - https://user:token@conda.example.org/private
dependencies:
  - python=3.11
  - pip:
    - secret-package==1.0
prefix: /home/secret/miniconda3/envs/secret-environment
"""


def info(folder, text, name="submission_info.yml"):
    folder.mkdir(parents=True, exist_ok=True)
    content = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(content)
    return submission_info.read(folder)


def test_whole(tmp_path):
    found = info(tmp_path, WHOLE)
    assert found.problem == ""
    assert found.facts == {
        "submission_name": "Schedule-Free AdamW",
        "authors": "Ada Lovelace, Alan Turing",
        "affiliations": "Example University",
        "version": "1.0",
        "ruleset": "external",
        "framework": "PyTorch",
        "description": "Averages instead of a schedule.",
    }


def test_missing(tmp_path):
    found = submission_info.read(tmp_path)
    assert (found.facts, found.problem) == ({}, "no submission_info.yml")


@pytest.mark.parametrize(
    "name", ["submission_info.yml", "submission_info.yaml", "submissions_info.yml", "submissions_info.yaml"]
)
def test_names(tmp_path, name):
    assert info(tmp_path, "submission_name: Adam\n", name).facts == {"submission_name": "Adam"}


def test_the_right_name_comes_first(tmp_path):
    info(tmp_path, "submission_name: other\n", "submissions_info.yaml")
    assert info(tmp_path, "submission_name: right\n").facts == {"submission_name": "right"}


def test_folder_of_that_name_is_no_file(tmp_path):
    (tmp_path / "submission_info.yml").mkdir()
    assert submission_info.read(tmp_path).problem == "no submission_info.yml"


@pytest.mark.parametrize(
    ("text", "authors"),
    [
        ("authors: [Ada Lovelace, Alan Turing]\n", "Ada Lovelace, Alan Turing"),
        ("authors:\n- Ada Lovelace\n-   Alan   Turing\n", "Ada Lovelace, Alan Turing"),
        ("authors: |\n  Ada Lovelace\n  Alan Turing\n", "Ada Lovelace Alan Turing"),
        ("authors: Émilie\n", "Émilie"),
        ("authors: 7\n", "7"),
        ("authors: [Ada, null, 3]\n", "Ada, 3"),
    ],
)
def test_authors(tmp_path, text, authors):
    found = info(tmp_path, text)
    assert (found.facts, found.problem) == ({"authors": authors}, "")


def test_what_is_left_empty_is_not_given(tmp_path):
    found = info(tmp_path, 'submission_name: Adam\nauthors:\naffiliations: ""\nversion: []\n')
    assert (found.facts, found.problem) == ({"submission_name": "Adam"}, "")


def test_conda_environment_does_not_leak(tmp_path):
    found = info(tmp_path, CONDA)
    assert found.facts == {}
    assert found.problem.startswith("submission_info.yml holds none of submission_name, ")
    assert "secret" not in found.problem
    # Nor beside fields that are known.
    found = info(tmp_path, CONDA + "authors: Ada\n")
    assert (found.facts, found.problem) == ({"authors": "Ada"}, "")


@pytest.mark.parametrize(
    "text",
    [
        "submission_name: Adam\nauthors: [Ada\nversion: 1\n",
        "submission_name: Adam: better\n",
        "\tsubmission_name: Adam\n",
        "submission_name: *Adam\n",
        "submission_name: !!python/object:os.system Adam\n",
        "submission_name: 'Adam\n",
        b"submission_name: Adam\x00\n",
        "? [Adam]\n: 1\n",
    ],
)
def test_broken(tmp_path, text):
    """It never stops the scoring, and it is told."""
    found = info(tmp_path, text)
    assert found.facts == {}
    assert found.problem.startswith("submission_info.yml cannot be read")
    assert "\n" not in found.problem


@pytest.mark.parametrize(
    "text",
    [
        # They look like a date and numbers, and are none.
        "version: 2024-13-45\n",
        "version: 0b_\n",
        "version: !!float Adam\n",
        # A list that holds itself has no end.
        "authors: &all [Adam, *all]\n",
        "authors: &all [[Adam, *all], *all]\n",
        "authors: [[Ada, Alan], {name: Grace}]\n",
    ],
)
def test_odd_values_are_text_or_a_problem(tmp_path, text):
    found = info(tmp_path, text)
    assert (found.facts == {}) == (found.problem != "")


@pytest.mark.parametrize(
    "text",
    [
        CONDA + "authors: [Ada\n",
        "token: secret: 1\n",
        "[secret\n",
        "authors: Ada\n prefix: /home/secret\n",
        "key: *secret\n",
        "key: !secret 1\n",
    ],
)
def test_what_is_wrong_is_told_without_what_it_says(tmp_path, text):
    """The words of a parser quote the file, and that may hold what nobody meant to publish."""
    found = info(tmp_path, text)
    assert found.problem.startswith("submission_info.yml cannot be read")
    assert "secret" not in found.problem


def test_line_of_what_is_wrong_is_told(tmp_path):
    assert "line 2" in info(tmp_path, "authors: Ada\nversion: 1: 2\n").problem


@pytest.mark.parametrize("text", ["", "- Ada\n- Alan\n", "Adam by Ada\n", "# nothing\n", "7\n"])
def test_not_a_mapping(tmp_path, text):
    found = info(tmp_path, text)
    assert (found.facts, found.problem) == ({}, "submission_info.yml is not a list of fields")


def test_other_encodings(tmp_path):
    found = info(tmp_path, "authors: Émilie\nversion: 2\n".encode("latin-1"))
    assert (found.facts["version"], found.problem) == ("2", "")
    assert info(tmp_path, "authors: Émilie\r\nversion: 2\r\n").facts == {"authors": "Émilie", "version": "2"}


def test_file_that_cannot_be_opened(tmp_path, monkeypatch):
    """Where it lies is nobody's business."""

    def refuse(path, *args, **options):
        raise PermissionError(13, "Permission denied", str(path))

    info(tmp_path, WHOLE)
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    found = submission_info.read(tmp_path)
    assert found.facts == {}
    assert found.problem.startswith("submission_info.yml cannot be read")
    assert "Permission denied" in found.problem
    assert str(tmp_path) not in found.problem


def test_beside_the_code(tmp_path):
    """In a repository of results, logs and submissions are two trees of one shape."""
    logs = tmp_path / "logs" / "v0.5" / "logs" / "self_tuning" / "adam"
    logs.mkdir(parents=True)
    beside = tmp_path / "logs" / "v0.5" / "submissions" / "self_tuning" / "adam"
    info(beside, "authors: beside\n", "submissions_info.yaml")
    assert submission_info.read(logs).facts == {"authors": "beside"}
    # What lies with the logs comes first.
    info(logs, "authors: here\n")
    assert submission_info.read(logs).facts == {"authors": "here"}
