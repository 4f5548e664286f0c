"""The submissions of a suite: found, named and checked before anything is planned."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from algoperf import registry, submission
from algoperf.search import SearchSpace
from algoperf.spec import Framework, Scale, TuningRuleset
from algoperf_orchestrator import requirements
from algoperf_orchestrator.configure import MINI_HYPERPARAMETERS, SEARCH_SPACE
from algoperf_orchestrator.suite import Suite

# Names in an experiment's folder that are no submission's.
_TAKEN = ("report", "rules.json", "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One submission in one framework.

    Attributes:
        label: its folder in the experiment, and its name in the ranking.
        submission: its installed name, or the path of its file.
        framework: what it is run in.
        space: what its hyperparameters are drawn from; None in self-tuning.
    """

    label: str
    submission: str
    framework: Framework
    space: SearchSpace | None


def entries(suite: Suite) -> list[Entry]:
    """The submissions of a suite, each in each of its frameworks.

    Raises:
        ValueError: one does not exist, is written for another framework, or brings the wrong search space for
            the ruleset; or two have one name, or one that is taken.
    """
    if suite.tuning_search_space is not None and suite.ruleset is TuningRuleset.SELF:
        raise ValueError("A self-tuning submission is given no search space; leave --tuning-search-space out.")
    found = [_entry(suite, name, framework) for name in suite.submissions for framework in suite.frameworks]
    twice = [label for label, count in Counter(entry.label for entry in found).items() if count > 1]
    if twice:
        raise ValueError(f"Two submissions are called {twice[0]}; name each once, and rename one of the folders.")
    return found


def _entry(suite: Suite, name_or_path: str, framework: Framework) -> Entry:
    file = submission.locate(name_or_path, framework)
    if not file.is_file():
        raise ValueError(f"The submission {name_or_path} has no file {file}; write it, or choose another framework.")
    is_installed = name_or_path in registry.submission_names() and file.parent != Path(name_or_path).resolve()
    if not is_installed:
        submission.check_framework(file, framework)
        requirements.check(file, framework)
    name = name_or_path if is_installed else _name(file)
    if name.startswith(".") or name in _TAKEN:
        raise ValueError(
            f"A submission cannot be called {name!r}: an experiment keeps something else under that name; rename it."
        )
    return Entry(
        # Several frameworks are ranked beside each other; one needs no mention.
        label=name if len(suite.frameworks) == 1 else f"{name}_{framework.value}",
        submission=name if is_installed else str(file),
        framework=framework,
        space=_space(suite, name, file),
    )


def _name(file: Path) -> str:
    """Of a submission that is a file: its folder's, if it is called as all are."""
    return file.parent.name if file.stem in ("submission", *Framework) else file.stem


def _space(suite: Suite, name: str, file: Path) -> SearchSpace | None:
    own = file.with_name(SEARCH_SPACE)
    if suite.ruleset is TuningRuleset.SELF:
        if own.exists():
            raise ValueError(
                f"The submission {name} brings a search space ({own.name}), but self-tuning gives none; "
                "run it with --ruleset external, or remove that file."
            )
        return None
    if suite.tuning_search_space is not None:
        return SearchSpace.load(suite.tuning_search_space)
    mini = file.with_name(MINI_HYPERPARAMETERS)
    # One trial alone would be a point drawn for full scale, of which few train a small workload well.
    if suite.scale is Scale.MINI and suite.trials == 1 and mini.exists():
        return SearchSpace.load(mini)
    if not own.exists():
        raise ValueError(
            f"The submission {name} has no {SEARCH_SPACE}, which external tuning needs; "
            "add one, pass --tuning-search-space, or use --ruleset self."
        )
    return SearchSpace.load(own)
