"""The conformance kit's guards, and the broken facts that it finds."""

import importlib.util
from dataclasses import replace
from types import SimpleNamespace

import pytest

from algoperf.spec import Framework, Scale
from algoperf.submission import is_written_for
from algoperf.testing import toy
from algoperf.testing.conformance import DataTests, SpecTests, SubmissionTests, WorkloadTests
from algoperf.testing.frameworks import require


def run(tests, test, *arguments, **attributes):
    """Runs one test of the kit on a subclass with these attributes."""
    case = type("Case", (tests,), {"workload_name": "toy", **attributes})()
    getattr(case, test)(*arguments)


# Guards.


def test_a_test_of_the_kit_is_not_replaced():
    with pytest.raises(TypeError, match="test_the_loss_has_three_entries replaces a test of the"):
        type("Case", (WorkloadTests,), {"test_the_loss_has_three_entries": lambda self: None})
    with pytest.raises(TypeError, match="replaces a test"):
        type("Case", (DataTests,), {"test_memory_does_not_grow": None})
    unexplained = pytest.mark.xfail(lambda self: None)
    with pytest.raises(TypeError, match="replaces a test"):
        type("Case", (DataTests,), {"test_memory_does_not_grow": unexplained})


def test_a_test_may_be_expected_to_fail_for_a_reason_and_others_added():
    @pytest.mark.xfail(reason="its cache grows for 300 batches")
    def expected(self):
        raise AssertionError

    case = type("Case", (DataTests,), {"test_memory_does_not_grow": expected, "test_of_its_own": lambda self: None})
    assert case.test_memory_does_not_grow is expected


@pytest.mark.parametrize(
    ("required", "outcome"),
    [("", pytest.skip.Exception), ("pytorch", pytest.skip.Exception), ("pytorch jax", pytest.fail.Exception)],
)
def test_a_missing_framework_skips_or_fails(monkeypatch, required, outcome):
    monkeypatch.setenv("ALGOPERF_REQUIRE", required)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jax" else object())
    with pytest.raises(outcome, match="jax"):
        require("jax")
    require(Framework.PYTORCH)


def test_no_submissions_are_an_error(monkeypatch):
    monkeypatch.setenv("ALGOPERF_SUBMISSIONS", "")
    case = type("Case", (SubmissionTests,), {"framework": Framework.JAX})()
    with pytest.raises(pytest.UsageError, match="Case has no submissions"):
        case.pytest_generate_tests(SimpleNamespace(fixturenames=["path"]))


def test_submissions_are_told_apart_by_what_they_import(tmp_path):
    def frameworks(code):
        (tmp_path / "submission.py").write_text(code)
        return [one for one in Framework if is_written_for(tmp_path, one)]

    assert frameworks("import torch.nn as nn\nimport numpy") == [Framework.PYTORCH]
    assert frameworks("def f():\n    from jax import numpy") == [Framework.JAX]
    assert frameworks("from . import jax_parts") == list(Framework)


# Specs.

SPECS = {
    "test_the_entry_point_is_named_after_the_spec": {"name": "doll"},
    "test_a_variants_base_exists": {"base": "toy", "implementations": {}},
    "test_mini_splits_are_large_enough": {},
}
SCALED_SPECS = {
    "test_counts_are_positive": {"step_hint": 0},
    "test_budgets_hold_evaluations": {"budgets": {}},
    "test_every_name_of_code_leads_somewhere": {"implementations": {Framework.JAX: "algoperf.testing.toy_jax:Toy"}},
    "test_every_implementation_names_its_output_layer": {"output_layer": {}},
}


@pytest.mark.parametrize("test", SPECS)
def test_a_broken_spec_is_found(test):
    with pytest.raises(AssertionError):
        run(SpecTests, test, replace(toy.TOY, **SPECS[test]))


@pytest.mark.parametrize("test", SCALED_SPECS)
def test_a_broken_spec_is_found_at_its_scale(test):
    run(SpecTests, test, toy.TOY, Scale.FULL)
    with pytest.raises(AssertionError):
        run(SpecTests, test, replace(toy.TOY, **SCALED_SPECS[test]), Scale.FULL)


def test_a_missing_scale_is_found():
    with pytest.raises(ValueError, match="toy has no mini scale"):
        run(SpecTests, "test_there_are_both_scales", replace(toy.TOY, mini=None), Scale.MINI)
    mini = replace(toy.TOY.at(Scale.MINI), name="doll")
    with pytest.raises(AssertionError):
        run(SpecTests, "test_there_are_both_scales", replace(toy.TOY, mini=mini), Scale.MINI)


def test_a_missing_module_is_found():
    spec = replace(toy.TOY, implementations={Framework.JAX: "algoperf.testing.no_such_file:Toy"})
    with pytest.raises(AssertionError):
        run(SpecTests, "test_every_name_of_code_leads_somewhere", spec, Scale.FULL)
