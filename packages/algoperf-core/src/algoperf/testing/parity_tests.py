"""Both frameworks compute the same function."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from algoperf.data import Shards
from algoperf.spec import ForwardPassMode, Framework, Split
from algoperf.testing.bench import Bench, noisy
from algoperf.testing.compare import assert_close
from algoperf.testing.data_tests import take
from algoperf.testing.frameworks import require
from algoperf.testing.standard import StandardTests

# Sums of float32 in another order.
RTOL = 1e-4
# Of the norm of all gradients: some are zero but for rounding, as those of attention's key biases.
FLOOR = 1e-7


class Twins:
    """A workload in both frameworks with the same weights, and one batch for both.

    Args:
        jax: the workload in JAX.
        pytorch: the workload in PyTorch.
        to_torch: see `ParityTests.to_torch`.
    """

    def __init__(self, jax: Bench, pytorch: Bench, to_torch: Callable[..., Mapping[str, np.ndarray]]) -> None:
        assert jax.spec.batch_size is not None
        self.benches = (jax, pytorch)
        self._to_torch = to_torch
        arrays = noisy(jax.driver.arrays(jax.state[0]))
        self.states = (
            (jax.driver.with_arrays(jax.state[0], arrays), jax.state[1]),
            (pytorch.driver.with_arrays(pytorch.state[0], self.in_torch(arrays)), pytorch.state[1]),
        )
        batch = take(jax.workload.dataset.train(jax.spec.batch_size, Shards(), seed=0), 1)[0]
        self.batches = tuple(bench.workload.place_batch(batch) for bench in self.benches)

    def in_torch(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """JAX's parameters by PyTorch's names."""
        return self._to_torch(self.benches[0].spec.model, arrays)


class ParityTests(StandardTests):
    """A workload in JAX and in PyTorch, at mini scale on the data in the fixture `data_dir`. Needs both frameworks.

    Attributes:
        workload_name: name of the workload.
        to_torch: `(spec.model, parameters in JAX by path) -> parameters in PyTorch by name`, from `weights.py`.
        gradients_to_torch: the same for gradients, where those are not what `to_torch` makes of them.
        spec_changes: as in `WorkloadTests`.
        gradient_tolerance: largest difference of a gradient, relative to its norm. More than the default only where
            kinks of an activation amplify rounding; say so.
    """

    workload_name: str
    gradient_tolerance: ClassVar[float] = RTOL
    to_torch: Callable[[Any, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
    gradients_to_torch: Callable[[Any, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] | None = None
    spec_changes: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def twins(cls, data_dir: Path | None) -> Twins:
        """The workload twice, with the same weights; one pair for all tests of a class."""
        for framework in Framework:
            require(framework)
        frameworks = (Framework.JAX, Framework.PYTORCH)
        jax, pytorch = (Bench(cls.workload_name, one, data_dir, cls.spec_changes) for one in frameworks)
        return Twins(jax, pytorch, cls.to_torch)

    @pytest.mark.parametrize("mode", ForwardPassMode, ids=lambda mode: mode.name)
    def test_logits_agree(self, twins: Twins, mode: ForwardPassMode) -> None:
        """The models differ: an epsilon, an activation, an order of concatenation, a transposed weight."""
        jax, pytorch = (
            bench.driver.logits(state, batch, mode, np.zeros(2, np.uint32), 0.0)
            for bench, state, batch in zip(twins.benches, twins.states, twins.batches, strict=True)
        )
        assert_close(pytorch, jax, "logits", RTOL)

    def test_losses_and_gradients_agree(self, twins: Twins) -> None:
        """Where logits agree, the losses differ, or something stops or changes gradients in one framework."""
        (jax_loss, jax_gradients), (loss, gradients) = (
            bench.driver.loss_and_gradients(state, batch, np.zeros(2, np.uint32))
            for bench, state, batch in zip(twins.benches, twins.states, twins.batches, strict=True)
        )
        assert loss == pytest.approx(jax_loss, rel=RTOL)
        in_torch = self.gradients_to_torch or self.to_torch
        expected = in_torch(twins.benches[0].spec.model, jax_gradients)
        assert gradients.keys() == expected.keys()
        total = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in expected.values()))
        for name, gradient in gradients.items():
            assert_close(gradient, expected[name], name, self.gradient_tolerance, FLOOR * total)

    def test_metrics_agree(self, twins: Twins) -> None:
        """`eval_step` differs between the frameworks."""
        jax, pytorch = (
            bench.workload.evaluate(*state, np.zeros(2, np.uint32), [Split.EVAL_TRAIN])
            for bench, state in zip(twins.benches, twins.states, strict=True)
        )
        assert pytorch == pytest.approx(jax, rel=10 * RTOL)
