"""Search spaces: the points of the public benchmark, and one clear sentence for every mistake."""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf.search import (
    SearchSpace,
    as_hyperparameters,
    parse_search_space,
    points,
    unit_points,
)

GOLDEN = sorted((Path(__file__).parent / "golden" / "halton").glob("*.json"))
MIXED: dict[str, Any] = {
    "learning_rate": {"min": 1e-4, "max": 1e-2, "scaling": "log"},
    "momentum": {"min": 0.5, "max": 0.99, "scaling": "linear"},
    "nesterov": {"feasible_points": [True, False, None]},
}


def _canonical(some: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(point) for point in some)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_points_are_those_of_the_public_benchmark(path: Path) -> None:
    golden = json.loads(path.read_text())
    space = parse_search_space(golden["search_space"], path.stem)
    for expected in golden["runs"].values():
        assert _canonical(points(space, len(expected), seed=7)) == _canonical(expected)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_unit_points_are_those_of_the_public_benchmark(path: Path) -> None:
    golden = json.loads(path.read_text())
    if "primes_used" in golden:
        units = unit_points(20, len(golden["primes_used"]))
        assert units.tolist() == golden["unshuffled_unit_points"]


def test_golden_files_are_there() -> None:
    assert len(GOLDEN) == 5


def test_each_dimension_fills_the_unit_interval_evenly() -> None:
    # `base` points in a row differ in their last digit only, which takes every value once. This
    # also exercises indices of two and three digits.
    for bases, count in ((3, 991), (167, 2 * 3 * 5 * 7)):
        units = unit_points(count, bases)
        assert ((units >= 0) & (units < 1)).all()
        histogram = np.histogram(units[:, 0 if bases == 167 else -1], bins=10, range=(0, 1))[0]
        assert abs(histogram - count / 10).max() <= 1


def test_listed_points_keep_their_order_whatever_the_seed() -> None:
    listed = [{"lr": lr, "clip": None} for lr in (0.3, 0.1, 0.2)]
    space = parse_search_space(listed, "listed")
    for seed in range(5):
        assert points(space, 3, seed) == listed
        assert points(space, 2, seed) == listed[:2]
    with pytest.raises(ValueError, match="listed lists 3 points but 4 are asked for"):
        points(space, 4, seed=0)


def test_points_belong_to_the_caller() -> None:
    space = parse_search_space([{"betas": [0.9, 0.99]}], "listed")
    points(space, 1, 0)[0]["betas"].append(1)
    assert points(space, 1, 0) == [{"betas": [0.9, 0.99]}]
    space = parse_search_space({"betas": {"feasible_points": [[0.9, 0.99]]}}, "drawn")
    points(space, 1, 0)[0]["betas"].append(1)
    assert points(space, 1, 0) == [{"betas": [0.9, 0.99]}]


@pytest.mark.parametrize("count", [0, -1])
def test_no_points(count: int) -> None:
    for data in (MIXED, [{"a": 1}]):
        with pytest.raises(ValueError, match="ask for at least 1"):
            points(parse_search_space(data, "space"), count, seed=0)


finite = st.floats(allow_nan=False, allow_infinity=False)
bounds = st.tuples(finite, finite).filter(lambda b: b[0] < b[1] and math.isfinite(b[1] - b[0]))
log_bounds = bounds.filter(lambda b: b[0] > 0 and math.isfinite(b[1] / b[0]))


@given(bounds, log_bounds, st.integers(1, 300), st.integers(0, 2**32))
@settings(deadline=None, max_examples=50)
def test_points_lie_within_their_bounds(
    linear: tuple[float, float], log: tuple[float, float], count: int, seed: int
) -> None:
    space = parse_search_space(
        {
            "a": {"min": linear[0], "max": linear[1], "scaling": "linear"},
            "b": {"min": log[0], "max": log[1], "scaling": "log"},
            "c": {"feasible_points": [1, "two", None]},
        },
        "space",
    )
    for point in points(space, count, seed):
        assert list(point) == ["a", "b", "c"]
        assert linear[0] <= point["a"] <= linear[1]
        assert log[0] <= point["b"] <= log[1]
        assert point["c"] in [1, "two", None]


def test_rounding_leads_past_no_bound() -> None:
    space = parse_search_space({"a": {"min": 0.855, "max": 0.979, "scaling": "log"}}, "space")
    assert isinstance(space.content, Mapping)
    top = 1 - 2**-53
    assert 0.855 * math.exp(top * math.log(0.979 / 0.855)) > 0.979
    assert space.content["a"].at(top) == 0.979
    assert space.content["a"].at(0.0) == 0.855


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32), st.integers(0, 2**32))
@settings(deadline=None, max_examples=50)
def test_more_points_contain_fewer_and_a_seed_only_permutes(n: int, m: int, s: int, t: int) -> None:
    space = parse_search_space(MIXED, "space")
    few, many = sorted((n, m))
    assert set(_canonical(points(space, few, s))) <= set(_canonical(points(space, many, t)))
    assert _canonical(points(space, many, s)) == _canonical(points(space, many, t))


def test_seeds_differ_in_order() -> None:
    space = parse_search_space(MIXED, "space")
    assert points(space, 20, 0) != points(space, 20, 1)


def test_order_is_the_same_in_a_fresh_interpreter_and_ignores_the_global_seed() -> None:
    program = (
        "import json, sys, numpy, random\n"
        "numpy.random.seed(int(sys.argv[2])); random.seed(int(sys.argv[2]))\n"
        "from algoperf.search import parse_search_space, points\n"
        "print(json.dumps(points(parse_search_space(json.loads(sys.argv[1]), 's'), 20, 3)))\n"
    )
    outputs = {subprocess.check_output([sys.executable, "-c", program, json.dumps(MIXED), seed]) for seed in ("0", "1")}
    state = np.random.get_state()[1].tolist()
    here = points(parse_search_space(MIXED, "s"), 20, 3)
    assert np.random.get_state()[1].tolist() == state
    assert [json.loads(output) for output in outputs] == [here]


def test_hyperparameters_are_a_namedtuple_and_none_stays_none() -> None:
    point = {"learning_rate": 0.1, "grad_clip": None}
    hyperparameters = as_hyperparameters(point)
    assert type(hyperparameters).__name__ == "Hyperparameters"
    assert hyperparameters._asdict() == point
    assert hyperparameters.grad_clip is None
    assert not hasattr(hyperparameters, "label_smoothing")
    assert type(as_hyperparameters(point)) is type(hyperparameters)


BAD_NAMES = ["", "learning rate", "1st", "lambda", "_hidden", "a-b", "None"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_no_field(name: str) -> None:
    with pytest.raises(ValueError, match="Python identifier"):
        as_hyperparameters({name: 1})
    for data in ([{name: 1}], {name: {"feasible_points": [1]}}):
        with pytest.raises(ValueError, match="Python identifier"):
            parse_search_space(data, "space")


def _linear(low: Any, high: Any, scaling: Any = "linear") -> dict[str, Any]:
    return {"lr": {"min": low, "max": high, "scaling": scaling}}


MALFORMED: list[tuple[Any, str]] = [
    ("lr", "is a string; write an object or a list"),
    (3, "is a number"),
    (None, "is null"),
    ({}, "is empty"),
    ([], "is empty"),
    ([[]], "point 0 is a list"),
    ([{"a": 1}, 3], "point 1 is a number"),
    ([{}], "point 0 is empty"),
    ([{"a": 1, "b": 1}, {"a": 1, "c": 1}], "point 1 and point 0 differ in b, c;"),
    ([{"a": {"min": 1}}], "point 0: 'a' has a value that is an object"),
    ([{"a": math.nan}], "'a' has the value nan"),
    ([{"a": [1.0, math.inf]}], "'a' has the value inf"),
    ({"lr": 0.1}, "'lr' is a number"),
    ({"lr": [0.1]}, "'lr' is a list"),
    ({"lr": {}}, "lacks min and max and scaling"),
    ({"lr": {"max": 1, "scaling": "log"}}, "lacks min;"),
    ({"lr": {"min": 1, "scaling": "log"}}, "lacks max;"),
    ({"lr": {"min": 1, "max": 2}}, "lacks scaling;"),
    ({"lr": {"min": 1, "max": 2, "scaling": "log", "step": 1}}, "unknown key 'step'"),
    ({"lr": {"min": 1, "feasible_points": [1]}}, "unknown key 'min'"),
    (_linear(1, 1), "min 1.0 and the max 1.0; put min below max"),
    (_linear(2, 1), "put min below max"),
    (_linear("0", 1), "the min '0'; give a finite number"),
    (_linear(0, None), "the max None; give a finite number"),
    (_linear(False, True), "the min False"),
    (_linear(math.nan, 1), "the min nan"),
    (_linear(0, math.nan), "the max nan"),
    (_linear(0, math.inf), "the max inf"),
    (_linear(0, 10**400), "the max 10"),
    (_linear(-1.7e308, 1.7e308), "smaller range"),
    (_linear(1e-300, 1e300, "log"), "smaller range"),
    (_linear(0, 1, "cubic"), "the scaling 'cubic'; choose"),
    (_linear(0, 1, ["log"]), "choose 'linear' or 'log'"),
    (_linear(0, 1, "log"), "log scaling needs one above 0"),
    (_linear(-1, 1, "log"), "log scaling needs one above 0"),
    ({"lr": {"feasible_points": []}}, "has no feasible_points"),
    ({"lr": {"feasible_points": 3}}, "feasible_points that are a number"),
    ({"lr": {"feasible_points": {}}}, "feasible_points that are an object"),
    ({"lr": {"feasible_points": [1, 2, 1.0]}}, "feasible point 1.0 twice"),
    ({"lr": {"feasible_points": ["a", "a"]}}, "feasible point 'a' twice"),
    ({"lr": {"feasible_points": [math.nan]}}, "the value nan"),
    ({"lr": {"feasible_points": [{}]}}, "a value that is an object"),
    ({f"a{i}": {"feasible_points": [1]} for i in range(168)}, "at most 167"),
]


@pytest.mark.parametrize(("data", "message"), MALFORMED, ids=[m for _, m in MALFORMED])
def test_a_malformed_space_is_refused_with_one_sentence(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"my\.json") as caught:
        parse_search_space(data, "my.json")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_true_is_no_one() -> None:
    space = parse_search_space({"flag": {"feasible_points": [1, True, 0, False]}}, "space")
    assert {repr(point["flag"]) for point in points(space, 40, 0)} == {"1", "True", "0", "False"}


MALFORMED_TEXTS = [
    ("", "is not valid JSON"),
    ('{"lr": ', "is not valid JSON"),
    ("{'lr': 1}", "is not valid JSON"),
    ('{"lr": {"feasible_points": [1]}, "lr": {"feasible_points": [2]}}', "'lr' appears twice"),
    ('{"lr": {"min": 1, "min": 2, "max": 3, "scaling": "log"}}', "'min' appears twice"),
    ('[{"lr": 1, "lr": 2}]', "'lr' appears twice"),
    ('[{"lr": NaN}]', "NaN is no JSON number"),
    ('[{"lr": -Infinity}]', "-Infinity is no JSON number"),
    ('[{"lr": 1e999}]', "give a finite number"),
    ("{}", "is empty"),
]


@pytest.mark.parametrize(("text", "message"), MALFORMED_TEXTS)
def test_a_malformed_file_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "my.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"my\.json") as caught:
        SearchSpace.load(path)
    assert message in str(caught.value)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "space.json"
    with pytest.raises(ValueError, match="There is no search space at"):
        SearchSpace.load(path)
    path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(ValueError, match="is not valid JSON"):
        SearchSpace.load(path)
    path.write_text(json.dumps(MIXED))
    assert points(SearchSpace.load(path), 5, 0) == points(parse_search_space(MIXED, "m"), 5, 0)
