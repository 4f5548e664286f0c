"""Parses evaluations: the columns that scoring needs, many files at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from algoperf_scoring import evaluation_files
from algoperf_scoring.anomalies import Anomaly, Kind
from algoperf_scoring.evaluation_files import EvaluationFile

# Reading waits for disks; more threads than this only wait for each other.
_THREADS = 8
# Parsed together, because a call of the parser costs more than the file; not more, because of the memory.
_FILES_AT_A_TIME = 128
_STEP, _SCORE, _SUBMISSION = "global_step", "score", "accumulated_submission_time"
_EVAL, _LOGGING = "accumulated_eval_time", "accumulated_logging_time"


@dataclass(frozen=True, kw_only=True)
class Evaluations:
    """The evaluations of one trial or of many, one after the other.

    Attributes:
        step: float64 (rows,), steps taken.
        time_s: float64 (rows,), the score: submission time in seconds.
        eval_s: float64 (rows,), seconds spent on evaluation so far; NaN where unknown.
        logging_s: float64 (rows,), likewise on logging.
        metric: float64 (rows,), the target metric on the validation split; may be NaN.
    """

    step: np.ndarray
    time_s: np.ndarray
    eval_s: np.ndarray
    logging_s: np.ndarray
    metric: np.ndarray

    def __len__(self) -> int:
        return len(self.time_s)


def concatenate(parts: Sequence[Evaluations]) -> Evaluations:
    """The rows of all parts, in order."""
    fields = ("step", "time_s", "eval_s", "logging_s", "metric")
    empty = [np.empty(0)]
    return Evaluations(**{name: np.concatenate([getattr(part, name) for part in parts] or empty) for name in fields})


def read(folders: Sequence[Path], metrics: Sequence[str]) -> tuple[list[Evaluations], list[str], list[Anomaly]]:
    """The evaluations of each trial, of a trial whose file cannot be used none; and each file's SHA-256.

    Args:
        folders: of the trials.
        metrics: for each trial, the name of its target metric.
    """
    # Files of one metric together, so that many have the same header and are parsed in one call.
    order = sorted(range(len(folders)), key=lambda index: metrics[index])
    parts = [order[start : start + _FILES_AT_A_TIME] for start in range(0, len(order), _FILES_AT_A_TIME)]
    found = [concatenate([])] * len(folders)
    digests = [""] * len(folders)
    anomalies: list[Anomaly] = []
    with ThreadPoolExecutor(_THREADS) as threads:
        # The next files are read while these are parsed.
        ahead = (threads.map(evaluation_files.load, [folders[index] for index in part]) for part in parts)
        loading = next(ahead, iter(()))
        for part in parts:
            files = list(loading)
            loading = next(ahead, iter(()))
            evaluations, odd = _parse_all(files, [metrics[index] for index in part])
            anomalies += [anomaly for file in files for anomaly in file.anomalies] + odd
            for index, file, rows in zip(part, files, evaluations, strict=True):
                found[index], digests[index] = rows, file.sha256
    return found, digests, anomalies


def _parse_all(files: Sequence[EvaluationFile], metrics: Sequence[str]) -> tuple[list[Evaluations], list[Anomaly]]:
    """Parses the files of one header and one metric in one go: no column can come from a file that lacks it."""
    groups: dict[tuple[bytes | None, str], list[int]] = defaultdict(list)
    for index, (file, metric) in enumerate(zip(files, metrics, strict=True)):
        groups[file.header, metric].append(index)
    found = [concatenate([])] * len(files)
    anomalies: list[Anomaly] = []
    for (header, metric), indices in groups.items():
        if header is not None:
            group = [files[index] for index in indices]
            columns = _parse(header, [line for file in group for line in file.lines], f"validation/{metric}")
            stops = np.cumsum([0, *(len(file.lines) for file in group)]).tolist()
            for index, file, (start, stop) in zip(indices, group, pairwise(stops), strict=True):
                rows = {name: values[start:stop] for name, values in columns.items()}
                found[index], odd = _clean(rows, f"validation/{metric}", file.path)
                anomalies += odd
    return found, anomalies


def _parse(header: bytes, lines: Sequence[bytes], metric: str) -> dict[str, np.ndarray]:
    """The columns that are needed and there, float64 (lines,); NaN where something else than a number stands."""
    columns = header.decode(errors="replace").split(",")
    present = [name for name in (_STEP, _SCORE, _SUBMISSION, _EVAL, _LOGGING, metric) if name in columns]
    if not present or not lines:
        return {name: np.empty(0) for name in present}
    # By position, because nothing keeps a header from naming a column twice; of those the first counts.
    places = {name: str(columns.index(name)) for name in present}
    plain_header = ",".join(map(str, range(len(columns)))).encode()
    table = pl.read_csv(
        b"\n".join([plain_header, *lines]),
        columns=list(places.values()),
        infer_schema=False,
        schema_overrides=dict.fromkeys(places.values(), pl.Float64),
        ignore_errors=True,
        # A stray quote would swallow the lines after it.
        quote_char=None,
        encoding="utf8-lossy",
    )
    if len(table) != len(lines):
        # The parser sees other lines than we do; one by one there is nothing to confuse.
        halves = [lines[: len(lines) // 2], lines[len(lines) // 2 :]] if len(lines) > 1 else []
        parts = [_parse(header, half, metric) for half in halves] or [dict.fromkeys(present, np.array([np.nan]))]
        return {name: np.concatenate([part[name] for part in parts]) for name in present}
    return {name: table[place].to_numpy() for name, place in places.items()}


def _clean(columns: dict[str, np.ndarray], metric: str, path: Path) -> tuple[Evaluations, list[Anomaly]]:
    """The rows that are evaluations, and what is wrong with them and with the others."""
    missing = [name for name in (_STEP, metric) if name not in columns]
    if _SCORE not in columns and _SUBMISSION not in columns:
        missing.append(_SCORE)
    anomalies = [Anomaly(path, Kind.MISSING_COLUMN, name) for name in missing]
    num_rows = max((len(values) for values in columns.values()), default=0)
    unknown = np.full(num_rows, np.nan)
    time_s = columns.get(_SCORE, columns.get(_SUBMISSION, unknown))
    keep = np.isfinite(time_s) & (time_s >= 0)
    if not keep.all() and _SCORE not in missing:
        is_line_of_numbers = np.any([~np.isnan(values) for values in columns.values()], axis=0)
        counts = {Kind.UNREADABLE_ROW: (~is_line_of_numbers).sum(), Kind.NO_TIME: (~keep & is_line_of_numbers).sum()}
        anomalies += [Anomaly(path, kind, f"{number} lines") for kind, number in counts.items() if number]
    found = Evaluations(
        step=columns.get(_STEP, unknown)[keep],
        time_s=time_s[keep],
        eval_s=columns.get(_EVAL, unknown)[keep],
        logging_s=columns.get(_LOGGING, unknown)[keep],
        metric=columns.get(metric, unknown)[keep],
    )
    anomalies += _doubts(found, columns.get(_SUBMISSION, unknown)[keep], path, has_metric=metric in columns)
    return found, anomalies


def _doubts(rows: Evaluations, submission_s: np.ndarray, path: Path, *, has_metric: bool) -> Iterator[Anomaly]:
    """What is readable and odd."""
    if has_metric and (nans := int(np.isnan(rows.metric).sum())):
        yield Anomaly(path, Kind.NAN_METRIC, f"{nans} of {len(rows)} evaluations")
    if len(rows) == 1:
        yield Anomaly(path, Kind.ONE_EVALUATION)
    if (rows.time_s[1:] < rows.time_s[:-1]).any():
        yield Anomaly(path, Kind.TIME_BACKWARDS)
    if (np.isfinite(submission_s) & (submission_s != rows.time_s)).any():
        yield Anomaly(path, Kind.SCORE_IS_NOT_TIME)
