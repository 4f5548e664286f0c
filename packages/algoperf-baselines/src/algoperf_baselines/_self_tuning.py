"""Self-tuning versions: algorithms with hyperparameters that are given here."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from algoperf.search import as_hyperparameters
from algoperf.spec import Scale

__all__ = ["with_hyperparameters"]


def with_hyperparameters(function: Callable[..., Any], points: Mapping[Scale, Mapping[str, Any]]) -> Callable[..., Any]:
    """A function of a submission that takes `workload` and `hyperparameters`, with a point for each scale bound to it.

    It is called as before; the hyperparameters that it is given, None in self-tuning, do not count.
    """
    signature = inspect.signature(function)
    bound = {scale: as_hyperparameters(point) for scale, point in points.items()}

    @functools.wraps(function)
    def self_tuned(*positional: Any, **keywords: Any) -> Any:
        arguments = signature.bind(*positional, **keywords)
        arguments.arguments["hyperparameters"] = bound[arguments.arguments["workload"].spec.scale]
        return function(*arguments.args, **arguments.kwargs)

    return self_tuned
