"""The command `score`: logs to a leaderboard."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from algoperf.record_files import write_atomic
from algoperf.spec import Framework, TuningRuleset
from algoperf_orchestrator import score_table, scoring_rules
from algoperf_scoring import board, document, logs, tables
from algoperf_scoring.document import Analysis
from algoperf_scoring.times import Missing, Selection

_STDOUT = Path("-")
_ARCHIVE = ".tar.gz"


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """How to score.

    Attributes:
        folders: of logs; for `score`, also archives of them.
        rules: name of the rules; None: as the logs say.
        ruleset: likewise.
        selection: which of a study's trials counts.
        missing: what absent studies count.
        framework: leave out the other one.
        baseline: the submission to give speed-ups against.
        seed: of the bootstrap.
    """

    folders: Sequence[Path]
    rules: str | None = None
    ruleset: TuningRuleset | None = None
    selection: Selection = Selection.FASTEST
    missing: Missing = Missing.DROP
    framework: Framework | None = None
    baseline: str | None = None
    seed: int = 0


def analyse(request: ScoreRequest) -> Analysis:
    """Reads and scores. Raises ValueError, with the sentence for the user, for logs or rules that do not exist."""
    rules, ruleset = scoring_rules.choose(request.folders, request.rules, request.ruleset)
    found = logs.read(request.folders, rules, ruleset, request.framework)
    scored = board.score(found, request.selection, request.missing)
    return Analysis(board=scored, baseline=request.baseline, seed=request.seed)


def score(request: ScoreRequest, json_file: Path | None, csv: Path | None, html: Path | None) -> None:
    """Scores logs, writes what is asked for, and prints the leaderboard.

    In this order, so that whoever reads only the first lines of the output still gets the files.
    """
    with folders_of(request.folders) as folders:
        _write(analyse(replace(request, folders=folders)), json_file, csv, html)


@contextmanager
def folders_of(logs: Sequence[Path]) -> Iterator[list[Path]]:
    """Folders of logs, in their order: of archives that `package` made the contents, until the end.

    Raises:
        ValueError: an archive is damaged, or would do harm.
        OSError: the temporary place is full.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_unpacked(path)) if _is_archive(path) else path for path in logs]


def _is_archive(path: Path) -> bool:
    return path.name.endswith(_ARCHIVE) and path.is_file()


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    # Only now: most logs are folders.
    from algoperf_orchestrator.archive_check import unpacked

    # Submissions of one name are told apart by the folders above them, which here is called as the archive is.
    with unpacked(path) as contents, tempfile.TemporaryDirectory(prefix="algoperf-") as above:
        folder = Path(above) / path.name.removesuffix(_ARCHIVE)
        folder.mkdir()
        for one in contents.iterdir():
            os.rename(one, folder / one.name)
        yield folder


def _write(analysis: Analysis, json_file: Path | None, csv: Path | None, html: Path | None) -> None:
    data = document.as_data(analysis) if json_file or html else {}
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if json_file is not None and json_file != _STDOUT:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(json_file, text)
        _say(f"Wrote {json_file}.")
    if csv is not None:
        csv.mkdir(parents=True, exist_ok=True)
        for name, table in tables.tables(analysis.board, analysis.bootstrap).items():
            write_atomic(csv / f"{name}.csv", table.write_csv())
        _say(f"Wrote scores.csv, times.csv and trials.csv in {csv}.")
    if html is not None:
        # Only now: drawing is slow to import.
        from algoperf_scoring import report

        _say(f"Wrote {report.write(analysis, data, html)}.")
    if json_file == _STDOUT:
        typer.echo(text, nl=False)
    else:
        score_table.show(analysis)


def _say(line: str) -> None:
    typer.echo(line, err=True)
