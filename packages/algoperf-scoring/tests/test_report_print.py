"""The report on paper: Chromium prints it to PDF."""

import re
import zlib

import pytest

from algoperf_scoring import board, document, logs, report
from algoperf_scoring.rules import Rules, RulesetRules, WorkloadRules

WORKLOADS = tuple("criteo1tb fastmri imagenet_resnet imagenet_vit librispeech_conformer ogbg speech wmt".split())
RULESET = RulesetRules(studies=2, trials=1, budget_factor=1.0)
RULES = Rules(
    name="test",
    hardware="any",
    base=WORKLOADS,
    held_out={"imagenet_resnet": "imagenet_resnet_large_bn_init"},
    workloads={
        name: WorkloadRules(metric="accuracy", goal="max", target=0.5, budget_s=7200)
        for name in (*WORKLOADS, "imagenet_resnet_large_bn_init")
    },
    rulesets={"external": RULESET, "self": RULESET},
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The document of a board of nine submissions, some of which miss targets, and the path of its page."""
    folder = tmp_path_factory.mktemp("report")
    for row in range(9):
        for column, workload in enumerate(RULES.scored):
            for study in range(2):
                trial = folder / "logs" / f"submission_number_{row}" / f"study_{study}" / f"{workload}_jax" / "trial_1"
                trial.mkdir(parents=True)
                best = 0.4 if (row + column) % 4 == 0 else 0.6
                lines = [f"{index},{index * (row + 60 + study)},{best * index / 40}" for index in range(41)]
                content = "\n".join(["global_step,score,validation/accuracy", *lines, ""])
                (trial / "eval_measurements.csv").write_text(content)
    read = logs.read([folder / "logs"], RULES, "external")
    analysis = document.Analysis(board=board.score(read))
    data = document.as_data(analysis)
    return data, report.write(analysis, data, folder)


@pytest.fixture
def page(browser, made):
    context = browser.new_context(viewport={"width": 703, "height": 1000})
    page = context.new_page()
    page.goto(made[1].as_uri())
    yield page
    context.close()


def test_print_has_every_number(made, page):
    data, _ = made
    content = page.pdf(prefer_css_page_size=True)
    text = text_of_pdf(content)
    for one in data["submissions"].values():
        assert f"{one['score']:.4f}" in text
        # Only in a list that is closed on the screen.
        for cell in one["workloads"].values():
            assert re.sub(r"\s", "", cell["detail"]) in text
    assert data["logs_sha256"] in text
    assert page.locator("details[open]").count() == 0


def text_of_pdf(content):
    """The text of a PDF as Chromium writes it, without spaces: glyphs through each font's table of characters."""
    objects = {int(found[1]): found[2] for found in re.finditer(rb"(?s)\n(\d+) 0 obj\n?(.*?)endobj", content)}

    def stream(body):
        return zlib.decompress(re.search(rb"(?s)stream\r?\n(.*)\r?\nendstream", body)[1])

    fonts = {}
    for number, body in objects.items():
        if table := re.search(rb"/ToUnicode (\d+)", body):
            fonts[b"F%d" % number] = characters(stream(objects[int(table[1])]))
    pieces = []
    for body in objects.values():
        if b"FlateDecode" in body and b"BT\n" in (commands := stream(body)):
            font = {}
            for name, glyphs in re.findall(rb"/(F\d+) [\d.]+ Tf|<([0-9A-F]+)>", commands):
                font = fonts.get(name, font)
                codes = (glyphs[at : at + 4] for at in range(0, len(glyphs), 4))
                pieces += [font.get(int(code, 16), "") for code in codes]
    return re.sub(r"\s", "", "".join(pieces))


def characters(table):
    """From glyphs to characters."""
    found = {}
    for block in re.findall(rb"(?s)beginbfchar(.*?)endbfchar", table):
        for glyph, text in re.findall(rb"<(\w+)> <(\w+)>", block):
            found[int(glyph, 16)] = bytes.fromhex(text.decode()).decode("utf-16-be")
    for block in re.findall(rb"(?s)beginbfrange(.*?)endbfrange", table):
        for first, last, text in re.findall(rb"<(\w+)> <(\w+)> <(\w+)>", block):
            for glyph in range(int(first, 16), int(last, 16) + 1):
                found[glyph] = chr(int(text, 16) + glyph - int(first, 16))
    return found


def test_print_fits_a_page(page):
    """703 CSS pixels are the width of A4 between the page's margins."""
    page.emulate_media(media="print")
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == 703
    tables = page.eval_on_selector_all("table", "all => all.map(one => one.getBoundingClientRect().right)")
    assert max(tables) <= 703
