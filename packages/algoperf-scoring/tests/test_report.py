"""The report as files: every number of the document, the same bytes every time, whatever submissions are called."""

import json
import re
import shutil
import tarfile
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from algoperf_scoring import board, document, logs, report, rules
from algoperf_scoring.report import words
from algoperf_scoring.rules import Rules, RulesetRules, WorkloadRules

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "$x^2$",
    "n" * 200,
    "مرحبا_بالعالم",
    "\u202egnitset",
    "🚀 rocket",
    "\"double\" & 'single'",
    '"><img src=x onerror=alert(2)>',
    "<script>alert(1)<!--",
    "{{ 7 * 7 }}",
    "items",
    "control\x01character",
    "bad\udcffbyte",
)
LEADERBOARDS = Path(__file__).resolve().parents[4] / "shared" / "leaderboards"


def make_rules(workloads=2, studies=2, trials=2):
    """Workloads work_0, work_1, … with goals in turn, of which work_0 has a held-out variant."""
    goals = ("max", "min")
    facts = {
        f"work_{index}": WorkloadRules(
            metric="accuracy" if index % 2 == 0 else "wer", goal=goals[index % 2], target=0.5, budget_s=100
        )
        for index in range(workloads)
    }
    ruleset = RulesetRules(studies=studies, trials=trials, budget_factor=1.0)
    held_out = {"work_0": "work_0_gelu"} if workloads > 1 else {}
    return Rules(
        name="mini",
        hardware="any",
        base=tuple(facts),
        held_out=held_out,
        workloads=facts | {variant: facts[base] for base, variant in held_out.items()},
        rulesets={"external": ruleset, "self": ruleset},
    )


def write_trial(folder, times, metrics, metric="accuracy"):
    folder.mkdir(parents=True)
    rows = [
        f"{3 * time},{time / 8},{10 * index},{time},{value}"
        for index, (time, value) in enumerate(zip(times, metrics, strict=True))
    ]
    header = f"accumulated_eval_time,accumulated_logging_time,global_step,score,validation/{metric}"
    (folder / "eval_measurements.csv").write_text("\n".join([header, *rows, ""]))


def write_board(root, names, asked, reach=True):
    """Each submission a little slower than the one before it; the last study of the last one is missing."""
    for row, name in enumerate(names):
        for workload in asked.scored:
            facts = asked.workloads[workload]
            for study in range(asked.rulesets["external"].studies):
                for trial in range(asked.rulesets["external"].trials):
                    times = np.arange(1, 21) * (1 + row / 3 + study / 16 + trial / 8)
                    learnt = np.linspace(0.0, 0.9 if reach else 0.4, 20)
                    metrics = learnt if facts.goal == "max" else 1 - learnt
                    if not (row and row == len(names) - 1 and study):
                        path = root / name / f"study_{study}" / f"{workload}_jax" / f"trial_{trial}"
                        write_trial(path, times.tolist(), metrics.tolist(), facts.metric)
    return root


def analyse(root, asked, ruleset="external", baseline=None):
    read = logs.read([root], asked, ruleset)
    return document.Analysis(board=board.score(read), baseline=baseline)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """An analysis of submissions whose names are hostile, its document, and the folder of its report."""
    folder = tmp_path_factory.mktemp("hostile")
    asked = make_rules()
    root = write_board(folder / "logs", HOSTILE, asked)
    facts = {"description": "</p><img src=x onerror=alert(3)>", "authors": "<b onclick=alert(4)>A. Author</b>"}
    (root / "$x^2$" / "submission_info.yml").write_text(json.dumps(facts))
    (root / "items" / "study_0" / "<b onclick=alert(5)>").write_text("")
    analysis = analyse(root, asked, baseline="$x^2$")
    data = document.as_data(analysis)
    report.write(analysis, data, folder / "report")
    return analysis, data, folder / "report"


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.values, self.texts = [], [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if "data-at" in attributes:
            assert self.values.setdefault(attributes["data-at"], attributes["data-value"]) == attributes["data-value"]

    def handle_data(self, data):
        self.texts.append(data)


def pointers(value, at=""):
    """All numbers and missing numbers of a document, by their JSON pointers."""
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from pointers(one, at + "/" + str(key).replace("~", "~0").replace("/", "~1"))
    elif not isinstance(value, bool | str):
        yield words.printable(at), value


def shown_elsewhere(at, data):
    """Numbers of the document that a page draws, or has no use for."""
    _, first, *rest = at.split("/")
    is_variant = rest[-1:] == ["ratio"] and any(
        facts["base"] and name in rest for name, facts in data["workloads"].items()
    )
    return (
        first in ("format", "profiles", "machines")
        or is_variant
        or (first == "submissions" and rest[-1] in ("trials", "score_if_missing_never_reached", "reason"))
        or "selected_trials" in rest
        or (first == "workloads" and rest[-1] == "base")
        or (rest[:1] == ["steps"] and "studies_s" in rest)
        or (rest[:1] in (["wins"], ["beats"]) and rest[1] == rest[2])
    )


def test_every_number_of_the_document_is_on_the_page(hostile):
    _, data, folder = hostile
    found = Page((folder / "index.html").read_text()).values
    every = dict(pointers(data))
    needed = {at for at in every if not shown_elsewhere(at, data)}
    assert len(needed) > 800
    assert needed - set(found) == set()
    for at, value in found.items():
        assert value == ("" if every[at] is None else json.dumps(every[at])), at


def test_what_missing_studies_would_change_is_told(tmp_path):
    asked = make_rules(1)
    root = write_board(tmp_path / "logs", ["a"], asked)
    for trial in (0, 1):
        (root / "a" / "study_1" / "work_0_jax" / f"trial_{trial}" / "eval_measurements.csv").unlink()
    analysis = analyse(root, asked)
    data = document.as_data(analysis)
    found = Page(report.write(analysis, data, tmp_path).read_text())
    assert data["submissions"]["a"]["score"] == 1.0
    assert found.values["/submissions/a/score_if_missing_never_reached"] == "0.0"
    assert "incomplete" in found.texts


def test_names_are_text_and_nothing_else(hostile):
    _, data, folder = hostile
    found = Page((folder / "index.html").read_text())
    tags = {tag for tag, _ in found.tags}
    assert tags.isdisjoint({"img", "iframe", "object", "embed", "form", "base"})
    assert sum(tag == "script" for tag, _ in found.tags) == 1
    rows = {attributes.get("data-submission") for tag, attributes in found.tags if tag == "tr"} - {None}
    assert rows == {words.printable(name) for name in data["submissions"]}
    assert len(rows) == len(HOSTILE)
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    text = "".join(found.texts)
    # Long names break where words end; markup stands there as it was written.
    for name in (
        "<img src=x onerror=alert(1)>",
        "</p><img src=x onerror=alert(3)>",
        "<b onclick=alert(5)>",
        "$x^2$",
        "🚀 rocket",
        "\"double\" & 'single'",
        "{{ 7 * 7 }}",
        "n" * 59 + "…",
    ):
        assert name in text, name
    assert "control\ufffdcharacter" in text


def test_nothing_is_loaded(hostile):
    _, _, folder = hostile
    found = Page((folder / "index.html").read_text())
    links = [value for _, attributes in found.tags for name, value in attributes.items() if name in ("src", "href")]
    assert links
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert "url(http" not in (folder / "index.html").read_text()


def test_ids_are_unique_and_references_lead_somewhere(hostile):
    _, _, folder = hostile
    text = (folder / "index.html").read_text()
    found = Page(text)
    assert len(found.ids) == len(set(found.ids))
    attributes = [attributes for _, attributes in found.tags]
    targets = {one["popovertarget"] for one in attributes if "popovertarget" in one}
    targets |= {name for one in attributes for name in one.get("aria-labelledby", "").split()}
    targets |= {one["href"][1:] for one in attributes if one.get("href", "").startswith("#")}
    targets |= set(re.findall(r"url\(#([^)]*)\)", text))
    assert targets
    assert targets <= set(found.ids)


def test_charts_stand_alone(hostile):
    analysis, _, folder = hostile
    files = sorted(path.name for path in (folder / "charts").iterdir())
    workloads = analysis.board.logs.rules.scored
    assert files == sorted(["profiles.svg", "targets.svg", *(f"curves-{name}.svg" for name in workloads)])
    for name in files:
        content = (folder / "charts" / name).read_text()
        root = ElementTree.fromstring(content)
        assert "var(--" not in content
        assert root.find("{http://www.w3.org/2000/svg}title").text
        legend = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
        assert "B  $x^2$" in legend


def test_same_bytes_whatever_the_settings_and_the_place(hostile, tmp_path):
    analysis, data, folder = hostile
    with matplotlib.rc_context({"font.size": 30, "text.usetex": True, "svg.fonttype": "path", "lines.linewidth": 9}):
        before = dict(matplotlib.rcParams)
        report.write(analysis, data, tmp_path)
        assert dict(matplotlib.rcParams) == before
    for path in sorted(folder.rglob("*.*")):
        assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes(), path.name


@pytest.mark.parametrize(
    ("names", "workloads", "studies", "reach", "headline"),
    [
        (["only"], 1, 1, True, "only is first with a score of 1.0000; with nobody"),
        (["a", "b", "c"], 2, 2, False, "No submission reached a target"),
        ([f"s{index:02}" for index in range(17)], 2, 2, True, "s00 is first with a score of 1.0000, 95"),
    ],
)
def test_boards_of_any_size(tmp_path, names, workloads, studies, reach, headline):
    asked = make_rules(workloads, studies)
    analysis = analyse(write_board(tmp_path / "logs", names, asked, reach), asked)
    text = report.write(analysis, document.as_data(analysis), tmp_path).read_text()
    assert headline in re.sub(r"<[^>]*>", "", text)
    assert text.count('<tr data-submission="') >= len(names)
    assert "Speed-up against" not in text


def test_a_submission_without_trials(tmp_path):
    (tmp_path / "logs" / "empty" / "study_0").mkdir(parents=True)
    analysis = analyse(tmp_path / "logs", make_rules(), baseline="empty")
    found = Page(report.write(analysis, document.as_data(analysis), tmp_path).read_text())
    assert found.texts.count("no trials") == 3
    assert "There are no trials." in found.texts
    assert found.values["/speedup/submissions/empty/workloads/work_0"] == ""


def test_status_and_health_are_on_the_page(tmp_path):
    asked = make_rules(1, trials=1)
    root = write_board(tmp_path / "logs", ["a"], asked)
    shutil.rmtree(root / "a" / "study_1")
    write_trial(root / "a" / "study_1" / "work_0_jax" / "trial_0", [2.0, 40.0, 80.0], [0.1, 0.2, 0.9])
    told = {"results_status": "comparable", "results_status_reason": "<b onclick=alert(6)>", "device_kind": "<i>\ud800"}
    for path in root.glob("a/study_*/work_0_jax/trial_0"):
        (path / "meta_data_0.json").write_text(json.dumps({**told, "hostname": "secret-host", "device_count": 4}))
    analysis = analyse(root, asked, baseline="a")
    data = document.as_data(analysis)
    text = report.write(analysis, data, tmp_path / "report").read_text()
    found = Page(text)
    assert [
        attributes["class"] for tag, attributes in found.tags if attributes.get("class", "").startswith("status ")
    ] == ["status comparable"]
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert "secret-host" not in text
    assert found.values["/health/flags/0/ratio"] == json.dumps(data["health"]["flags"][0]["ratio"])
    assert "run it again" in found.texts
    every = dict(pointers(data))
    assert {at for at in every if not shown_elsewhere(at, data)} <= set(found.values)


def test_without_outliers_the_page_says_so(hostile):
    _, data, folder = hostile
    assert data["health"]["flags"] == []
    assert "There are no outliers." in (folder / "index.html").read_text()


@pytest.mark.shared
def test_published_logs(tmp_path):
    if not LEADERBOARDS.is_dir():
        pytest.skip("the published logs are not here")
    with tarfile.open(LEADERBOARDS / "raw_v05_self_tuning.tar.gz") as archive:
        archive.extractall(tmp_path / "logs", filter="data")
    analysis = analyse(tmp_path / "logs", rules.published("v0.5"), "self", baseline="baseline")
    data = document.as_data(analysis)
    path = report.write(analysis, data, tmp_path / "report")
    found = Page(path.read_text()).values
    every = dict(pointers(data))
    assert {at for at in every if not shown_elsewhere(at, data)} <= set(found)
    assert all(value == ("" if every[at] is None else json.dumps(every[at])) for at, value in found.items())
    assert found["/submissions/schedule_free_adamw/rank"] == "1"
    assert path.stat().st_size < 3_000_000
