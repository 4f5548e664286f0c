"""What the facts of every workload have to satisfy."""

import ast
import importlib.util
import json
from collections.abc import Iterator

import pytest

from algoperf import registry
from algoperf.record_files import to_json
from algoperf.spec import DEFAULT_RULES, Framework, Scale, Split, WorkloadSpec
from algoperf.testing.fresh import modules_after, read_spec
from algoperf.testing.standard import StandardTests

HEAVY = {"jax", "jaxlib", "flax", "torch", "tensorflow", "grain"}
SCALES = pytest.mark.parametrize("scale", Scale, ids=str)


class SpecTests(StandardTests):
    """The facts of a workload, at both scales. Needs no framework and no data.

    Attributes:
        workload_name: name of the entry point.
        min_mini_examples: validation and test examples that metrics at mini scale need to be of any use.
        mini_metric: what the mini target is in terms of, where that is not the full one's metric.
    """

    workload_name: str
    min_mini_examples: int = 600
    mini_metric: str | None = None

    @pytest.fixture
    def spec(self) -> WorkloadSpec:
        """The facts at full scale."""
        return registry.workload_spec(self.workload_name)

    def test_reading_the_facts_imports_no_framework(self) -> None:
        """The spec's module, or one that it imports, imports a framework or grain at its top; move that import."""
        assert not modules_after(read_spec, self.workload_name) & HEAVY

    def test_the_entry_point_is_named_after_the_spec(self, spec: WorkloadSpec) -> None:
        """The entry point in `pyproject.toml` and `spec.name` differ, so records would name another workload."""
        assert spec.name == self.workload_name

    @SCALES
    def test_there_are_both_scales(self, spec: WorkloadSpec, scale: Scale) -> None:
        """A scale is missing, or the mini spec has another name, base or target metric than the full one."""
        scaled = spec.at(scale)
        assert scaled.scale is scale
        assert (scaled.name, scaled.base) == (spec.name, spec.base)
        assert scaled.target.goal == spec.target.goal
        metric = self.mini_metric if scale is Scale.MINI and self.mini_metric else spec.target.metric
        assert scaled.target.metric == metric

    @SCALES
    def test_budgets_hold_evaluations(self, spec: WorkloadSpec, scale: Scale) -> None:
        """Under some rules version a trial would end before its second evaluation, or the default has no budget."""
        budgets = spec.at(scale).budgets
        assert DEFAULT_RULES in budgets
        assert all(0 < budget.eval_period_s < budget.max_runtime_s for budget in budgets.values())

    def test_a_variants_base_exists(self, spec: WorkloadSpec) -> None:
        """`base` names no installed workload, or a variant; a submission is asked for its batch size by that name."""
        base = registry.workload_spec(spec.base_name)
        assert base.base is None
        assert spec.name.startswith(base.name)
        assert spec.implementations == base.implementations

    @SCALES
    def test_counts_are_positive(self, spec: WorkloadSpec, scale: Scale) -> None:
        """A number of examples, of steps or a batch size is zero, negative or no integer; a target lacks its split."""
        scaled = spec.at(scale)
        splits = [split for split in Split if split is not Split.TEST or scaled.target.test is not None]
        assert (scaled.num_test_examples == 0) == (Split.TEST not in splits)
        counts = [scaled.num_examples(split) for split in splits]
        counts += [scaled.eval_batch_size, scaled.step_hint]
        counts += [] if scaled.batch_size is None else [scaled.batch_size]
        assert all(isinstance(count, int) and count > 0 for count in counts), counts
        assert scaled.num_eval_train_examples <= scaled.num_train_examples

    def test_mini_splits_are_large_enough(self, spec: WorkloadSpec) -> None:
        """A mini split is so small that reaching the target is a matter of luck; take more examples."""
        mini = spec.at(Scale.MINI)
        sizes = [mini.num_validation_examples] + ([] if mini.target.test is None else [mini.num_test_examples])
        assert min(sizes) >= self.min_mini_examples

    @SCALES
    def test_every_name_of_code_leads_somewhere(self, spec: WorkloadSpec, scale: Scale) -> None:
        """A "package.module:name" in the spec is misspelt; it would fail only when a trial starts."""
        assert not [path for path in _paths(spec.at(scale)) if not _is_defined(path)]

    @SCALES
    def test_every_implementation_names_its_output_layer(self, spec: WorkloadSpec, scale: Scale) -> None:
        """A framework is unknown, or `output_layer` lacks one that `implementations` has."""
        scaled = spec.at(scale)
        assert set(scaled.implementations) <= set(Framework)
        assert set(scaled.implementations) == set(scaled.output_layer)

    @SCALES
    def test_the_facts_can_be_recorded(self, spec: WorkloadSpec, scale: Scale) -> None:
        """A fact is no plain data (a function, an object), so that a trial's records cannot hold it."""
        facts = json.loads(to_json(spec.at(scale).facts()))
        assert facts["name"] == spec.name
        assert facts["scale"] == scale


def _paths(spec: WorkloadSpec) -> Iterator[str]:
    yield from spec.implementations.values()
    yield spec.dataset.open
    yield spec.dataset.finalize
    yield from spec.dataset.on_device.values()
    if spec.dataset.name:
        yield spec.dataset.prepare


def _is_defined(path: str) -> bool:
    """Whether a module defines a name, without importing it: its framework may not be installed."""
    module_name, _, name = path.partition(":")
    module = importlib.util.find_spec(module_name)
    if module is None or module.origin is None:
        return False
    with open(module.origin, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    definitions = (ast.FunctionDef, ast.ClassDef)
    return any(isinstance(node, definitions) and node.name == name for node in tree.body)
