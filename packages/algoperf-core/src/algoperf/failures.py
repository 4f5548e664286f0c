"""Whose failure an exception is: the submission's, which is a result, or the machine's, which is none."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from typing import Any

from algoperf.backends import Backend
from algoperf.data import DataError
from algoperf.state_tree import StateError
from algoperf.submission import Submission, SubmissionError
from algoperf.trial_config import EndReason


def facts(error: BaseException) -> dict[str, str]:
    """What the records keep of an exception."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }


def explained(error: Exception, submission: Submission, hyperparameters: Any) -> Exception:
    """The exception itself, or one that says which hyperparameter the submission asked for in vain."""
    names = getattr(hyperparameters, "_fields", ())
    if not isinstance(error, AttributeError) or error.obj is not hyperparameters:
        return error
    frame = traceback.extract_tb(error.__traceback__)[-1]
    wanted = f"{submission.path} asks for the hyperparameter {error.name}"
    if names:
        sentence = (
            f"{wanted}, which is none of {', '.join(names)}; add it to the search space, or give it with --hparam."
        )
    elif f"hyperparameters.{error.name}" in (frame.line or ""):
        sentence = (
            f"{wanted}, and self-tuning gives none; run it with --ruleset external, or set the value in its code."
        )
    else:
        # Something else was None.
        return error
    explanation = SubmissionError(sentence)
    explanation.__cause__ = error
    return explanation


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
    # Libraries may lie below the submission's folder, and so may we: the innermost folder says whose a file is.
    libraries = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
    ours, theirs = Path(__file__).parent, submission.path.parent
    folders = sorted([*libraries, ours, theirs], key=lambda folder: len(folder.parts), reverse=True)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        owner = next((folder for folder in folders if Path(frame.filename).is_relative_to(folder)), None)
        if owner in (ours, theirs):
            return owner == theirs
    return False
