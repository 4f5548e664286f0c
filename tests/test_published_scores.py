"""The command reproduces published leaderboards from their raw logs."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"
BOARDS = {
    "v06_external": ("raw_v06_external", ["--rules", "v0.6", "--ruleset", "external"]),
    "v05_self_tuning": ("raw_v05_self_tuning", ["--rules", "v0.5"]),
}


@pytest.fixture(params=BOARDS)
def board(request, tmp_path):
    """A board's name, its logs, and the options to score it with."""
    name, options = BOARDS[request.param]
    archive = SHARED / "leaderboards" / f"{name}.tar.gz"
    if not archive.exists():
        pytest.skip("the published logs are not here")
    with tarfile.open(archive) as logs:
        logs.extractall(tmp_path / "logs", filter="data")
    return request.param, tmp_path / "logs", options


@pytest.mark.shared
def test_scores_equal_the_published_ones(board, tmp_path):
    name, logs, options = board
    published = json.loads((SHARED / "golden/scoring/published_scores.json").read_text())[name]
    command = [Path(sys.executable).with_name("algoperf-orchestrate"), "score", logs, *options]
    command += ["--compat", "reference", "--json", tmp_path / "scores.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())["submissions"]
    assert {submission: round(found["score_grid"], 4) for submission, found in scores.items()} == published
    rows = [line.split() for line in done.stdout.splitlines()[2 : 2 + len(published)]]
    assert {row[1]: float(row[-1]) for row in rows} == published
