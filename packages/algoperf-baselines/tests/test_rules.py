"""Both frameworks take the steps of the papers, on a quadratic: schedules, decay and corrections included."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
from plain_rules import RULES, Plain
from quadratic import MATRICES, PARAMS, POINT, STEP_HINT, begin, numbers, train

from algoperf.spec import Framework
from algoperf.testing.compare import assert_close
from algoperf.testing.frameworks import BOTH
from algoperf_baselines import adafactor

# Of the norm of an array: some roundings of float32 (6e-8) in each of the steps.
RTOL = 1e-6
MIN_FACTORED = 4


@pytest.fixture(autouse=True)
def small_matrices_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adafactor, "MIN_FACTORED", MIN_FACTORED)


def plain(name: str) -> Plain:
    beta1 = 1 - POINT["one_minus_beta1"]
    h = SimpleNamespace(**POINT, beta1=beta1, step_hint=STEP_HINT, min_factored=MIN_FACTORED)
    return Plain(name, numbers(0), h, MATRICES)


@functools.cache
def trained(name: str, framework: Framework) -> dict[str, np.ndarray]:
    return train(begin(name, framework, numbers(0)))


@pytest.mark.parametrize("framework", BOTH)
@pytest.mark.parametrize("name", RULES)
def test_takes_the_steps_of_the_rule(name: str, framework: Framework) -> None:
    found, expected = trained(name, framework), train(plain(name))
    for key in PARAMS:
        assert_close(found[key], expected[key], key, RTOL)


@pytest.mark.parametrize("name", RULES)
def test_both_frameworks_take_the_same_steps(name: str) -> None:
    jax, pytorch = (trained(name, framework) for framework in (Framework.JAX, Framework.PYTORCH))
    for key in PARAMS:
        assert_close(pytorch[key], jax[key], key, RTOL)


@pytest.mark.parametrize("framework", BOTH)
def test_the_average_is_evaluated(framework: Framework) -> None:
    rule = plain("schedule_free_adamw")
    algorithm = begin("schedule_free_adamw", framework, numbers(0))
    train(rule), train(algorithm)
    for key, found in algorithm.average.items():
        assert_close(np.atleast_1d(found), np.atleast_1d(rule.kept[key]["x"]), key, RTOL)


@pytest.mark.parametrize("framework", BOTH)
@pytest.mark.parametrize("name", RULES)
def test_arrays_without_gradients_stay_if_they_do_not_decay(name: str, framework: Framework) -> None:
    # Also arrays of zeros: rules divide by norms.
    params = {key: x * (i % 2) for i, (key, x) in enumerate(numbers(0).items())}
    algorithm = begin(name, framework, params, weight_decay=0.0)
    for _ in range(2):
        algorithm.step({key: np.zeros_like(x) for key, x in params.items()})
    for key, found in algorithm.params.items():
        np.testing.assert_allclose(found, params[key], rtol=1e-6)
