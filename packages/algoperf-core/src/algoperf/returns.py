"""What the functions of a submission must return. A check raises SubmissionError with the sentence for its author."""

from collections.abc import Mapping
from typing import Any

from algoperf.backends import Backend
from algoperf.spec import Framework
from algoperf.submission import Submission, SubmissionError


def check_optimizer_state(submission: Submission, framework: Framework, returned: Any) -> None:
    """Of `init_optimizer_state`: in JAX a pair of the state and an update function or None."""
    is_jax = framework is Framework.JAX
    if returned is None or (is_jax and not _is_state_and_function(returned)):
        expected = "a pair: the state, and an update function or None" if is_jax else "the state, usually a dict"
        raise SubmissionError(
            f"init_optimizer_state of {submission.path} returned a {type(returned).__name__}; "
            f"in {framework.value} it returns {expected}."
        )


def check_batch(submission: Submission, returned: Any) -> None:
    """Of `data_selection`."""
    if not isinstance(returned, Mapping):
        raise SubmissionError(
            f"data_selection of {submission.path} returned a {type(returned).__name__}; "
            "it returns a batch, a dict like those that next(input_queue) gives."
        )


def check_update(submission: Submission, function: str, backend: Backend, returned: Any) -> None:
    """Of `update_params` and `prepare_for_eval`."""
    if not _is_tuple(returned, 3):
        raise SubmissionError(
            f"{function} of {submission.path} returned a {type(returned).__name__}; "
            "it returns three things: optimizer state, parameters, model state."
        )
    if not isinstance(returned[1], backend.params_type):
        raise SubmissionError(
            f"{function} of {submission.path} returned parameters that are a {type(returned[1]).__name__}, no "
            f"{backend.params_type.__name__}; it returns optimizer state, parameters, model state."
        )


def _is_tuple(value: Any, length: int) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == length


def _is_state_and_function(value: Any) -> bool:
    return _is_tuple(value, 2) and (value[1] is None or callable(value[1]))
