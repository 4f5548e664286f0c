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
        header: its first line, without its end; empty if the file cannot be used.
        body: whole lines, each with its end.
        sha256: of what is on disk, in hexadecimal; empty if there is nothing.
        anomalies: what is wrong with it so far.
    """

    path: Path
    header: bytes = b""
    body: bytes = b""
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
    header_end = content.find(b"\n")
    if header_end < 0:
        return _useless(path, Kind.HEADER_ONLY)
    header = content[:header_end].rstrip(b"\r")
    body = _without_torn_line(header, content[header_end + 1 :])
    anomalies = []
    if len(body) < len(content) - header_end - 1:
        anomalies.append(Anomaly(path, Kind.TRUNCATED_LINE))
    if not body or body.isspace():
        anomalies.append(Anomaly(path, Kind.HEADER_ONLY))
    sha256 = hashlib.sha256(content).hexdigest()
    return EvaluationFile(path=path, header=header, body=body, sha256=sha256, anomalies=tuple(anomalies))


def _without_torn_line(header: bytes, body: bytes) -> bytes:
    """Without a last line whose end was never written: the digits that it has may be the first of more."""
    whole = body.rfind(b"\n") + 1
    last = body[whole:]
    if not last or last.isspace():
        return body[:whole]
    # Only its last field may be cut; a line whose last field scoring does not need is as good as whole.
    has_all = last.count(b",") == header.count(b",") and header.endswith(b",validation/num_examples")
    return body + b"\n" if has_all else body[:whole]


def _useless(path: Path, kind: Kind, detail: str = "") -> EvaluationFile:
    return EvaluationFile(path=path, anomalies=(Anomaly(path, kind, detail),))
