"""A scored leaderboard as plain data."""

import json
import math
import shutil
from importlib.metadata import version

import numpy as np
import pytest

from algoperf_scoring import board, bootstrap, document, health, logs, overheads, profiles, robustness
from algoperf_scoring.document import Analysis
from algoperf_scoring.rules import Rules, RulesetRules, WorkloadRules
from algoperf_scoring.times import Missing, Selection

RULES = Rules(
    name="test",
    hardware="a laptop",
    base=("vision", "speech"),
    held_out={"vision": "vision_gelu"},
    workloads={
        "vision": WorkloadRules(metric="accuracy", goal="max", target=0.5, budget_s=100),
        "vision_gelu": WorkloadRules(metric="accuracy", goal="max", target=0.5, budget_s=100),
        "speech": WorkloadRules(metric="wer", goal="min", target=0.5, budget_s=200),
    },
    rulesets={"external": RulesetRules(studies=2, trials=1, budget_factor=1.0)},
)
COLUMNS = "accumulated_eval_time,accumulated_logging_time,accumulated_submission_time,global_step,score"
CELLS = {
    ("fast", "vision"): [10.0, 12.0],
    ("fast", "vision_gelu"): [20.0, 30.0],
    ("fast", "speech"): [60.0, None],
    ("slow", "vision"): [15.0, 20.0],
    ("slow", "vision_gelu"): [22.0, 150.0],
    ("slow", "speech"): [30.0],
    ("fails", "vision"): [None, None],
    ("fails", "speech"): [150.0, 10.0],
}


def write(root, cells=CELLS):
    """Writes the trial of each study; None never reaches its target."""
    for (submission, workload), studies in cells.items():
        for study, seconds in enumerate(studies):
            trial = root / submission / f"study_{study}" / f"{workload}_jax" / "trial_1"
            trial.mkdir(parents=True)
            rows = [(1, (seconds or 90) / 2, "nan"), (101, seconds or 90, 0.5 if seconds else "")]
            lines = [f"{step / 8},{step / 16},{time_s},{step},{time_s},{metric},9" for step, time_s, metric in rows]
            header = f"{COLUMNS},validation/{RULES.workloads[workload].metric},validation/num_examples"
            (trial / "eval_measurements.csv").write_text("\n".join([header, *lines, ""]))
            (trial / "meta_data_0.json").write_text('{"gpu_count": 8, "hostname": "secret"}')
    (root / "fast" / "submission_info.yml").write_text("submission_name: Fast\nauthors: [Ada, Alan]\n")
    (root / "slow" / "notes.txt").write_text("stray")
    (root / "nothing").mkdir()
    return root


def analyse(root, selection=Selection.FASTEST, missing=Missing.DROP, **options):
    read = logs.read([root], RULES, "external")
    return Analysis(board=board.score(read, selection, missing), **options)


def text_of(analysis):
    """Strict JSON: no NaN, no infinity."""
    return json.dumps(document.as_data(analysis), allow_nan=False, ensure_ascii=False)


@pytest.fixture
def root(tmp_path):
    return write(tmp_path / "board")


@pytest.mark.parametrize("selection", Selection)
@pytest.mark.parametrize("missing", Missing)
def test_strict_json_without_places(tmp_path, root, selection, missing):
    analysis = analyse(root, selection, missing, baseline="slow")
    text = text_of(analysis)
    for word in (str(tmp_path), str(tmp_path.resolve()), tmp_path.name, "secret", "NaN", "Infinity"):
        assert word not in text
    # What is read is what was written: plain types alone, with text as keys.
    assert json.loads(text) == document.as_data(analysis)
    data = json.loads(text)
    assert (data["selection"], data["missing"]) == (selection, missing)


def test_same_bytes_wherever_the_logs_lie(tmp_path, root):
    text = text_of(analyse(root, baseline="slow"))
    assert text_of(analyse(root, baseline="slow")) == text
    shutil.copytree(root, tmp_path / "elsewhere" / "copy")
    assert text_of(analyse(tmp_path / "elsewhere", baseline="slow")) == text
    other = write(tmp_path / "reversed", dict(reversed(CELLS.items())))
    assert text_of(analyse(other, baseline="slow")) == text
    (root / "slow" / "study_0" / "speech_jax" / "trial_1" / "eval_measurements.csv").write_text("")
    assert text_of(analyse(root, baseline="slow")) != text


def test_head(root):
    data = document.as_data(analyse(root))
    assert data["format"] == 1
    assert data["version"] == version("algoperf-scoring")
    assert (data["rules"], data["ruleset"], data["hardware"]) == ("test", "external", "a laptop")
    assert len(data["logs_sha256"]) == 64
    assert data["workloads"]["vision_gelu"] == {
        "base": "vision",
        "metric": "accuracy",
        "goal": "max",
        "target": 0.5,
        "budget_s": 100,
        "fastest_s": 25,
    }
    assert list(data["workloads"]) == ["vision", "speech", "vision_gelu"]
    assert data["workloads"]["speech"]["base"] is None


def test_submissions(root):
    analysis = analyse(root, seed=3)
    submissions = document.as_data(analysis)["submissions"]
    # By score, and of equal scores by name.
    assert list(submissions) == ["fast", "slow", "fails"]
    assert [one["rank"] for one in submissions.values()] == [1, 1, 3]
    # On speech, at 80 s, fails takes 8/3 of the fastest time: half of (4 - 8/3) / 3.
    assert [one["score"] for one in submissions.values()] == pytest.approx([0.5, 0.5, 2 / 9])
    assert submissions["fails"]["score_grid"] != submissions["fails"]["score"]
    assert submissions["fails"]["score_grid"] == pytest.approx(2 / 9, abs=1 / 198)
    # Were the study that slow lacks a miss, slow would have no workload, and fails would be the fastest on speech.
    never = [one["score_if_missing_never_reached"] for one in submissions.values()]
    assert never == pytest.approx([0.5, 0, 0.5])
    assert [one["complete"] for one in submissions.values()] == [True, False, False]
    drawn = bootstrap.bootstrap(analysis.board.times.time_s, RULES, Missing.DROP, 2, seed=3)
    for row, name in enumerate(analysis.board.times.submissions):
        assert submissions[name]["interval"] == drawn.interval[row].tolist()
        assert submissions[name]["rank_interval"] == drawn.rank_interval[row].tolist()
        assert submissions[name]["first"] == drawn.first[row]
    assert submissions["fast"]["info"] == {"submission_name": "Fast", "authors": "Ada, Alan"}
    assert [one["info_problem"] for one in submissions.values()] == ["", *["no submission_info.yml"] * 2]


def cell(submissions, name, workload):
    found = submissions[name]["workloads"][workload]
    return found["time_to_target_s"], found["ratio"], found["reason"], found["complete"], found["studies_s"]


def test_cells(root):
    submissions = document.as_data(analyse(root))["submissions"]
    assert cell(submissions, "fast", "vision") == (11, 1, None, True, {"0": 10, "1": 12})
    assert cell(submissions, "fast", "speech") == (None, None, "not_reached", True, {"0": 60, "1": None})
    assert cell(submissions, "fast", "vision_gelu") == (25, None, None, True, {"0": 20, "1": 30})
    assert cell(submissions, "slow", "speech") == (30, 1, None, False, {"0": 30})
    assert cell(submissions, "slow", "vision") == (17.5, None, "held_out_missed", True, {"0": 15, "1": 20})
    assert cell(submissions, "slow", "vision_gelu")[:3] == (None, None, "over_budget")
    assert cell(submissions, "fails", "vision_gelu") == (None, None, "no_data", False, {})
    for one in submissions.values():
        for found in one["workloads"].values():
            assert (found["detail"] == "") == (found["reason"] is None)


def test_profiles_and_bootstrap(root):
    analysis = analyse(root, seed=5)
    data = document.as_data(analysis)
    assert data["profiles"]["tau"] == profiles.grid(RULES).tolist()
    assert {name: (share[0], share[-1]) for name, share in data["profiles"]["share"].items()} == {
        "fails": (0, 0.5),
        "fast": (0.5, 0.5),
        "slow": (0.5, 0.5),
    }
    drawn = data["bootstrap"]
    assert (drawn["resamples"], drawn["level"], drawn["seed"]) == (bootstrap.RESAMPLES, bootstrap.LEVEL, 5)
    names = analysis.board.times.submissions
    beats = [[drawn["beats"][one][other] for other in names] for one in names]
    np.testing.assert_array_equal(beats, analysis.bootstrap.beats)
    assert document.as_data(analyse(root, seed=6))["bootstrap"]["beats"] != drawn["beats"]


@pytest.mark.parametrize("missing", Missing)
def test_robustness(root, missing):
    analysis = analyse(root, missing=missing)
    found, scorer = document.as_data(analysis)["robustness"], analysis.scorer
    times = analysis.board.times
    assert scorer.missing is missing
    # On vision fast is faster than slow, and fails has no time; on speech slow is the fastest, then fails.
    assert found["wins"]["fast"] == {"fails": 1, "fast": 0, "slow": 1}
    assert found["without_submission"] == robustness.without_each_submission(times, scorer)
    assert found["without_workload"] == robustness.without_each_workload(times, scorer)
    without_study = robustness.without_each_study(times, scorer)
    assert found["without_study"] == {"0": without_study[0], "1": without_study[1]}
    at_target = next(shift for shift in found["targets"] if shift["easier"] == 0)
    scores = dict(zip(times.submissions, analysis.board.score.tolist(), strict=True))
    assert at_target == {"easier": 0, "score": scores, "kendall_tau": 1, "censored": False}
    assert [shift["censored"] for shift in found["targets"]] == [easier < 0 for easier in robustness.EASIER]


def test_speedup(root):
    assert document.as_data(analyse(root))["speedup"] is None
    found = document.as_data(analyse(root, baseline="slow"))["speedup"]
    assert found["baseline"] == "slow"
    # Who missed a target needed a second more than the budgets of 100 and 200 s.
    fast = found["submissions"]["fast"]
    assert fast["workloads"] == pytest.approx({"vision": 17.5 / 11, "speech": 30 / 201})
    assert fast["geometric_mean"] == pytest.approx(math.sqrt(17.5 / 11 * 30 / 201))
    assert found["submissions"]["slow"] == {"geometric_mean": 1, "workloads": {"vision": 1, "speech": 1}}


def test_baseline_that_is_not_there(root):
    with pytest.raises(ValueError, match=r"no submission 'best' to compare with; choose from fails, fast, slow\."):
        analyse(root, baseline="best")


def test_time(root):
    analysis = analyse(root)
    found = document.as_data(analysis)["time"]
    assert found["accounts"]["speech"] == {
        "jax": {"trials": 5, "submission_s": 60 + 90 + 30 + 150 + 10, "evaluation_s": 5 * 101 / 8, "logging_s": 31.5625}
    }
    # Of an evaluation at half the time and one at the end, a hundred steps later.
    assert found["steps"]["slow"]["vision"]["studies_s"] == pytest.approx({"0": 0.075, "1": 0.1})
    assert found["steps"]["slow"]["vision"]["spread"] == pytest.approx(1 / 3)
    assert {(name, workload) for name, row in found["steps"].items() for workload in row} == set(
        overheads.step_times(analysis.board.logs)
    )


def test_times_that_logs_do_not_tell(root):
    path = root / "fast" / "study_0" / "vision_jax" / "trial_1" / "eval_measurements.csv"
    path.write_text(path.read_text().replace("accumulated_eval_time", "other"))
    accounts = json.loads(text_of(analyse(root)))["time"]["accounts"]
    assert accounts["vision"]["jax"]["evaluation_s"] is None
    assert accounts["vision"]["jax"]["logging_s"] > 0


def test_anomalies_and_machines(root):
    trial = root / "slow" / "study_0" / "speech_jax" / "trial_1"
    (trial / "meta_data_0.json").write_text('{"clock": "virtual", "workload.validation_target_value": 0.25}')
    data = document.as_data(analyse(root))
    found = [(one["kind"], one["path"], one["detail"]) for one in data["anomalies"]["found"]]
    place = "slow/study_0/speech_jax/trial_1"
    assert ("other_clock", place, "virtual") in found
    assert ("other_target", place, "0.25; it is scored by 0.5") in found
    assert ("stray_file", "slow/notes.txt", "") in found
    assert ("no_studies", "nothing", "") in found
    assert ("missing_study", "slow", "speech: 1 of 2 studies") in found
    counts = data["anomalies"]["counts"]
    assert counts == {kind: [one[0] for one in found].count(kind) for kind in counts}
    assert sum(counts.values()) == len(found)
    assert data["anomalies"]["meaning"].keys() == counts.keys()
    assert data["machines"][0] == {"submission": "fast", "framework": "jax", "gpu_count": 8, "trials": 6}
    assert data["machines"][-1] == {"submission": "slow", "framework": "jax", "clock": "virtual", "trials": 1}


def test_results_status(root):
    told = {"results_status": "local", "results_status_reason": "mini scale", "device_kind": "cpu", "device_count": 1}
    (root / "slow" / "study_0" / "speech_jax" / "trial_1" / "meta_data_0.json").write_text(json.dumps(told))
    data = document.as_data(analyse(root))["results_status"]
    assert (data["status"], data["counts"]) == ("local", {"unknown": 14, "local": 1})
    assert data["meaning"].startswith("Results: local (mini scale in 1 of 15 trials); compare them only with each")
    assert list(data["submissions"]) == ["fast", "slow", "fails"]
    assert data["submissions"]["fast"]["status"] == "unknown"
    assert data["submissions"]["slow"] == {
        "status": "local",
        "counts": {"unknown": 4, "local": 1},
        "reasons": [{"status": "local", "reason": "mini scale", "trials": 1}],
        "accelerators": {"1× cpu": 1},
    }


def test_health(root):
    """The document tells which study was slow, and tells hosts apart without their names."""
    (root / "fast" / "study_1" / "vision_jax" / "trial_1" / "meta_data_0.json").write_text('{"hostname": "zebra"}')
    path = root / "fast" / "study_1" / "vision_jax" / "trial_1" / "eval_measurements.csv"
    path.write_text(path.read_text().replace("12.0", "50.0"))
    text = text_of(analyse(root))
    assert "zebra" not in text
    found = json.loads(text)["health"]
    assert (found["factor"], found["hosts"]) == (health.FACTOR, 2)
    flags = [one for one in found["flags"] if (one["submission"], one["workload"]) == ("fast", "vision")]
    assert [(one["group"], one["name"], one["advice"]) for one in flags] == [
        ("study", "1", "run it again"),
        ("host", "host 2", "look at that host"),
    ]
    assert [one["ratio"] for one in flags] == pytest.approx([44 / 5, 44 / 5])


def test_submissions_of_one_name(tmp_path, root):
    """They are told apart by what is above them, and no further up than that."""
    for name in ("one", "two"):
        shutil.copytree(root, tmp_path / "both" / name)
    text = text_of(analyse(tmp_path / "both"))
    assert str(tmp_path) not in text
    assert set(json.loads(text)["submissions"]) == {
        f"{board}/{name}" for board in ("one", "two") for name in ("fails", "fast", "slow")
    }  # fmt: skip


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_metadata_that_are_no_numbers(root, number):
    """Python writes and reads them; JSON knows none."""
    trial = root / "slow" / "study_0" / "speech_jax" / "trial_1"
    (trial / "meta_data_0.json").write_text(f'{{"gpu_count": {number}, "workload.validation_target_value": {number}}}')
    text_of(analyse(root))


def test_nothing_reached(tmp_path):
    cells = {(name, workload): [None, None] for name in ("fast", "slow") for workload in RULES.scored}
    data = json.loads(text_of(analyse(write(tmp_path / "board", cells), baseline="fast")))
    assert {one["score"] for one in data["submissions"].values()} == {0}
    assert {one["rank"] for one in data["submissions"].values()} == {1}
    assert {workload["fastest_s"] for workload in data["workloads"].values()} == {None}


@pytest.mark.parametrize("baseline", ["fast", "slow"])
def test_reached_in_no_time(tmp_path, baseline):
    """A clock that was not started is nobody's reason to have no document."""
    root = write(tmp_path / "board", {("fast", "speech"): [7.0, 7.0], ("slow", "speech"): [9.0, 9.0]})
    for path in (root / "fast").glob("**/eval_measurements.csv"):
        path.write_text(path.read_text().replace("7.0", "0.0").replace("3.5", "0.0"))
    data = json.loads(text_of(analyse(root, baseline=baseline)))
    assert (data["submissions"]["fast"]["score"], data["submissions"]["slow"]["score"]) == (0.5, 0)


def test_no_trials(tmp_path):
    """A submission of which there is nothing but the folder of a study."""
    (tmp_path / "board" / "empty" / "study_0").mkdir(parents=True)
    data = json.loads(text_of(analyse(tmp_path / "board", baseline="empty")))
    assert data["submissions"]["empty"]["score"] == 0
    assert data["submissions"]["empty"]["interval"] == [0, 0]
