"""Builds folders of logs in the public layout, and small rules to read them by. The fixtures here are functions."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from algoperf_scoring.rules import Rules, RulesetRules, WorkloadRules

RULES = Rules(
    name="test",
    hardware="none",
    base=("vision", "speech", "language"),
    held_out={"vision": "vision_gelu"},
    workloads={
        "vision": WorkloadRules(metric="accuracy", goal="max", target=0.5, budget_s=100),
        "vision_gelu": WorkloadRules(metric="accuracy", goal="max", target=0.4, budget_s=100),
        "speech": WorkloadRules(metric="wer", goal="min", target=0.3, budget_s=200),
        "speech_tanh": WorkloadRules(metric="wer", goal="min", target=0.35, budget_s=200),
        "language": WorkloadRules(metric="bleu", goal="max", target=30.0, budget_s=400),
    },
    rulesets={
        "external": RulesetRules(studies=2, trials=2, budget_factor=1.0),
        "self": RulesetRules(studies=3, trials=1, budget_factor=1.5),
    },
)


def _csv(times, metrics, *, metric="accuracy", without=(), **columns):
    """What eval_measurements.csv holds.

    Args:
        times: submission time of each evaluation, in seconds.
        metrics: the metric on the validation split of each; None writes an empty cell.
        metric: its name.
        without: columns that are left out.
        columns: other values of a column, or other columns: one value per evaluation.
    """
    count = len(times)
    table = {
        "accumulated_eval_time": [index + 0.25 for index in range(count)],
        "accumulated_logging_time": [index + 0.5 for index in range(count)],
        "accumulated_submission_time": times,
        "global_step": [100 * index + 1 for index in range(count)],
        "preemption_count": [0] * count,
        "score": times,
        "total_duration": [index + 7.0 for index in range(count)],
    }
    for split in ("train", "validation", "test"):
        table |= {f"{split}/{metric}": metrics, f"{split}/loss": [0.75] * count}
    table |= {"validation/num_examples": [43793] * count, "test/num_examples": [43793] * count}
    # The metric may be the loss, and then it is the loss that counts.
    table |= {f"validation/{metric}": metrics, **columns}
    names = sorted(name for name in table if name not in without)
    rows = [
        ["" if table[name][index] is None else repr(table[name][index]) for name in names] for index in range(count)
    ]
    return "".join(",".join(row) + "\n" for row in [names, *rows]).encode()


def _write_trial(folder, times, metrics, *, end_reason=None, **options):
    """Writes a trial: its evaluations as in `_csv`, and a trial.json if it has an `end_reason`. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "eval_measurements.csv").write_bytes(_csv(times, metrics, **options))
    if end_reason is not None:
        (folder / "trial.json").write_text(json.dumps({"end_reason": end_reason}))
    return folder


def _trial_path(submission, workload, study=0, number=1, framework="jax"):
    return Path(submission, f"study_{study}", f"{workload}_{framework}", f"trial_{number}")


def _write_board(board, submissions=("adam", "sgd"), rules=RULES):
    """A board with all that the rules ask for and nothing wrong; no two trials have the same numbers."""
    shift = 0.0
    asked = rules.rulesets["external"]
    for submission in submissions:
        for workload in rules.scored:
            for study in range(asked.studies):
                for number in range(1, asked.trials + 1):
                    path = board / _trial_path(submission, workload, study, number)
                    times, metrics = np.array([[10, 20, 30], [0.125, 0.25, 0.75]]) + shift
                    _write_trial(path, times.tolist(), metrics.tolist(), metric=rules.workloads[workload].metric)
                    shift += 1 / 64
    return board


def _rows_by_trial(logs, root):
    """Per trial, by its path below `root`: the bytes of its evaluations, so that NaN equals NaN."""
    names = ("step", "time_s", "eval_s", "logging_s", "metric")
    return {
        trial.folder.path.relative_to(root.resolve()).as_posix(): [
            getattr(logs.evaluations, name)[trial.rows].tobytes() for name in names
        ]
        for trial in logs.trials
    }


def _anomalies_below(logs, root):
    """Each anomaly's path below `root`, and its kind; sorted."""
    return sorted((one.path.relative_to(root.resolve()).as_posix(), one.kind) for one in logs.anomalies)


_CHROMIUM_OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium; where it is missing, tests are skipped, but fail in CI, which installs it."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        assert os.environ.get("CI") != "true", "Debian's chromium is not installed"
        pytest.skip("Debian's chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def rules():
    return RULES


@pytest.fixture(scope="session")
def evaluations_csv():
    return _csv


@pytest.fixture(scope="session")
def write_trial():
    return _write_trial


@pytest.fixture(scope="session")
def trial_path():
    return _trial_path


@pytest.fixture(scope="session")
def write_board():
    return _write_board


@pytest.fixture(scope="session")
def rows_by_trial():
    return _rows_by_trial


@pytest.fixture(scope="session")
def anomalies_below():
    return _anomalies_below


@pytest.fixture
def board(tmp_path):
    """A board of two submissions with nothing wrong."""
    return _write_board(tmp_path / "board")
