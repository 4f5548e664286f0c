"""Tuning search spaces and the hyperparameter points they give.

A search space is JSON in one of two forms. An object gives a range or a set of values for each
hyperparameter, and points are drawn from it quasi-randomly:

    {"learning_rate": {"min": 1e-4, "max": 1e-2, "scaling": "log"},
     "warmup_factor": {"feasible_points": [0.02, 0.05]}}

A list of objects gives the points themselves.

Quasi-random points cover a space more evenly than random ones and, unlike a grid, waste no trials
on hyperparameters that matter little (Bousquet et al., "Critical Hyper-Parameters: No Random, No
Cry", arXiv 1706.03200). They come from a Halton sequence (Halton, "On the efficiency of certain
quasi-random sequences of points in evaluating multi-dimensional integrals", Numerische Mathematik
2, 1960), scrambled and shifted in each dimension. Which points a space gives depends on the space
and their number alone; the seed decides their order and nothing else.
"""

from __future__ import annotations

import copy
import functools
import json
import keyword
import math
import sys
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["SearchSpace", "as_hyperparameters", "parse_search_space", "points", "unit_points"]

Point = dict[str, Any]

# Dimensions take the largest primes below this bound, the last dimension the largest.
_PRIME_BOUND = 997
# The first points of a Halton sequence in large primes lie close together, and are left out.
_FIRST_INDEX = 101


@dataclass(frozen=True)
class Range:
    """An interval to draw from, evenly in the value itself or ("log") in its logarithm."""

    minimum: float
    maximum: float
    log: bool

    def at(self, unit: float) -> float:
        """The value at a position in [0, 1)."""
        if self.log:
            value = self.minimum * math.exp(unit * math.log(self.maximum / self.minimum))
        else:
            value = self.minimum + (self.maximum - self.minimum) * unit
        return min(max(value, self.minimum), self.maximum)  # rounding may lead past a bound


@dataclass(frozen=True)
class Choice:
    """A set of values to draw from, all as likely."""

    values: tuple[Any, ...]

    def at(self, unit: float) -> Any:
        """The value at a position in [0, 1)."""
        return copy.deepcopy(self.values[int(unit * len(self.values))])


@dataclass(frozen=True)
class SearchSpace:
    """A search space that has been checked.

    Attributes:
        name: what error messages call it.
        content: what to draw from per hyperparameter, in the order of the file;
            or the points themselves.
    """

    name: str
    content: Mapping[str, Range | Choice] | tuple[Point, ...]

    @classmethod
    def load(cls, path: Path) -> SearchSpace:
        """Reads a search space from a JSON file. Raises ValueError if missing or malformed."""
        if not path.is_file():
            raise ValueError(f"There is no search space at {path}; name a JSON file.")
        try:
            data = json.loads(
                path.read_bytes(),
                object_pairs_hook=_object_without_duplicates,
                parse_constant=_no_constant,
            )
        except ValueError as error:
            raise ValueError(f"Search space {path} is not valid JSON: {error}.") from error
        return parse_search_space(data, str(path))


def parse_search_space(data: Any, name: str) -> SearchSpace:
    """Checks a search space that has been read from JSON.

    Args:
        data: an object of ranges and feasible points, or a list of points; see the module.
        name: what error messages call the space.

    Raises:
        ValueError: if `data` is not a search space; the message says why, in one sentence.
    """
    where = f"Search space {name}"
    if not isinstance(data, dict | list):
        raise ValueError(f"{where} is {_kind(data)}; write an object or a list of points.")
    if not data:
        raise ValueError(f"{where} is empty; give at least one hyperparameter.")
    if isinstance(data, list):
        return SearchSpace(name, _parse_points(data, where))
    most = len(_primes_below(_PRIME_BOUND))
    if len(data) > most:
        raise ValueError(f"{where} has {len(data)} hyperparameters; give at most {most}.")
    _check_names(data, where)
    return SearchSpace(name, {k: _parse_dimension(v, f"{where}: {k!r}") for k, v in data.items()})


def points(space: SearchSpace, count: int, seed: int) -> list[Point]:
    """The first `count` points of a space.

    Args:
        space: the space.
        count: number of points, at least 1.
        seed: decides the order of quasi-random points; listed points keep the order of the list.

    Raises:
        ValueError: if `count` is below 1, or above the number of listed points.
    """
    if count < 1:
        raise ValueError(f"{count} points of {space.name} are asked for; ask for at least 1.")
    if isinstance(space.content, tuple):
        if count > len(space.content):
            raise ValueError(
                f"{space.name} lists {len(space.content)} points but {count} are asked for; "
                "run fewer trials or list more points."
            )
        return copy.deepcopy(list(space.content[:count]))
    units = unit_points(count, len(space.content)).tolist()
    order = np.random.default_rng(seed).permutation(count).tolist()
    dimensions = space.content.items()
    return [{name: dim.at(u) for (name, dim), u in zip(dimensions, units[i])} for i in order]


def as_hyperparameters(point: Mapping[str, Any]) -> Any:
    """A point as the namedtuple `Hyperparameters` that submissions are handed.

    Points of the same names give the same class, so that trees that hold them match.

    Raises:
        ValueError: if a name cannot be a field of a namedtuple.
    """
    _check_names(point, "A hyperparameter point")
    return _hyperparameters_class(tuple(point))(*point.values())


@functools.cache
def _hyperparameters_class(names: tuple[str, ...]) -> Any:
    return namedtuple("Hyperparameters", names)


def unit_points(count: int, num_dims: int) -> np.ndarray:
    """The scrambled and shifted Halton sequence, float64 [count, num_dims] in [0, 1)."""
    primes = _primes_below(_PRIME_BOUND)[-num_dims:]
    indices = np.arange(_FIRST_INDEX, _FIRST_INDEX + count)
    return np.stack([_halton(indices, prime) for prime in primes], axis=1)


def _halton(indices: np.ndarray, prime: int) -> np.ndarray:
    """The radical inverse of `indices` in base `prime`, its digits permuted, shifted modulo 1."""
    rng = np.random.RandomState(prime)
    digits = np.arange(1, prime)
    rng.shuffle(digits)
    digits = np.concatenate([[0], digits])
    shift = rng.uniform()
    inverse, scale = np.zeros(len(indices)), float(prime)
    while indices.any():
        inverse += digits[indices % prime] / scale
        indices, scale = indices // prime, scale * prime
    return (inverse + shift) % 1.0


@functools.cache
def _primes_below(bound: int) -> tuple[int, ...]:
    return tuple(n for n in range(2, bound) if all(n % k for k in range(2, math.isqrt(n) + 1)))


def _parse_points(data: list[Any], space: str) -> tuple[Point, ...]:
    for number, point in enumerate(data):
        where = f"{space}: point {number}"
        if not isinstance(point, dict):
            raise ValueError(f"{where} is {_kind(point)}; write an object of hyperparameters.")
        if not point:
            raise ValueError(f"{where} is empty; give at least one hyperparameter.")
        _check_names(point, where)
        if different := sorted(set(point) ^ set(data[0])):
            raise ValueError(f"{where} and point 0 differ in {', '.join(different)}; give all the same names.")
        for key, value in point.items():
            _check_value(value, f"{where}: {key!r}")
    return tuple(data)


def _parse_dimension(data: Any, where: str) -> Range | Choice:
    if not isinstance(data, dict):
        raise ValueError(f"{where} is {_kind(data)}; write an object of min, max, scaling or of feasible_points.")
    keys = ("feasible_points",) if "feasible_points" in data else ("min", "max", "scaling")
    if unknown := [key for key in data if key not in keys]:
        raise ValueError(f"{where} has the unknown key {unknown[0]!r}; use {', '.join(keys)}.")
    if missing := [key for key in keys if key not in data]:
        raise ValueError(f"{where} lacks {' and '.join(missing)}; give {', '.join(keys)}.")
    if "feasible_points" in data:
        return _parse_choice(data["feasible_points"], where)
    low, high = (_parse_bound(data, key, where) for key in ("min", "max"))
    return _checked_range(low, high, data["scaling"], where)


def _parse_bound(data: dict[str, Any], key: str, where: str) -> float:
    value = data[key]
    if _kind(value) != "a number" or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{where} has the {key} {value!r}; give a finite number.")
    return float(value)


def _checked_range(low: float, high: float, scaling: Any, where: str) -> Range:
    if scaling not in ("linear", "log"):
        raise ValueError(f"{where} has the scaling {scaling!r}; choose 'linear' or 'log'.")
    if low >= high:
        raise ValueError(f"{where} has the min {low!r} and the max {high!r}; put min below max.")
    if scaling == "log" and low <= 0:
        raise ValueError(f"{where} has the min {low!r}; log scaling needs one above 0.")
    if not math.isfinite(high / low if scaling == "log" else high - low):
        raise ValueError(f"{where} reaches from {low!r} to {high!r}; choose a smaller range.")
    return Range(low, high, scaling == "log")


def _parse_choice(values: Any, where: str) -> Choice:
    if not isinstance(values, list):
        raise ValueError(f"{where} has feasible_points that are {_kind(values)}; write a list.")
    if not values:
        raise ValueError(f"{where} has no feasible_points; list at least one.")
    for number, value in enumerate(values):
        _check_value(value, where)
        # JSON's true is no 1, though Python's is.
        if any(value == other and _kind(value) == _kind(other) for other in values[:number]):
            raise ValueError(f"{where} has the feasible point {value!r} twice; list each once.")
    return Choice(tuple(values))


def _check_value(value: Any, where: str) -> None:
    if isinstance(value, list):
        for item in value:
            _check_value(item, where)
    elif not isinstance(value, str | int | float | None):
        raise ValueError(f"{where} has a value that is {_kind(value)}; give a number or a string.")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} has the value {value!r}; give a finite number.")


def _check_names(point: Mapping[str, Any], where: str) -> None:
    for name in point:
        usable = isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)
        if not usable or name.startswith("_"):
            raise ValueError(
                f"{where} has the hyperparameter {name!r}; "
                "name it by a Python identifier that is no keyword and starts with no underscore."
            )


def _kind(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", type(None): "null"}
    names |= {str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} appears twice in one object")
        result[key] = value
    return result


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")
