"""What submissions log their own metrics to."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from algoperf.record_files import RecordsError, append_durably


class MetricsLogger:
    """What a submission logs to. Values stay where they are until they are written.

    Args:
        path: the file that rows are appended to.
        preemption_count: number of restarts before this run.
    """

    def __init__(self, path: Path, preemption_count: int) -> None:
        self._path = path
        self._preemption_count = preemption_count
        self._rows: list[dict[str, Any]] = []

    def append_scalar_metrics(
        self,
        metrics: Mapping[str, Any],
        global_step: int,
        preemption_count: int | None = None,
        is_eval: bool = False,
    ) -> None:
        """Logs some metrics of a step, without waiting for the devices that compute them.

        Args:
            metrics: numbers or arrays of one element, which must not be changed in place any more.
            global_step: the step they belong to.
            preemption_count: number of restarts, where it is not the run's.
            is_eval: accepted because submissions pass it; what they log is no evaluation.

        Raises:
            RecordsError: if a value is no number, or its name does not fit in one line.
        """
        for name, value in metrics.items():
            if not isinstance(name, str) or not name.isprintable():
                raise RecordsError(f"The logged metric {name!r} has no name; use a printable text.")
            is_one = math.prod(getattr(value, "shape", ())) == 1
            if not is_one or getattr(value, "__float__", None) is None:
                raise RecordsError(f"The logged metric {name!r} is a {type(value).__name__}; log one number.")
        count = self._preemption_count if preemption_count is None else preemption_count
        self._rows.append({**metrics, "global_step": global_step, "preemption_count": count})

    def flush(self) -> None:
        """Appends everything logged so far to the file. Waits for the devices."""
        rows, self._rows = self._rows, []
        whole = ("global_step", "preemption_count")
        converted = ({key: int(value) if key in whole else float(value) for key, value in row.items()} for row in rows)
        if lines := "".join(json.dumps(row) + "\n" for row in converted):
            append_durably(self._path, lines.encode())
