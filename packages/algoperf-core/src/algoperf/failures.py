"""Whose failure an exception is: the submission's, which is a result, or the machine's, which is none."""

from __future__ import annotations

import traceback
from pathlib import Path

from algoperf.backends import Backend
from algoperf.data import DataError
from algoperf.state_tree import StateError
from algoperf.submission import Submission
from algoperf.trial_config import EndReason


def facts(error: BaseException) -> dict[str, str]:
    """What the records keep of an exception."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }


def end_reason(error: Exception, backend: Backend, submission: Submission) -> EndReason:
    """What a trial ended of that an exception ended."""
    if backend.is_out_of_memory(error) or isinstance(error, MemoryError):
        return EndReason.OOM
    if backend.is_lost_device(error):
        return EndReason.INFRASTRUCTURE
    ours = isinstance(error, (OSError, DataError, StateError))
    return EndReason.INFRASTRUCTURE if ours and not _raised_in(submission, error) else EndReason.ERROR


def _raised_in(submission: Submission, error: Exception) -> bool:
    """Whether the submission, rather than the harness that it called, met the error."""
    ours, theirs = str(Path(__file__).parent), str(submission.path.parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith((ours, theirs)):
            return frame.filename.startswith(theirs)
    return False
