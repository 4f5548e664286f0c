"""Numbers and names as people read them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

METRICS = {
    "accuracy": "accuracy",
    "bleu": "BLEU",
    "loss": "loss",
    "mean_average_precision": "mean average precision",
    "ppl": "perplexity",
    "ssim": "structural similarity",
    "wer": "word error rate",
}
GOALS = {"min": "lower is better", "max": "higher is better"}
RULESETS = {"external": "external tuning", "self": "self-tuning"}
# Why a cell counts as infinite: in two words, and in a sentence. `{ratio}` is where the rules draw the line.
REASONS = {
    "not_reached": ("not reached", "The target was not reached in the median study"),
    "slower_than_4x": ("over {ratio}×", "The target was reached, but only after more than {ratio} times the fastest"),
    "held_out_missed": ("variant missed", "The target was reached, but not that of the held-out variant"),
    "base_missed": ("base missed", "This variant counts nothing, because its base workload was not reached"),
    "over_budget": ("over budget", "The target was reached only after the budget was spent"),
    "crashed": ("crashed", "The runs that missed the target ended with an error, or before they began to learn"),
    "unfinished": ("unfinished", "The target was not reached yet, and trials have not ended"),
    "no_data": ("no data", "The logs hold none of it"),
    "incomplete": ("incomplete", "Too many studies are missing"),
}
SELECTIONS = {
    "fastest": "in each study, the trial that reached the target first; not after the budget",
    "reference": "in each study, the trial that reached the target at the smallest evaluation, as in the public code",
}
MISSINGS = {
    "drop": "left out of the median",
    "never-reached": "counted as never reached",
}
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Without what cannot stand in XML or cannot be encoded: file names may hold anything."""
    return _UNPRINTABLE.sub("\ufffd", text)


def short(name: str, longest: int = 60) -> str:
    """A name of a readable length."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def breakable(name: str) -> Markup:
    """A name that a browser may break where its words end, and that cannot turn the text around it."""
    parts = re.split(r"(?<=[_/.-])", name)
    return Markup("<bdi>") + Markup("<wbr>").join(escape(part) for part in parts) + Markup("</bdi>")


def metric(name: str) -> str:
    """A metric in words."""
    return METRICS.get(name, name.replace("_", " "))


def duration(seconds: float | None) -> str:
    """Like 42 s, 14.6 min, 9.33 h; three digits are as many as anybody compares."""
    if seconds is None:
        return "–"
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{_three_digits(seconds / size)}\u202f{unit}"
    return f"{_three_digits(seconds)}\u202fs"


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def score(value: float) -> str:
    """With four digits, as scores are published."""
    return f"{value:.4f}"


def ratio(value: float | None) -> str:
    """A factor; infinity if it does not count."""
    return "∞" if value is None else f"{value:.2f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of one."""
    return "–" if share is None else f"{100 * share:.{digits}f}\u202f%".replace("-", "−")


def plural(number: int, noun: str, nouns: str = "") -> str:
    """Like 1 study, 2 studies."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def listed(names: Sequence[Markup]) -> Markup:
    """Like a, b and c."""
    return Markup(" and ").join(filter(None, [Markup(", ").join(names[:-1]), *names[-1:]]))


def file_name(name: str) -> str:
    """A name that can be part of a file's name, and of an id."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)
