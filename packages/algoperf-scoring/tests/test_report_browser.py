"""The report in a browser: what people see, reach with a keyboard, and read on a phone or in the dark."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from algoperf_scoring import board, document, logs, report
from algoperf_scoring.rules import Rules, RulesetRules, WorkloadRules

ARTEFACTS = Path(os.environ.get("ALGOPERF_ARTEFACTS", Path(__file__).resolve().parents[3] / "artefacts"))
WORKLOADS = {
    "imagenet_resnet": WorkloadRules(metric="accuracy", goal="max", target=0.5, budget_s=7200),
    "imagenet_resnet_large_bn_init": WorkloadRules(metric="accuracy", goal="max", target=0.4, budget_s=7200),
    "librispeech_deepspeech": WorkloadRules(metric="wer", goal="min", target=0.5, budget_s=9000),
    "ogbg": WorkloadRules(metric="mean_average_precision", goal="max", target=0.28098, budget_s=600),
    "wmt": WorkloadRules(metric="bleu", goal="max", target=0.5, budget_s=300),
}
RULES = Rules(
    name="test",
    hardware="any",
    base=("imagenet_resnet", "librispeech_deepspeech", "ogbg", "wmt"),
    held_out={"imagenet_resnet": "imagenet_resnet_large_bn_init"},
    workloads=WORKLOADS,
    rulesets={
        "external": RulesetRules(studies=3, trials=2, budget_factor=1.0),
        "self": RulesetRules(studies=3, trials=1, budget_factor=3.0),
    },
)
# How long each takes, in budgets; above 1 it does not arrive.
SUBMISSIONS = {
    "steady_baseline": {"imagenet_resnet": 0.3, "librispeech_deepspeech": 0.4, "ogbg": 0.5, "wmt": 0.2},
    "fast_but_careless": {"imagenet_resnet": 0.2, "librispeech_deepspeech": 9.0, "ogbg": 0.1, "wmt": 0.25},
    "slow_" + "and_sure_" * 20: {"imagenet_resnet": 0.9, "librispeech_deepspeech": 0.8, "ogbg": 0.9, "wmt": 0.81},
    "<img src=x onerror=alert(1)>": {"imagenet_resnet": 0.5, "librispeech_deepspeech": 0.6, "ogbg": 9.0, "wmt": 0.5},
    "مرحبا_بالعالم": {"librispeech_deepspeech": 0.7, "wmt": 0.6},
}


def write_trial(folder, facts, share, shift):
    """A curve that reaches its target after a share of the budget."""
    time_s = np.arange(1, 41) / 40 * facts.budget_s * 0.99
    way = np.minimum(time_s / (share * facts.budget_s), 1.1) * (1 + shift / 100)
    metric = facts.target * way if facts.goal == "max" else facts.target * (2 - way)
    columns = np.column_stack([time_s * 0.25, time_s / 64, np.arange(40) * 100, time_s, metric])
    header = f"accumulated_eval_time,accumulated_logging_time,global_step,score,validation/{facts.metric}"
    folder.mkdir(parents=True)
    np.savetxt(folder / "eval_measurements.csv", columns, delimiter=",", header=header, comments="")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The document of a board, and the path of its page."""
    folder = tmp_path_factory.mktemp("report")
    for row, (name, shares) in enumerate(SUBMISSIONS.items()):
        for workload, facts in WORKLOADS.items():
            share = shares.get(workload.removesuffix("_large_bn_init"))
            for study in range(3 if share else 0):
                for trial in range(2):
                    path = folder / "logs" / name / f"study_{study}" / f"{workload}_jax" / f"trial_{trial}"
                    write_trial(path, facts, share + 0.03 * study, trial + row)
    facts = {"authors": "A. Author", "description": "<img src=x onerror=alert(2)>", "framework": "JAX"}
    (folder / "logs" / "steady_baseline" / "submission_info.yml").write_text(json.dumps(facts))
    (folder / "logs" / "fast_but_careless" / "study_0" / "<img src=x onerror=alert(3)>").write_text("")
    read = logs.read([folder / "logs"], RULES, "external")
    analysis = document.Analysis(board=board.score(read), baseline="steady_baseline")
    data = document.as_data(analysis)
    return data, report.write(analysis, data, folder)


@pytest.fixture
def open_page(browser, made):
    """Opens the page; afterwards, nothing was requested, nothing was complained about, and nothing popped up."""
    troubles = []

    def open_page(width=1280, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda request: request.url == made[1].as_uri() or troubles.append(request.url))
        page.goto(made[1].as_uri())
        return page

    yield open_page
    for context in browser.contexts:
        context.close()
    assert [trouble for trouble in troubles if trouble != "data:,"] == []


def resolve(data, pointer):
    for key in pointer.split("/")[1:]:
        key = key.replace("~1", "/").replace("~0", "~")
        data = data[int(key)] if isinstance(data, list) else data[key]
    return data


def test_numbers_are_those_of_the_document(open_page, made):
    data, _ = made
    script = "all => all.map(one => [one.dataset.at, one.dataset.value, one.innerText])"
    found = open_page().eval_on_selector_all("[data-at]", script)
    assert len(found) > 400
    for at, value, _ in found:
        expected = resolve(data, at)
        assert (float(value) if value else None) == expected, at
    texts = {at: text for at, _, text in found}
    for name, one in data["submissions"].items():
        assert texts[f"/submissions/{name}/score"] == f"{one['score']:.4f}"
        assert texts[f"/submissions/{name}/first"].replace("\u202f", " ") == f"{100 * one['first']:.1f} %"
        for workload in RULES.base:
            ratio = one["workloads"][workload]["ratio"]
            text = texts[f"/submissions/{name}/workloads/{workload}/ratio"]
            assert text.startswith("∞" if ratio is None else f"{ratio:.2f}")


def test_intervals_are_to_scale(open_page, made):
    data, _ = made
    page = open_page()
    script = """row => { const [scale, range, point] = [".scale", ".range", ".point"].map(
        (one) => row.querySelector(one).getBoundingClientRect());
        const at = (x) => (x - scale.left - 1) / (scale.width - 2);
        return [at(range.left), at(range.right), at(point.left + point.width / 2)]; }"""
    for row in page.locator(".board tbody tr").all():
        one = data["submissions"][row.get_attribute("data-submission")]
        assert row.evaluate(script) == pytest.approx([*one["interval"], one["score"]], abs=0.02)


def test_every_infinity_says_why(open_page, made):
    data, _ = made
    page = open_page()
    infinite = [cell for one in data["submissions"].values() for cell in one["workloads"].values() if cell["reason"]]
    assert {"not_reached", "slower_than_4x", "no_data"} <= {cell["reason"] for cell in infinite}
    assert page.locator(".why").count() == len(infinite)
    for button, cell in zip(page.locator(".heat .why").all(), sorted_as_shown(data), strict=True):
        assert button.get_attribute("title") == cell["detail"]
        button.focus()
        page.keyboard.press("Enter")
        popover = page.locator(".popover:popover-open")
        assert cell["detail"] in popover.inner_text()
        page.keyboard.press("Escape")
        assert popover.count() == 0


def sorted_as_shown(data):
    """Cells that do not count: of base workloads first."""
    held_out = [[name for name in WORKLOADS if (name in RULES.base) == is_base] for is_base in (True, False)]
    return [
        one["workloads"][workload]
        for workloads in held_out
        for one in data["submissions"].values()
        for workload in sorted(workloads, key=RULES.scored.index)
        if one["workloads"][workload]["reason"]
    ]


def test_names_do_nothing(open_page):
    page = open_page()
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    assert page.locator("img, iframe, object").count() == 0
    assert all(f"onerror=alert({number})>" in page.inner_text("main") for number in (1, 2, 3))
    assert page.evaluate("[...document.querySelectorAll('[onerror]')].length") == 0


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_only_tables_scroll_sideways(open_page, width):
    page = open_page(width=width)
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    sizes = page.eval_on_selector_all(".chart svg", "all => all.map(one => one.getBoundingClientRect().width)")
    assert len(sizes) == 2 + len(WORKLOADS)
    assert max(sizes) <= width
    # 9.5 points on 302.4: legible if a chart is not much smaller than it was drawn.
    assert min(sizes) / 302.4 * 9.5 > (8 if width == 320 else 9.5)


def test_a_keyboard_reaches_everything(open_page):
    page = open_page()
    wanted = "a[href], button, summary, [tabindex='0']"
    page.eval_on_selector_all(wanted, "all => all.forEach((one, index) => { one.dataset.stop = index; })")
    reached = []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the leaderboard"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    for _ in range(400):
        if page.evaluate("document.activeElement.tagName") == "BODY":
            break
        reached.append(int(page.evaluate("document.activeElement.dataset.stop")))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            page.keyboard.press("Enter")
        page.keyboard.press("Tab")
    assert reached == list(range(page.locator(wanted).count()))
    assert page.locator(".scroll:has(> table)").count() == page.locator("table").count()
    assert page.locator(".scroll:not([role=region][aria-label][tabindex='0'])").count() == 0


@pytest.mark.parametrize(
    ("table", "column", "values"),
    [
        (".board", "Score", lambda one, _: one["score"]),
        (".board", "P(first)", lambda one, _: one["first"]),
        (".heat", "ogbg", lambda one, _: one["workloads"]["ogbg"]["ratio"]),
        (".speedup", "Geometric mean", lambda _, speedup: speedup["geometric_mean"]),
    ],
)
def test_enter_sorts_a_column(open_page, made, table, column, values):
    data, page = made[0], open_page()
    found = page.locator(table).first
    button = found.get_by_role("button", name=re.compile(f"^{re.escape(column)}"))
    names = {name: values(one, data["speedup"]["submissions"][name]) for name, one in data["submissions"].items()}
    directions = []
    for _ in range(2):
        button.focus()
        page.keyboard.press("Enter")
        directions.append(button.locator("..").get_attribute("aria-sort"))
        order = [row.get_attribute("data-submission") for row in found.locator("tbody tr").all()]
        there = [names[name] for name in order if names[name] is not None]
        assert there == sorted(there, reverse=directions[-1] == "descending")
        assert all(names[name] is None for name in order[len(there) :])
        assert sorted(order) == sorted(names)
    assert sorted(directions) == ["ascending", "descending"]
    assert found.locator("[aria-sort]").count() == 1


CONTRASTS = """() => {
  const parse = (text) => { const v = text.match(/[\\d.]+/g).map(Number); return v[3] === 0 ? null : v; };
  const light = (v) => { const [r, g, b] = v.slice(0, 3).map((x) => x / 255).map(
    (x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (one) => { for (; one; one = one.parentElement) {
    const colour = parse(getComputedStyle(one).backgroundColor); if (colour) return colour; } };
  const worst = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !one.getClientRects().length || one.closest("script")) continue;
    const style = getComputedStyle(one);
    const colours = [parse(one.closest("svg") ? style.fill : style.color), behind(one)];
    const [low, high] = colours.map(light).sort((a, b) => a - b);
    worst.push([(high + 0.05) / (low + 0.05), one.outerHTML]);
  }
  return worst.sort((a, b) => a[0] - b[0]);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(open_page, scheme):
    page = open_page(scheme=scheme)
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    found = page.evaluate(CONTRASTS)
    assert len(found) > 500
    assert found[0][0] >= 4.5, found[0]


def test_dark_is_dark_and_paper_is_light(open_page):
    behind = "getComputedStyle(document.body).backgroundColor"
    assert open_page().evaluate(behind) == "rgb(255, 255, 255)"
    page = open_page(scheme="dark")
    assert page.evaluate(behind) == "rgb(20, 23, 27)"
    page.emulate_media(media="print")
    assert page.evaluate(behind) == "rgb(255, 255, 255)"


def test_charts_are_described(open_page):
    page = open_page()
    for chart in page.locator("figure.chart").all():
        assert chart.get_by_role("img").get_attribute("aria-labelledby")
        assert chart.locator("svg > title").text_content()
        assert chart.locator("figcaption").inner_text()


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("light", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "light")]
)
def test_screenshots(open_page, name, width, scheme):
    """For people to look at; they are kept."""
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    picture = open_page(width=width, scheme=scheme).screenshot(path=ARTEFACTS / f"report-{name}.png", full_page=True)
    assert len(picture) > 50_000
