"""The commands `score` and `compare`, on folders of logs."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
TARGETS = {"ogbg": ("mean_average_precision", 0.28098), "wmt": ("bleu", 30.8491), "criteo1tb": ("loss", 0.123735)}


def write_trial(folder: Path, metric: str, rows: Sequence[tuple[float, float]], flags: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    lines = ["accumulated_submission_time,global_step,score," + f"validation/{metric}"]
    lines += [f"{time_s!r},{step},{time_s!r},{value!r}" for step, (time_s, value) in enumerate(rows, 1)]
    (folder / "eval_measurements.csv").write_text("\n".join([*lines, ""]))
    (folder / "flags_0.json").write_text(json.dumps(flags))


def write_submission(
    folder: Path, seconds: dict[str, Sequence[float | None]], framework: str = "jax", **flags: Any
) -> Path:
    """One trial per study that reaches the target after so many seconds, or never."""
    flags = flags or {"tuning_ruleset": "self"}
    for workload, studies in seconds.items():
        metric, target = TARGETS[workload]
        for study, time_s in enumerate(studies):
            missed = target * (2.0 if metric == "loss" else 0.5)
            rows = [(10.0, missed), (5000.0, missed)] if time_s is None else [(10.0, missed), (time_s, target)]
            write_trial(folder / f"study_{study}" / f"{workload}_{framework}" / "trial_1", metric, rows, flags)
    return folder


@pytest.fixture
def board(tmp_path: Path) -> Path:
    write_submission(
        tmp_path / "board" / "quick",
        {"ogbg": [1000, 1100, 1200], "wmt": [None, None, 9000], "criteo1tb": [500, 600, 700]},
    )
    write_submission(tmp_path / "board" / "slow", {"ogbg": [2000, 2200, 2400], "wmt": [9000, 9100, 9200]})
    return tmp_path / "board"


def test_the_leaderboard_is_printed_from_the_best_to_the_worst(cli: Cli, board: Path) -> None:
    result = cli("score", board, "--rules", "v0.6")
    assert result.code == 0
    assert result.out.startswith("Rules v0.6, self tuning, 8 workloads, 15 trials\n")
    lines = result.out.splitlines()
    rows = [line.split() for line in lines[2:4]]
    # Two ratios of 1 among 8 workloads; ratios of 2 and 1.
    assert [row[:4] for row in rows] == [["1", "quick", "jax", "0.2500"], ["2", "slow", "jax", "0.2083"]]
    (quick, slow) = (line.split() for line in lines if line.startswith(("quick", "slow")))
    (fastest,) = (line.split() for line in lines if line.startswith("fastest (s)"))
    assert fastest == ["fastest", "(s)", "600", "1,100", "9,100"]
    assert quick == ["quick", "1.00", *["no", "data"] * 5, "1.00", "missed"]
    assert slow == ["slow", *["no", "data"] * 6, "2.00", "1.00"]
    assert "missed: target not reached; no data: no trials." in result.out


def test_json_holds_what_is_documented(cli: Cli, board: Path, tmp_path: Path) -> None:
    result = cli("score", board, "--rules", "v0.6", "--json", tmp_path / "out" / "scores.json", "--baseline", "slow")
    assert result.code == 0
    data = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert data["rules"] == "v0.6"
    quick = data["submissions"]["quick"]
    assert quick["score"] == pytest.approx(0.25)
    assert quick["interval"][0] <= quick["score"] <= quick["interval"][1]
    assert quick["workloads"]["ogbg"] == {
        "time_to_target_s": 1100.0,
        "ratio": 1.0,
        "reason": None,
        "detail": "",
        "complete": True,
        "studies_s": {"0": 1000.0, "1": 1100.0, "2": 1200.0},
        "selected_trials": {"0": 1, "1": 1, "2": 1},
        "frameworks": ["jax"],
        "trials": 3,
    }
    assert quick["workloads"]["wmt"]["time_to_target_s"] is None
    assert quick["workloads"]["wmt"]["reason"] == "not_reached"
    assert data["speedup"]["submissions"]["quick"]["workloads"]["ogbg"] == pytest.approx(2.0)
    printed = cli("score", board, "--rules", "v0.6", "--json", "-", "--baseline", "slow")
    assert json.loads(printed.out) == data


def test_tables_are_written_as_csv(cli: Cli, board: Path, tmp_path: Path) -> None:
    assert cli("score", board, "--rules", "v0.6", "--csv", tmp_path / "csv").code == 0
    tables = {
        name: list(csv.DictReader((tmp_path / "csv" / f"{name}.csv").open())) for name in ("scores", "times", "trials")
    }
    assert [row["submission"] for row in tables["scores"]] == ["quick", "slow"]
    times = {(row["submission"], row["workload"]): row for row in tables["times"]}
    assert times["quick", "ogbg"]["time_to_target_s"] == "1100.0"
    assert times["quick", "wmt"]["time_to_target_s"] == ""
    assert times["quick", "wmt"]["study_2_s"] == "9000.0"
    assert len(tables["trials"]) == 15


def test_html_is_written_and_named(cli: Cli, board: Path, tmp_path: Path) -> None:
    result = cli("score", board, "--rules", "v0.6", "--html", tmp_path / "page")
    assert result.code == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert "0.2500" in page
    assert f"Wrote {tmp_path / 'page' / 'index.html'}." in result.err


def test_missing_studies_count_as_asked(cli: Cli, tmp_path: Path) -> None:
    write_submission(tmp_path / "short", {"ogbg": [1000]})
    dropped = cli("score", tmp_path / "short", "--rules", "v0.6")
    assert "With --missing never-reached: short 0.1250 → 0.0000." in dropped.out
    assert "1.00*" in dropped.out
    strict = cli("score", tmp_path / "short", "--rules", "v0.6", "--missing", "never-reached")
    assert "lacking*" in strict.out
    assert "lacking: too few studies" in strict.out


def test_reference_compatibility_chooses_by_index_and_knows_no_budget(cli: Cli, tmp_path: Path) -> None:
    # Over its budget of 12,011 s, times 1.5.
    write_submission(tmp_path / "late", {"ogbg": [20000, 20000, 20000]})
    assert "late: reached after the budget" in cli("score", tmp_path / "late", "--rules", "v0.6").out
    compatible = cli("score", tmp_path / "late", "--rules", "v0.6", "--compat", "reference")
    assert "no budget is enforced" in compatible.out
    assert "1.00" in compatible.out


def test_logs_of_ours_say_their_rules(cli: Cli, tmp_path: Path) -> None:
    write_submission(tmp_path / "ours", {"ogbg": [1000]}, ruleset="external", rules="v1.0", scale="full")
    assert cli("score", tmp_path / "ours").out.startswith("Rules v1.0, external tuning, 9 workloads")
    write_submission(tmp_path / "mini", {"ogbg": [50]}, ruleset="external", rules="v1.0", scale="mini")
    assert cli("score", tmp_path / "mini").out.startswith("Rules mini, external tuning")


def test_what_results_are_good_for_is_told_below_the_leaderboard(cli: Cli, board: Path) -> None:
    lines = cli("score", board, "--rules", "v0.6").out.splitlines()
    assert lines[4] == "Results: unknown whether official; the logs do not say."
    metadata = {"results_status": "local", "results_status_reason": "mini scale"}
    for trial in board.glob("*/study_*/*/trial_1"):
        (trial / "meta_data_0.json").write_text(json.dumps(metadata))
    lines = cli("score", board, "--rules", "v0.6").out.splitlines()
    assert lines[4] == "Results: local (mini scale); compare them only with each other."


def test_steps_that_took_longer_are_told_below_the_leaderboard(cli: Cli, tmp_path: Path) -> None:
    write_submission(tmp_path / "steady", {"ogbg": [1000, 1010, 1000]})
    assert "Step times" not in cli("score", tmp_path / "steady", "--rules", "v0.6").out
    write_submission(tmp_path / "shaky", {"ogbg": [1000, 3010, 1000]})
    for host, study in (("one", 0), ("two", 1), ("one", 2)):
        trial = tmp_path / "shaky" / f"study_{study}" / "ogbg_jax" / "trial_1"
        (trial / "meta_data_0.json").write_text(json.dumps({"hostname": host}))
    out = cli("score", tmp_path / "shaky", "--rules", "v0.6").out
    assert [line for line in out.splitlines() if line.startswith("Step times")] == [
        "Step times: shaky, ogbg, jax, study 1: 3e+03 s per step, 3.03 times the others; run it again.",
        "Step times: shaky, ogbg, jax, host two: 3e+03 s per step, 3.03 times the others; look at that host.",
    ]


def test_a_folder_with_both_frameworks(cli: Cli, tmp_path: Path) -> None:
    write_submission(tmp_path / "both", {"ogbg": [1000]}, "jax")
    write_submission(tmp_path / "both", {"ogbg": [2000]}, "pytorch")
    for options, seconds in (((), 1000.0), (("--framework", "pytorch"), 2000.0)):
        result = cli("score", tmp_path / "both", "--rules", "v0.6", "--json", "-", *options)
        assert json.loads(result.out)["submissions"]["both"]["workloads"]["ogbg"]["time_to_target_s"] == seconds


def test_comparing_two(cli: Cli, board: Path) -> None:
    result = cli("compare", board / "quick", board / "slow", "--rules", "v0.6")
    assert result.code == 0
    rows = {line.split()[0]: line.split() for line in result.out.splitlines() if line}
    assert rows["ogbg"][1:4] == ["1,100.0", "2,200.0", "2.000"]
    assert rows["ogbg"][-1] == "100%"
    assert "faster on 2, slower on 1 of 3 workloads" in " ".join(result.out.split())


def test_a_single_study_gets_no_interval(cli: Cli, tmp_path: Path) -> None:
    for name, seconds in (("one", 1000), ("two", 1500)):
        write_submission(tmp_path / name, {"ogbg": [seconds]})
    result = cli("compare", tmp_path / "one", tmp_path / "two", "--rules", "v0.6")
    assert "one is 1.500 times as fast as two: faster on 1" in result.out
    assert "A single study says nothing about chance" in result.out
    result = cli("score", tmp_path / "one", tmp_path / "two", "--rules", "v0.6")
    assert result.out.splitlines()[2].split() == ["1", "one", "jax", "0.1250", "0.1250"]
    assert "A single study says nothing about chance" in result.out


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["score", "nowhere"], "nowhere does not exist; name a folder of logs"),
        (["score", "{empty}"], "holds no study_<k> folder"),
        (["score", "{board}"], "The logs do not say by which rules they were run; choose with --rules"),
        (["score", "{board}", "--rules", "v2"], "There are no rules 'v2'; choose from v0.5, v0.6, v1.0, mini."),
        (
            ["score", "{board}", "--rules", "v0.6", "--baseline", "x"],
            "no submission 'x' to compare with; choose from quick",
        ),
        (["compare", "{board}", "{board}/slow", "--rules", "v0.6"], "holds 2 submissions; name one of them, such as"),
        (["compare", "{board}/slow", "{board}/slow", "--rules", "v0.6"], "are the same submission"),
        (["compare", "{board}/slow", "{empty}", "--rules", "v0.6"], "holds no study_<k> folder"),
    ],
)
def test_bad_input_is_told_in_a_sentence(
    cli: Cli, board: Path, tmp_path: Path, arguments: list[str], fragment: str
) -> None:
    (tmp_path / "empty").mkdir()
    result = cli(*(part.format(board=board, empty=tmp_path / "empty") for part in arguments))
    assert result.code == 2
    assert result.out == ""
    assert result.err.count("\n") == 1
    assert fragment in result.err


def test_logs_that_contradict_each_other_ask_for_a_choice(cli: Cli, tmp_path: Path) -> None:
    for name, rules in (("one", "v0.6"), ("two", "v1.0")):
        write_submission(tmp_path / name, {"ogbg": [1000]}, ruleset="self", rules=rules, scale="full")
    result = cli("score", tmp_path / "one", tmp_path / "two")
    assert result.code == 2
    assert "The logs were run under different rules (v0.6, v1.0); choose with --rules" in result.err


def test_a_file_that_cannot_be_written_loses_nothing(cli: Cli, board: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = cli("score", board, "--rules", "v0.6", "--json", tmp_path / "file" / "scores.json")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_files_are_written_although_nobody_reads_the_table(board: Path, tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("algoperf-orchestrate"), "score", board, "--rules", "v0.6"]
    read, write = os.pipe()
    # Closed before anything is printed, as `head -0` would.
    os.close(read)
    files = ["--json", tmp_path / "scores.json", "--csv", tmp_path / "csv", "--html", tmp_path / "page"]
    subprocess.run([*command, *files], stdout=write, stderr=subprocess.DEVNULL, check=False)
    os.close(write)
    assert json.loads((tmp_path / "scores.json").read_text())["rules"] == "v0.6"
    assert (tmp_path / "csv" / "trials.csv").exists()
    assert (tmp_path / "page" / "index.html").exists()
