"""What is installed, found by name."""

import json
import subprocess
import sys
from dataclasses import replace
from types import ModuleType

import pytest

from algoperf import registry
from algoperf.spec import Framework, Scale, SubmissionSpec
from algoperf.testing.frameworks import BOTH
from algoperf.testing.toy import TOY

MODULES = {Framework.JAX: "jax", Framework.PYTORCH: "torch"}


def test_an_unknown_workload_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match="no workload 'ogbgg'") as caught:
        registry.workload_spec("ogbgg")
    assert all(name in str(caught.value) for name in registry.workload_names())
    assert "uv pip install" in str(caught.value)


def test_an_unknown_submission_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match="no submission 'sgdd'") as caught:
        registry.submission_spec("sgdd")
    assert all(name in str(caught.value) for name in registry.submission_names())
    assert "path" in str(caught.value)


def test_the_toy_is_found_but_not_listed():
    assert registry.workload_spec("toy") == TOY
    assert "toy" not in registry.workload_names()


LIST = """
import json, sys
from algoperf import registry
for name in [*registry.workload_names(), "toy"]:
    assert registry.workload_spec(name).name == name
for name in registry.submission_names():
    assert registry.submission_spec(name).name == name
print(json.dumps(sorted({"jax", "jaxlib", "torch", "grain", "tensorflow"} & set(sys.modules))))
"""


def test_listing_imports_no_framework():
    process = subprocess.run([sys.executable, "-c", LIST], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == []


@pytest.mark.parametrize("framework", BOTH)
def test_a_workload_without_its_framework_names_the_command(monkeypatch, framework):
    monkeypatch.setitem(sys.modules, MODULES[framework], None)
    for name in ("algoperf.backends.jax", "algoperf.backends.pytorch"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError) as caught:
        registry.make_workload(TOY, framework)
    assert f"uv pip install 'algoperf-core[{framework.value}]'" in str(caught.value)
    assert caught.value.name == MODULES[framework]


def test_a_workload_without_a_library_names_its_packages_command(monkeypatch, framework):
    def import_flux(*arguments):
        raise ModuleNotFoundError("No module named 'flux'", name="flux")

    package, module = ModuleType("algoperf_mywork"), ModuleType("algoperf_mywork.model")
    module.Model = import_flux
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = replace(TOY, name="mywork", implementations={framework: "algoperf_mywork.model:Model"})
    with pytest.raises(ImportError, match=f"mywork in {framework.value} needs flux") as caught:
        registry.make_workload(spec, framework)
    assert f"uv pip install 'algoperf-workload-mywork[{framework.value}]'" in str(caught.value)


@pytest.mark.parametrize("framework", BOTH)
def test_a_workload_that_is_not_written_for_a_framework(framework):
    with pytest.raises(ValueError, match=f"toy has no implementation in {framework.value}"):
        registry.make_workload(replace(TOY, implementations={}), framework)


def test_a_workload_is_made_at_the_scale_and_under_the_rules_that_were_asked_for(framework):
    budgets = TOY.budgets | {"v0.6": replace(TOY.budget("v0.6"), max_runtime_s=30.0)}
    spec = replace(TOY.at(Scale.MINI), budgets=budgets)
    workload = registry.make_workload(spec, framework, rules="v0.6")
    assert workload.spec is spec
    assert workload.framework is framework
    assert workload.max_allowed_runtime_sec == 30.0


def test_a_submissions_search_space_is_beside_it(tmp_path, monkeypatch):
    package = tmp_path / "installed_with_a_space"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    spec = SubmissionSpec(name="sgd", summary="", package="installed_with_a_space")
    assert registry.search_space_path(spec) is None
    (package / "tuning_search_space.json").write_text("[]")
    assert registry.search_space_path(spec) == package / "tuning_search_space.json"
