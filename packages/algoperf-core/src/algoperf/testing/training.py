"""A submission that trains a workload, one step at a time, without a clock and without a trial's files."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from algoperf.data.queue import InputQueue
from algoperf.search import SearchSpace, as_hyperparameters, points
from algoperf.seeds import random_key
from algoperf.spec import Split
from algoperf.submission import Submission, load, locate
from algoperf.testing import drivers
from algoperf.workload import Workload


class Training:
    """Calls a submission as a trial does.

    Args:
        workload: what it trains; its metrics are logged here.
        submission: the submission.
        hyperparameters: a named tuple; None in self-tuning.
        start: parameters and model state to begin with, which may change; as a trial begins, if not given.

    Attributes:
        state: optimizer state, parameters and model state.
        global_step: the number of steps taken.
        logged: of what the submission logged, step and loss.
    """

    def __init__(
        self, workload: Workload, submission: Submission, hyperparameters: Any, start: tuple[Any, Any] | None = None
    ) -> None:
        self.workload, self.submission, self.hyperparameters = workload, submission, hyperparameters
        self.logged: list[tuple[int, float]] = []
        workload.metrics_logger = self
        params, model_state = start or workload.init_model_fn(random_key(0))
        optimizer_state = submission.init_optimizer_state(workload, params, model_state, hyperparameters, random_key(1))
        self.state = workload.backend.place_state((optimizer_state, params, model_state))
        self.global_step = 0

    @cached_property
    def queue(self) -> InputQueue:
        """The training batches, in the order of the first seed."""
        size = self.submission.batch_size(self.workload.spec, self.workload.backend.shards.total)
        return self.workload.input_queue(Split.TRAIN, size)

    def close(self) -> None:
        """Ends the threads that make batches, if any were asked for."""
        if "queue" in self.__dict__:
            self.queue.close()

    def append_scalar_metrics(self, metrics: Mapping[str, Any], global_step: int) -> None:
        """What submissions call to log."""
        self.logged.append((global_step, float(metrics["loss"])))

    def step(self, batch: Any = None) -> Any:
        """One step, on the next batch or on this one; returns the batch."""
        optimizer_state, params, model_state = self.state
        self.workload.backend.begin_step(0, self.global_step)
        if batch is None:
            batch = self.submission.data_selection(
                self.workload,
                self.queue,
                optimizer_state,
                params,
                model_state,
                self.hyperparameters,
                self.global_step,
                random_key(self.global_step),
            )
        arguments = self._arguments() | {"batch": batch}
        if self.submission.wants_train_state:
            arguments["train_state"] = {}
        self.state = self.submission.update_params(**arguments)
        self.global_step += 1
        return batch

    def prepare_for_eval(self) -> None:
        """As a trial does before it evaluates."""
        if self.submission.prepare_for_eval is not None:
            self.state = self.submission.prepare_for_eval(**self._arguments())

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters by name, on the host."""
        return drivers.load(self.workload).arrays(self.state[1])

    def _arguments(self) -> dict[str, Any]:
        optimizer_state, params, model_state = self.state
        return {
            "workload": self.workload,
            "current_param_container": params,
            "current_params_types": self.workload.model_params_types,
            "model_state": model_state,
            "hyperparameters": self.hyperparameters,
            "loss_type": self.workload.loss_type,
            "optimizer_state": optimizer_state,
            "eval_results": [],
            "global_step": self.global_step,
            "rng": random_key(self.global_step),
        }


def train(name: str, workload: Workload, start: tuple[Any, Any] | None = None, **hyperparameters: Any) -> Training:
    """An installed submission on a workload, at its point for mini scale if it takes hyperparameters.

    Args:
        name: the submission's.
        workload: what it trains.
        start: see `Training`.
        hyperparameters: those that are others here.
    """
    path = locate(name, workload.framework)
    point = mini_point(path.parent)
    return Training(workload, load(path), point and as_hyperparameters({**point, **hyperparameters}), start)


def mini_point(folder: Path) -> Mapping[str, Any] | None:
    """The hyperparameters at mini scale of the submission in a folder; None if it is self-tuning."""
    file = folder / "mini_hyperparameters.json"
    return points(SearchSpace.load(file), 1, seed=0)[0] if file.exists() else None
