"""The published leaderboards: from the time of each study, and from the raw logs where they are at hand."""

import csv
import json
import math
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from algoperf_scoring import anomalies, board, bootstrap, logs, profiles, robustness, times
from algoperf_scoring.rules import published
from algoperf_scoring.times import Missing, Selection

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[4] / "shared"
BOARDS = {
    "v05_external": ("v0.5", "external"),
    "v05_self_tuning": ("v0.5", "self"),
    "v06_external": ("v0.6", "external"),
    "v06_self_tuning": ("v0.6", "self"),
}
# The documented rule, and the smallest evaluation index with ties by name and by the order of a file system.
RULES = ("fastest", "lexicographic_order", "reference_order")
RAW = {"v05_self_tuning": "raw_v05_self_tuning", "v06_external": "raw_v06_external"}


def load(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def number(value):
    """Goldens write infinity as text, and null where there is no data."""
    return math.nan if value is None else float(value)


def studies_of(golden, rule):
    """Per submission, workload and study: evaluation index, time and trial; a rule that differs not is not told."""
    return {
        (submission, workload, int(study)): hits.get(rule, hits["fastest"])
        for submission, workloads in golden["per_study"].items()
        for workload, studies in workloads.items()
        for study, hits in studies.items()
    }


def study_times(golden, rules, rule):
    """Submissions, sorted, and float64 (S, W, K) times; NaN where a study is missing."""
    found = studies_of(golden, rule)
    submissions = sorted(golden["per_study"])
    studies = sorted({study for _, _, study in found})
    shape = len(submissions), len(rules.scored), len(studies)
    time_s = np.full(shape, np.nan)
    for (submission, workload, study), (_, seconds, _) in found.items():
        time_s[submissions.index(submission), rules.scored.index(workload), studies.index(study)] = number(seconds)
    return submissions, time_s


def table(values, rows, columns):
    """Float64 (rows, columns); NaN where the golden has nothing."""
    return np.array([[number(values[row].get(column)) for column in columns] for row in rows])


@pytest.fixture(params=BOARDS)
def name(request):
    return request.param


@pytest.mark.parametrize("rule", ["fastest", "reference_order"])
def test_times_to_target(name, rule):
    golden, rules = load(name), published(BOARDS[name][0])
    submissions, time_s = study_times(golden, rules, rule)
    expected = table(golden["time_to_targets"][rule], submissions, rules.scored)
    np.testing.assert_allclose(times.medians(time_s), expected, rtol=1e-12, atol=0)


def test_ratios_and_profiles(name):
    golden, rules = load(name), published(BOARDS[name][0])
    submissions, time_s = study_times(golden, rules, "reference_order")
    ratios = profiles.ratios(times.medians(time_s), rules)
    expected = table(golden["ratios_reference_order"], submissions, rules.base)
    # The public code has NaN where nobody reached the target: like infinity, it never counts.
    expected = np.where(np.isnan(expected), np.inf, expected)
    np.testing.assert_allclose(ratios, expected, rtol=1e-12, atol=0)
    points = golden["profiles_reference_order"]
    tau = profiles.grid(rules)
    np.testing.assert_allclose(tau[points["grid_indices"]], points["taus"], rtol=1e-15)
    shares = profiles.profile(ratios, tau)[:, points["grid_indices"]]
    assert shares.tolist() == [points["shares"][submission] for submission in submissions]


@pytest.mark.parametrize("rule", RULES)
def test_scores(name, rule):
    golden, rules = load(name), published(BOARDS[name][0])
    submissions, time_s = study_times(golden, rules, rule)
    ratios = profiles.ratios(times.medians(time_s), rules)
    expected = golden["scores"][rule]
    closed = [expected["exact_integral"][submission] for submission in submissions]
    grid = [expected["grid100"][submission] for submission in submissions]
    np.testing.assert_allclose(profiles.score(ratios, rules), closed, rtol=0, atol=1e-12)
    np.testing.assert_allclose(profiles.grid_score(ratios, rules), grid, rtol=0, atol=1e-12)


def test_published_scores(name):
    golden, rules = load(name), published(BOARDS[name][0])
    submissions, time_s = study_times(golden, rules, "reference_order")
    scores = profiles.grid_score(profiles.ratios(times.medians(time_s), rules), rules)
    assert len(golden["published_scores"]) == {"v06_self_tuning": 0}.get(name, len(submissions))
    for submission, score in zip(submissions, scores.tolist(), strict=True):
        assert score == pytest.approx(golden["reference_scores"][submission], abs=1e-12)
        if golden["published_scores"]:
            assert round(score, 4) == golden["published_scores"][submission]


@pytest.mark.parametrize("name", ["v05_external", "v05_self_tuning", "v06_external"])
def test_speedups(name):
    """The public code divides by the baseline's time, has v0.5's budgets on every board, and no number for some."""
    golden, rules = load(name), published("v0.5")
    submissions, time_s = study_times(golden, published(BOARDS[name][0]), "reference_order")
    median = times.medians(time_s)
    baseline = submissions.index("baseline")
    ours = robustness.geometric_mean(robustness.speedups(median, baseline, rules, BOARDS[name][1]))
    has_data = ~np.isnan(median[:, : len(rules.base)]).any(axis=1)
    for index, submission in enumerate(submissions):
        expected = golden["time_ratio_to_baseline"].get(submission, 1.0)
        assert (expected is not None) == has_data[index]
        if expected is not None:
            assert ours[index] == pytest.approx(1 / expected, rel=1e-12)


def test_bootstrap():
    golden, rules = load("v05_external_bootstrap"), published("v0.5")
    submissions, time_s = study_times(load("v05_external"), rules, "fastest")
    drawn = bootstrap.bootstrap(time_s, rules, Missing.DROP, 5, resamples=golden["n"], seed=golden["seed"])
    expected = golden["bootstrap_studies_exact_fastest"]
    assert sorted(expected) == submissions
    for index, submission in enumerate(submissions):
        want = expected[submission]
        assert drawn.score[:, index].mean() == pytest.approx(want["mean"], abs=1e-9)
        assert drawn.score[:, index].std() == pytest.approx(want["sd"], abs=1e-9)
        np.testing.assert_allclose(drawn.interval[index], [want["q025"], want["q975"]], rtol=0, atol=1e-9)


@pytest.mark.shared
def test_reduced_copies(name):
    """What lies in this repository says the same as the whole."""
    path = SHARED / "golden/scoring" / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    whole, copy = json.loads(path.read_text()), load(name)
    for rule in RULES:
        expected = {
            (submission, workload, int(study.removeprefix("study_"))): list(hits[rule].values())
            for submission, workloads in whole["per_study"].items()
            for workload, studies in workloads.items()
            for study, hits in studies.items()
            if workload in whole["base_workloads"] + whole["held_out_workloads"]
        }
        assert studies_of(copy, rule) == expected
    grid, indices = whole["profile_full_grid"], copy["profiles_reference_order"]["grid_indices"]
    sampled = {submission: [shares[index] for index in indices] for submission, shares in grid.items()}
    assert copy["profiles_reference_order"]["shares"] == sampled
    assert copy["scores"] == whole["scores_by_rule"]
    assert copy["ratios_reference_order"] == whole["ratios_reference"]


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory):
    """A function from an archive of logs to where it was unpacked; each once."""
    found = {}

    def unpack(archive):
        path = SHARED / "leaderboards" / f"{archive}.tar.gz"
        if not path.exists():
            pytest.skip(f"{path.name} is not there")
        if archive not in found:
            found[archive] = tmp_path_factory.mktemp(archive)
            with tarfile.open(path) as tar:
                tar.extractall(found[archive], filter="data")
        return found[archive]

    return unpack


@pytest.fixture(params=RAW)
def raw(request, unpacked):
    """A board's golden and its logs."""
    version, ruleset = BOARDS[request.param]
    return load(request.param), logs.read([unpacked(RAW[request.param])], published(version), ruleset)


@pytest.mark.shared
def test_raw_studies(raw):
    golden, read = raw
    found = times.study_times(read)
    number_of = {name: index for index, name in enumerate(found.submissions)}
    expected = {rule: studies_of(golden, rule) for rule in RULES}
    with_times = {
        (submission, workload, found.studies[study])
        for submission, row in number_of.items()
        for workload, study in [(w, k) for w in found.workloads for k in range(len(found.studies))]
        if not np.isnan(found.time_s[row, found.workloads.index(workload), study])
    }
    assert with_times == set(expected["fastest"])
    for key in with_times:
        trials = [(f"trial_{trial.folder.number}", hit) for trial, hit in found.trials[key]]
        chosen = times.select([hit for _, hit in trials], Selection.FASTEST)
        index, seconds, trial = expected["fastest"][key]
        assert (chosen.index, chosen.time_s) == (index, number(seconds))
        assert trial is None or (trial, chosen) in trials
        reached = [(hit.index, name, hit.time_s) for name, hit in trials if hit.index >= 0]
        first = min(reached, default=(-1, None, math.inf))
        index, seconds, trial = expected["lexicographic_order"][key]
        assert first == (index, trial, number(seconds))
        tied = [one for one in reached if one[0] == first[0]] or [first]
        index, seconds, trial = expected["reference_order"][key]
        assert (index, trial, number(seconds)) in tied
        of_tied = times.select([hit for _, hit in trials], Selection.REFERENCE)
        assert (of_tied.index, of_tied.time_s) == (first[0], min(one[2] for one in tied))


@pytest.mark.shared
@pytest.mark.parametrize("selection", Selection)
def test_raw_board(raw, selection):
    golden, read = raw
    rules = read.rules
    scored = board.score(read, selection)
    names = list(scored.times.submissions)
    rule = {Selection.FASTEST: "fastest", Selection.REFERENCE: "reference_order"}[selection]
    expected = table(golden["time_to_targets"][rule], names, rules.scored)
    np.testing.assert_allclose(scored.time_s, expected, rtol=1e-12, atol=0)
    closed, grid = golden["scores"][rule]["exact_integral"], golden["scores"][rule]["grid100"]
    np.testing.assert_allclose(scored.score, [closed[one] for one in names], rtol=0, atol=1e-12)
    np.testing.assert_allclose(scored.grid_score, [grid[one] for one in names], rtol=0, atol=1e-12)
    if selection is Selection.REFERENCE:
        ratios = table(golden["ratios_reference_order"], names, rules.base)
        np.testing.assert_allclose(scored.ratios, np.where(np.isnan(ratios), np.inf, ratios), rtol=1e-12, atol=0)
        points = golden["profiles_reference_order"]
        shares = profiles.profile(scored.ratios, profiles.grid(rules))[:, points["grid_indices"]]
        assert shares.tolist() == [points["shares"][one] for one in names]
        rounded = {one: round(score, 4) for one, score in zip(names, scored.grid_score.tolist(), strict=True)}
        assert rounded == golden["published_scores"]


def trials_by_hand(root, scored):
    """Per study, its trials: rows of the file or None; and how many folders are misplaced or not scored."""
    studies, odd = {}, Counter()
    for folder in sorted(root.glob("**/study_*/*")):
        workload, framework = folder.name.rsplit("_", 1)
        if framework not in ("jax", "pytorch"):
            odd["misplaced_trial"] += folder.name.startswith("trial_")
        elif workload not in scored:
            odd["unscored_workload"] += 1
        else:
            for trial in sorted(folder.glob("trial_*")):
                path = trial / "eval_measurements.csv"
                rows = list(csv.DictReader(path.open(newline=""))) if path.exists() else None
                studies.setdefault((folder.parents[1].name, workload, folder.parent.name), []).append(rows)
    return studies, odd


@pytest.mark.shared
def test_raw_anomalies(unpacked):
    """The anomalies of hand-picked logs, counted again with nothing but the standard library."""
    root, rules = unpacked("raw_anomalies_v05_external"), published("v0.5")
    studies, expected = trials_by_hand(root, set(rules.scored))
    for (_, workload, _), trials in studies.items():
        facts = rules.workloads[workload]
        expected["missing_trial"] += sum(rows is not None for rows in trials) < 5
        for rows in trials:
            expected["no_evaluations"] += rows is None
            expected["one_evaluation"] += rows is not None and len(rows) == 1
            metrics = [row[f"validation/{facts.metric}"] for row in rows or []]
            expected["nan_metric"] += any(value in ("", "nan", "NaN") for value in metrics)
            expected["after_budget"] += any(float(row["score"]) > facts.budget_s for row in rows or [])
    submissions = {folder.parent.name for folder in root.glob("**/study_*")}
    scored = {submission for submission, _, _ in studies}
    expected["nothing_scored"] = len(submissions - scored)
    cells = Counter((submission, workload) for submission, workload, _ in studies)
    expected["missing_workload"] = len(scored) * len(rules.scored) - len(cells)
    expected["missing_study"] = sum(number < 5 for number in cells.values())
    found = anomalies.count(logs.read([root], rules, "external").anomalies)
    assert {kind.name.lower(): number for kind, number in found.items()} == dict(expected)
    assert len(studies) > 20
    assert min(expected.values()) > 0
