"""What every workload has to satisfy in each framework."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from algoperf import registry
from algoperf.spec import ForwardPassMode, Framework, ParameterType, Split
from algoperf.testing.bench import NUM_BATCHES, Bench, evaluate
from algoperf.testing.compare import assert_close, assert_same, main_array, with_main_array
from algoperf.testing.drivers import Arrays
from algoperf.testing.frameworks import require
from algoperf.testing.fresh import evaluate as evaluate_afresh
from algoperf.testing.fresh import modules_after
from algoperf.testing.standard import StandardTests

TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL
FOREIGN = {
    Framework.JAX: {"torch", "tensorflow"},
    Framework.PYTORCH: {"jax", "jaxlib", "flax", "tensorflow"},
}
# Sums over batches of another size are taken in another order.
METRIC_RTOL = 1e-4
# float32, where the same sums are taken by another program.
ROUNDING = 1e-5


class WorkloadTests(StandardTests):
    """A workload in one framework, at mini scale on the data in the fixture `data_dir`.

    Attributes:
        workload_name: name of the workload.
        framework: in which framework.
        golden_parameters: JSON list of `name`, `shape` and `type` of each parameter at full scale.
        spec_changes: fields of the mini spec that are different here. A smaller `num_eval_train_examples` and
            `eval_batch_size` save time: most tests that evaluate do it on that split.
    """

    workload_name: str
    framework: Framework
    golden_parameters: Path | None = None
    spec_changes: ClassVar[Mapping[str, Any]] = {}

    @staticmethod
    def num_valid(labels: Any, mask: np.ndarray) -> float:
        """What `n_valid_examples` should be; another sum where a loss does not count what the mask is about."""
        return float(mask.sum())

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls, data_dir: Path | None) -> Bench:
        """The workload; one for all tests of a class."""
        require(cls.framework)
        return Bench(cls.workload_name, cls.framework, data_dir, cls.spec_changes)

    # What it is.

    def test_imports_its_own_framework_only(self, data_dir: Path | None) -> None:
        """Something imports the other framework: a model's file, a library in it, or what finds the data."""
        require(self.framework)
        arguments = (self.workload_name, self.framework.value, str(data_dir or ""))
        assert not modules_after(evaluate_afresh, *arguments) & FOREIGN[self.framework]

    def test_hash_and_equality_are_by_identity(self, bench: Bench) -> None:
        """The class defines `__eq__` or `__hash__`; `jax.jit`, which takes it as static, would mix workloads up."""
        other = bench.make()
        assert bench.workload == bench.workload
        assert bench.workload != other
        assert hash(bench.workload) == object.__hash__(bench.workload)

    def test_parameters_are_the_recorded_ones(self, bench: Bench) -> None:
        """At full scale a name, shape or type has changed; checkpoints and tuned submissions may depend on it."""
        spec = replace(registry.workload_spec(self.workload_name), implementations=bench.spec.implementations)
        parameters = registry.make_workload(spec, self.framework).parameters()
        found = {one["name"]: (one["shape"], one["type"]) for one in parameters}
        assert len(found) == len(parameters)
        if self.golden_parameters is not None:
            golden = json.loads(self.golden_parameters.read_text())
            assert found == {one["name"]: (one["shape"], one["type"]) for one in golden}

    def test_trees_of_shapes_and_types_match_the_parameters(self, bench: Bench) -> None:
        """`param_shapes`, `model_params_types` or `parameters()` say other than what `init_model_fn` makes."""
        workload, leaves = bench.workload, bench.driver.named_leaves
        arrays = bench.driver.arrays(bench.state[0])
        described = {one["name"]: one for one in workload.parameters()}
        shapes = {name: shape.shape_tuple for name, shape in leaves(workload.param_shapes).items()}
        types = {name: type_.name for name, type_ in leaves(workload.model_params_types).items()}
        assert shapes == {name: array.shape for name, array in arrays.items()}
        assert types == {name: one["type"] for name, one in described.items()}
        assert shapes == {name: tuple(one["shape"]) for name, one in described.items()}
        assert {name: one["dtype"] for name, one in described.items()} == {
            name: array.dtype.name for name, array in arrays.items()
        }

    def test_output_parameters_are_those_of_the_last_layer(self, bench: Bench) -> None:
        """`spec.output_layer` is not the last layer, or not all of it: negating it does not negate the logits.

        An embedding that is also the last layer changes what comes between, too; without it there are no logits.
        """
        driver, workload = bench.driver, bench.workload
        params, model_state = bench.moved_state
        arrays = driver.arrays(params)
        is_output = {name: workload.is_output_params(name) for name in arrays}
        assert any(is_output.values())
        types = driver.named_leaves(workload.model_params_types)
        is_tied = any(is_output[name] and types[name] is ParameterType.EMBEDDING for name in arrays)
        factor = 0 if is_tied else -1
        scaled = driver.with_arrays(params, {n: factor * a if is_output[n] else a for n, a in arrays.items()})
        logits = driver.logits((params, model_state), bench.batches[0], EVAL, np.zeros(2, np.uint32))
        changed = driver.logits((scaled, model_state), bench.batches[0], EVAL, np.zeros(2, np.uint32))
        assert_close(main_array(changed), factor * main_array(logits), "logits", ROUNDING)

    # The forward pass.

    def test_evaluation_mode_has_no_randomness(self, bench: Bench) -> None:
        """Dropout, or another use of the random key, is active in EVAL mode."""
        rate = _noticeable_rate(bench)
        bench.logits(TRAIN, 0, rate)
        assert_same(bench.logits(EVAL, 1, rate), bench.logits(EVAL, 2, rate))

    def test_training_mode_depends_on_its_key_alone(self, bench: Bench) -> None:
        """Randomness comes from elsewhere than the step's key, so that no run can be repeated."""
        rate = _noticeable_rate(bench)
        assert_same(bench.logits(TRAIN, 1, rate), bench.logits(TRAIN, 1, rate))

    def test_the_dropout_rate_is_used(self, bench: Bench) -> None:
        """`dropout_rate` is ignored, cannot be traced in JAX, or None does not mean the workload's own rate."""
        rate = bench.spec.dropout_rate
        # Not equal to the last bit: a traced rate is not folded into the program, as the workload's own is.
        assert_close(bench.logits(TRAIN, 1, rate), bench.logits(TRAIN, 1), "logits", ROUNDING)
        if rate is not None:
            assert (main_array(bench.logits(TRAIN, 1, 0.5)) != main_array(bench.logits(TRAIN, 2, 0.5))).any()
            assert_same(bench.logits(TRAIN, 1, 0.0), bench.logits(TRAIN, 2, 0.0))

    # The loss.

    def test_the_loss_has_three_entries(self, bench: Bench) -> None:
        """An entry is missing, no scalar or no sum, or arguments that other workloads take are refused."""
        labels, logits, mask = _loss_arguments(bench)
        loss = _loss(bench, labels, logits, mask, an_argument_of_another_workload=1)
        assert set(loss) >= {"summed", "n_valid_examples", "per_example"}
        assert loss["summed"].shape == loss["n_valid_examples"].shape == ()
        np.testing.assert_allclose(loss["summed"], loss["per_example"].sum(), rtol=1e-5)
        np.testing.assert_allclose(loss["n_valid_examples"], self.num_valid(labels, mask), rtol=1e-6)

    def test_the_loss_ignores_masked_examples(self, bench: Bench) -> None:
        """Labels or logits of an example whose mask is 0 change the loss: the mask comes too early, or not at all."""
        labels, logits, mask = _loss_arguments(bench)
        rng = np.random.default_rng(1)
        other_labels = _where_masked(mask, labels, lambda array: np.roll(array, 1, axis=0))
        other_logits = _where_masked(mask, logits, lambda array: array + rng.normal(scale=3, size=array.shape))
        expected, found = _loss(bench, labels, logits, mask), _loss(bench, other_labels, other_logits, mask)
        for name in ("summed", "n_valid_examples", "per_example"):
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
        unmasked = _loss(bench, labels, logits, np.ones_like(mask))
        np.testing.assert_allclose(expected["per_example"], unmasked["per_example"] * mask, rtol=1e-6)

    def test_no_mask_means_that_everything_counts(self, bench: Bench) -> None:
        """`mask_batch=None` is not the same as a mask of ones."""
        labels, logits, mask = _loss_arguments(bench)
        expected, found = _loss(bench, labels, logits, np.ones_like(mask)), _loss(bench, labels, logits, None)
        for name in ("summed", "n_valid_examples", "per_example"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, err_msg=name)

    # Training.

    def test_a_gradient_step_lowers_the_loss(self, bench: Bench) -> None:
        """A step that should win a hundredth of the loss does not win a tenth of that: the gradient is wrong."""
        driver, batch, rng = bench.driver, bench.batches[0], np.zeros(2, np.uint32)
        params, model_state = bench.state
        loss, gradients = driver.loss_and_gradients((params, model_state), batch, rng)
        expected = 0.01 * loss
        rate = expected / sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients.values())
        moved = {name: (p - rate * gradients[name]).astype(p.dtype) for name, p in driver.arrays(params).items()}
        after, _ = driver.loss_and_gradients((driver.with_arrays(params, moved), model_state), batch, rng)
        assert after < loss - 0.1 * expected

    def test_only_the_first_step_compiles(self, bench: Bench) -> None:
        """Batches differ in shape or type, or a step's result has another type or place than what it was given."""
        driver, compilations = bench.driver, []
        steps = driver.train(bench.state, bench.batches, np.zeros(2, np.uint32))
        for _ in range(NUM_BATCHES):
            with driver.compilations() as compiled:
                next(steps)
            compilations.append(compiled)
        assert compilations[1:] == [[]] * (NUM_BATCHES - 1)

    # Evaluation.

    def test_metrics_are_finite_and_hold_the_target(self, bench: Bench) -> None:
        """A metric is no finite number, or the one that the target names is missing, so no trial could ever end."""
        metric = bench.spec.target.metric
        splits = ["validation"] + ([] if bench.spec.target.test is None else ["test"])
        assert {"train/loss", "validation/loss", *(f"{split}/{metric}" for split in splits)} <= set(bench.metrics)
        assert all(isinstance(value, (int, float)) for value in bench.metrics.values())
        assert [name for name, value in bench.metrics.items() if not math.isfinite(value)] == []

    def test_evaluating_twice_gives_the_same(self, bench: Bench) -> None:
        """The evaluation leaves something behind (a mode, statistics, a position), or compiles each time."""
        expected = bench.metrics
        with bench.driver.compilations() as compiled:
            again = evaluate(bench.workload, bench.state, [Split.EVAL_TRAIN])
        assert again == {name: expected[name] for name in again}
        assert compiled == []

    def test_padding_does_not_change_metrics(self, bench: Bench) -> None:
        """With another batch size, hence other padding, metrics differ: padding counts, or some examples do not."""
        num_shards = bench.workload.backend.shards.total
        size = max(1, bench.spec.eval_batch_size * 5 // (8 * num_shards)) * num_shards
        assert size != bench.spec.eval_batch_size
        other = bench.make(eval_batch_size=size)
        metrics = evaluate(other, bench.state, [Split.EVAL_TRAIN])
        assert metrics == pytest.approx({name: bench.metrics[name] for name in metrics}, rel=METRIC_RTOL)


def _noticeable_rate(bench: Bench) -> float | None:
    """A rate of dropout that changes logits, where there is dropout; that of the mini scale may be 0."""
    return None if bench.spec.dropout_rate is None else 0.5


def _loss_arguments(bench: Bench) -> tuple[Any, Any, np.ndarray]:
    """Labels, logits and a mask that leaves out half of what counts, as numpy."""
    batch: Arrays = {name: bench.batches[0][name] for name in ("targets", "weights") if name in bench.batches[0]}
    arrays = bench.workload.backend.to_host(batch)
    labels, logits = arrays["targets"], bench.logits(EVAL, 0)
    weights = arrays.get("weights")
    if weights is None:
        weights = np.ones_like(_loss(bench, labels, logits, None)["per_example"])
    half = np.random.default_rng(0).random(weights.shape) < 0.5
    return labels, logits, weights * half


def _loss(bench: Bench, labels: Any, logits: Any, mask: np.ndarray | None, **extra: Any) -> Arrays:
    backend = bench.workload.backend
    place = backend.place_batch
    mask_batch = None if mask is None else place(mask)
    loss: Arrays = backend.to_host(bench.workload.loss_fn(place(labels), place(logits), mask_batch, **extra))
    return loss


def _where_masked(mask: np.ndarray, tree: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Labels or logits, changed where the mask is 0."""
    array = main_array(tree)
    # The mask broadcasts over the axes that only the array has.
    is_kept = mask.reshape(mask.shape + (1,) * (array.ndim - mask.ndim)) > 0
    return with_main_array(tree, np.where(is_kept, array, change(array)).astype(array.dtype))
