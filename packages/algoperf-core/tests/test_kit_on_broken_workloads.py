"""The conformance kit finds broken workloads, one defect after the other."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType

import numpy as np
import pytest

from algoperf.data import Batches
from algoperf.spec import ForwardPassMode, Framework, Split
from algoperf.testing import toy
from algoperf.testing.bench import Bench
from algoperf.testing.conformance import ParityTests, WorkloadTests
from algoperf.testing.frameworks import require
from algoperf.testing.parity_tests import Twins
from algoperf.testing.toy_data import ToyDataset

GOLDEN = Path(__file__).parent / "golden" / "toy"


def run(test, bench, **attributes):
    """Runs one test of the kit."""
    case = type("Case", (WorkloadTests,), {"workload_name": "toy", **attributes})()
    getattr(case, test)(bench)


@pytest.fixture
def broken_bench(monkeypatch):
    """The toy with some methods wrapped: a wrapper is called with what it wraps, and then as that would be."""

    def make(framework, methods):
        require(framework)
        base = resolve_name(toy.TOY.implementations[framework])
        wrapped = {name: _wrap(getattr(base, name), wrapper) for name, wrapper in methods.items()}
        module = ModuleType("broken_toys")
        module.Broken = type("Broken", (base,), wrapped)
        monkeypatch.setitem(sys.modules, "broken_toys", module)
        return Bench("toy", framework, None, {"implementations": {framework: "broken_toys:Broken"}})

    return make


def _wrap(original, wrapper):
    return lambda *arguments, **named: wrapper(original, *arguments, **named)


# Defects.


def dropout_in_evaluation(model_fn, self, params, batch, state, mode, *rest):
    return model_fn(self, params, batch, state, ForwardPassMode.TRAIN, *rest)


def dropout_ignored(model_fn, self, *arguments):
    return model_fn(self, *arguments[:6], 0.1)


def own_randomness(model_fn, self, *arguments):
    logits, state = model_fn(self, *arguments)
    return logits + float(np.random.default_rng().random()), state


def reversed_gradient(model_fn, self, *arguments, **named):
    logits, state = model_fn(self, *arguments, **named)
    return 2 * logits.detach() - logits, state


def padding_counts(eval_step, self, params, model_state, batch, rng):
    sums = eval_step(self, params, model_state, {**batch, "weights": batch["weights"] * 0 + 1}, rng)
    return {**sums, "examples": batch["weights"].sum()}


def moves_parameters(eval_step, self, params, *arguments):
    params.output.weight.data *= 1.1
    return eval_step(self, params, *arguments)


def mask_is_only_counted(loss_fn, self, labels, logits, mask=None, *smoothing, **unused):
    whole = loss_fn(self, labels, logits)
    return whole if mask is None else {**whole, "n_valid_examples": mask.sum()}


def no_mask_is_nothing(loss_fn, self, labels, logits, mask=None, *smoothing, **unused):
    return loss_fn(self, labels, logits, logits[:, 0] * 0 if mask is None else mask)


def strict_loss(loss_fn, self, label_batch, logits_batch, mask_batch=None, label_smoothing=0.0):
    return loss_fn(self, label_batch, logits_batch, mask_batch)


DEFECTS = {
    "test_hash_and_equality_are_by_identity": {"__hash__": lambda original, self: 1},
    "test_evaluation_mode_has_no_randomness": {"model_fn": dropout_in_evaluation},
    "test_the_dropout_rate_is_used": {"model_fn": dropout_ignored},
    "test_training_mode_depends_on_its_key_alone": {"model_fn": own_randomness},
    "test_a_gradient_step_lowers_the_loss": {"model_fn": reversed_gradient},
    "test_padding_does_not_change_metrics": {"eval_step": padding_counts},
    "test_evaluating_twice_gives_the_same": {"eval_step": moves_parameters},
    "test_the_loss_ignores_masked_examples": {"loss_fn": mask_is_only_counted},
    "test_no_mask_means_that_everything_counts": {"loss_fn": no_mask_is_nothing},
}


@pytest.mark.parametrize("test", DEFECTS)
def test_a_broken_workload_is_found(broken_bench, test):
    bench = broken_bench(Framework.PYTORCH, DEFECTS[test])
    with pytest.raises(AssertionError):
        run(test, bench, framework=Framework.PYTORCH)


def test_a_loss_that_refuses_arguments_is_found(broken_bench):
    bench = broken_bench(Framework.PYTORCH, {"loss_fn": strict_loss})
    with pytest.raises(TypeError, match="an_argument_of_another_workload"):
        run("test_the_loss_has_three_entries", bench, framework=Framework.PYTORCH)


@pytest.mark.parametrize("layer", ["hidden", "output.weight", "decoder"])
def test_a_wrong_output_layer_is_found(layer):
    require(Framework.PYTORCH)
    bench = Bench("toy", Framework.PYTORCH, None, {"output_layer": {Framework.PYTORCH: layer}})
    with pytest.raises(AssertionError):
        run("test_output_parameters_are_those_of_the_last_layer", bench, framework=Framework.PYTORCH)


def test_a_missing_target_metric_is_found():
    require(Framework.PYTORCH)
    bench = Bench("toy", Framework.PYTORCH, None, {"target": replace(toy.TOY.target, metric="bleu")})
    with pytest.raises(AssertionError, match="validation/bleu"):
        run("test_metrics_are_finite_and_hold_the_target", bench, framework=Framework.PYTORCH)


@pytest.mark.parametrize("change", [{"name": "last.bias"}, {"shape": [5]}, {"type": "WEIGHT"}])
def test_a_changed_parameter_is_found(tmp_path, change):
    require(Framework.PYTORCH)
    golden = json.loads((GOLDEN / "parameters_pytorch.json").read_text())
    golden[-1] |= change
    path = tmp_path / "golden.json"
    path.write_text(json.dumps(golden))
    bench = Bench("toy", Framework.PYTORCH, None, {})
    with pytest.raises(AssertionError):
        run("test_parameters_are_the_recorded_ones", bench, framework=Framework.PYTORCH, golden_parameters=path)


def test_trees_of_other_parameters_are_found():
    require(Framework.PYTORCH)
    bench = Bench("toy", Framework.PYTORCH, None, {})
    bench.state = Bench("toy", Framework.PYTORCH, None, {"model": toy.Mlp(width=3)}).state
    with pytest.raises(AssertionError):
        run("test_trees_of_shapes_and_types_match_the_parameters", bench, framework=Framework.PYTORCH)


def test_an_import_of_the_other_framework_is_found(monkeypatch):
    require(Framework.PYTORCH)
    monkeypatch.setattr("algoperf.testing.workload_tests.modules_after", lambda *arguments: {"torch", "jaxlib"})
    case = type("Case", (WorkloadTests,), {"workload_name": "toy", "framework": Framework.PYTORCH})()
    with pytest.raises(AssertionError):
        case.test_imports_its_own_framework_only(None)


# JAX: the loss that is traced, and what only JAX can do wrong.


def test_a_loss_that_ignores_the_mask_is_found_in_jax(broken_bench):
    bench = broken_bench(Framework.JAX, {"loss_fn": mask_is_only_counted})
    with pytest.raises(AssertionError):
        run("test_the_loss_ignores_masked_examples", bench, framework=Framework.JAX)


def test_a_dropout_rate_that_cannot_be_traced_is_found(broken_bench):
    def decide(model_fn, self, *arguments):
        return model_fn(self, *arguments[:6], arguments[6] if arguments[6] else 0.1)

    bench = broken_bench(Framework.JAX, {"model_fn": decide})
    with pytest.raises(Exception, match="traced array"):
        run("test_the_dropout_rate_is_used", bench, framework=Framework.JAX)


def test_a_second_compilation_is_found(monkeypatch):
    require(Framework.JAX)
    points = toy.points(toy.TOY, Split.TRAIN, np.arange(16))

    def read(position):
        return {name: array[: 8 + 8 * (position % 2)] for name, array in points.items()}, position + 1

    monkeypatch.setattr(ToyDataset, "train", lambda *arguments: Batches(read))
    with pytest.raises(AssertionError):
        run("test_only_the_first_step_compiles", Bench("toy", Framework.JAX, None, {}), framework=Framework.JAX)


# Parity.


def leaky(model_fn, self, params, batch, *rest, **named):
    """As a model with another activation would."""
    logits, state = model_fn(self, params, batch, *rest, **named)
    opposite, _ = model_fn(self, params, {**batch, "inputs": -batch["inputs"]}, *rest, **named)
    return logits + 0.1 * opposite, state


def test_frameworks_that_differ_are_found(broken_bench):
    require(Framework.JAX)

    def to_torch(model, params):
        layers = ("hidden", "output")
        weights = {f"{layer}.weight": params[f"{layer}/kernel"].T for layer in layers}
        return weights | {f"{layer}.bias": params[f"{layer}/bias"] for layer in layers}

    twins = Twins(Bench("toy", Framework.JAX, None, {}), broken_bench(Framework.PYTORCH, {"model_fn": leaky}), to_torch)
    case = type("Case", (ParityTests,), {"workload_name": "toy"})()
    with pytest.raises(AssertionError, match="logits differ"):
        case.test_logits_agree(twins, ForwardPassMode.EVAL)
    with pytest.raises(AssertionError):
        case.test_losses_and_gradients_agree(twins)
    with pytest.raises(AssertionError):
        case.test_metrics_agree(twins)
