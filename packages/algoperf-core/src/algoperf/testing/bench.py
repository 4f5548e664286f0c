"""A workload at mini scale with what the kit's tests need of it, made once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from algoperf import registry
from algoperf.seeds import random_key
from algoperf.spec import ForwardPassMode, Framework, Scale, Split
from algoperf.testing import drivers
from algoperf.workload import EVAL_SPLITS, Workload

NUM_BATCHES = 4


class Bench:
    """One workload in one framework, with parameters, batches and metrics that tests share and none changes.

    Args:
        workload_name: the workload.
        framework: in which framework.
        data_dir: where its prepared data lies; None for data that is generated.
        spec_changes: fields of the mini spec that are different here.
    """

    def __init__(
        self, workload_name: str, framework: Framework, data_dir: Path | None, spec_changes: Mapping[str, Any]
    ) -> None:
        self.spec = replace(registry.workload_spec(workload_name).at(Scale.MINI), **spec_changes)
        self._framework, self._data_dir = framework, data_dir
        self.workload = self.make()
        self.driver = drivers.load(self.workload)

    def make(self, **spec_changes: Any) -> Workload:
        """The workload once more, with further changes of its spec."""
        return registry.make_workload(replace(self.spec, **spec_changes), self._framework, self._data_dir)

    @cached_property
    def state(self) -> tuple[Any, Any]:
        """Parameters and model state, as a trial begins with them."""
        state: tuple[Any, Any] = self.workload.init_model_fn(random_key(0))
        return state

    @cached_property
    def batches(self) -> Sequence[Any]:
        """The first training batches, on the devices."""
        assert self.spec.batch_size is not None
        with self.workload.input_queue(Split.TRAIN, self.spec.batch_size) as queue:
            return list(islice(queue, NUM_BATCHES))

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Metrics of the fresh parameters on every split."""
        return evaluate(self.workload, self.state, EVAL_SPLITS)

    def logits(self, mode: ForwardPassMode, key: int, dropout_rate: float | None = None) -> Any:
        """What the model gives for the first training batch, as numpy; `key` stands for all randomness."""
        self.workload.backend.begin_step(key, 0)
        state, batch = self.moved_state, self.batches[0]
        return self.driver.logits(state, batch, mode, random_key(key), dropout_rate)

    @cached_property
    def moved_state(self) -> tuple[Any, Any]:
        """The state with a little noise on every parameter, so that no bias or last layer is zero and no scale one."""
        params, model_state = self.state
        return self.driver.with_arrays(params, noisy(self.driver.arrays(params))), model_state


def evaluate(workload: Workload, state: tuple[Any, Any], splits: Sequence[Split]) -> dict[str, float]:
    """Metrics on some splits."""
    return workload.evaluate(*state, random_key(1), splits)


def noisy(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays with normal noise of a tenth added."""
    rng = np.random.default_rng(0)
    return {
        name: array + np.float32(0.1) * rng.standard_normal(array.shape, np.float32)
        for name, array in sorted(arrays.items())
    }
