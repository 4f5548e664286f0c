"""Brings the bytes of eval_measurements.csv into a state that can be parsed, whatever state they are in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from algoperf_scoring.anomalies import Anomaly, Kind

NAME = "eval_measurements.csv"


@dataclass(frozen=True, kw_only=True)
class EvaluationFile:
    """One file.

    Attributes:
        path: of the file.
        header: its first line, without its end; None if the file cannot be used.
        lines: the lines after it, without their ends, that have as many fields as the header.
        sha256: of what is on disk, in hexadecimal; empty if there is nothing.
        anomalies: what is wrong with it so far.
    """

    path: Path
    header: bytes | None = None
    lines: tuple[bytes, ...] = ()
    sha256: str = ""
    anomalies: tuple[Anomaly, ...] = ()


def load(folder: Path) -> EvaluationFile:
    """The file of the trial in `folder`; one that cannot be used has no lines."""
    path = folder / NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return _useless(path, Kind.NO_EVALUATIONS)
    except OSError as error:
        return _useless(path, Kind.UNREADABLE, error.strerror or "")
    if not content or content.isspace():
        return _useless(path, Kind.EMPTY_FILE)
    header, _, rest = content.partition(b"\n")
    header = header.rstrip(b"\r")
    lines = rest.split(b"\n")
    torn = lines.pop()
    good = [line for line in lines if line and line.count(b",") == header.count(b",")]
    anomalies = []
    if len(good) < len(lines):
        anomalies.append(Anomaly(path, Kind.UNREADABLE_ROW, f"{len(lines) - len(good)} lines"))
    if torn and not torn.isspace():
        if _is_usable(torn, header):
            good.append(torn)
        else:
            anomalies.append(Anomaly(path, Kind.TRUNCATED_LINE))
    if not good:
        anomalies.append(Anomaly(path, Kind.HEADER_ONLY))
    return EvaluationFile(
        path=path,
        header=header,
        lines=tuple(good),
        sha256=hashlib.sha256(content).hexdigest(),
        anomalies=tuple(anomalies),
    )


def _is_usable(torn: bytes, header: bytes) -> bool:
    """Whether a last line without an end is as good as whole.

    The digits that its last field has may be the first of more, unless that is a field which scoring does not need.
    """
    return torn.count(b",") == header.count(b",") and header.endswith(b",validation/num_examples")


def _useless(path: Path, kind: Kind, detail: str = "") -> EvaluationFile:
    return EvaluationFile(path=path, anomalies=(Anomaly(path, kind, detail),))
