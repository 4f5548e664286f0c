"""Reference numbers, and a loop that calls a submission as a trial does."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from algoperf.registry import make_workload
from algoperf.search import as_hyperparameters
from algoperf.seeds import random_key
from algoperf.spec import Framework, Split
from algoperf.submission import Submission, load, locate
from algoperf.testing.frameworks import require
from algoperf.testing.toy import TOY
from algoperf.workload import Workload

GOLDEN = json.loads((Path(__file__).parent / "golden" / "optimizers.json").read_text())
# So many steps that the learning rate is at its peak in the first few.
STEP_HINT = 10**8


@dataclass
class Case:
    """Parameters, the gradients of some steps, and the parameters after each."""

    workload: Any
    hyperparameters: Any
    params: dict[str, np.ndarray]
    gradients: list[dict[str, np.ndarray]]
    expected: list[dict[str, np.ndarray]]


def _adamw() -> list[dict[str, np.ndarray]]:
    """Algorithm 2 of arXiv 1711.05101 in float64, one parameter after the other."""
    h = SimpleNamespace(**GOLDEN["hyperparameters"])
    b1, b2, lr = 1 - h.one_minus_beta1, h.beta2, h.learning_rate
    steps: list[dict[str, np.ndarray]] = [{} for _ in GOLDEN["gradients"]]
    for name, value in GOLDEN["params"].items():
        p, m, v = np.array(value), 0.0, 0.0
        for t, gradients in enumerate(GOLDEN["gradients"], start=1):
            g = np.array(gradients[name])
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g**2
            adam = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + GOLDEN["eps"])
            p = p - lr * (adam + h.weight_decay * p)
            steps[t - 1][name] = p
    return steps


@pytest.fixture
def case() -> Callable[[str, Framework], Case]:
    def make(name: str, framework: Framework) -> Case:
        def arrays(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
            return {key: np.array(value, np.float32) for key, value in tree.items()}

        expected = _adamw() if name == "adamw" else GOLDEN["nadamw"][framework.value]
        return Case(
            SimpleNamespace(step_hint=STEP_HINT),
            as_hyperparameters({**GOLDEN["hyperparameters"], "warmup_factor": 0.0}),
            arrays(GOLDEN["params"]),
            [arrays(step) for step in GOLDEN["gradients"]],
            [arrays(step) for step in expected],
        )

    return make


@dataclass
class Run:
    """A submission on the toy workload, one step at a time."""

    workload: Workload
    submission: Submission
    hyperparameters: Any
    logged: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        workload, backend = self.workload, self.workload.backend
        workload.metrics_logger = self
        self.queue = workload.input_queue(Split.TRAIN, self.submission.batch_size(workload.spec))
        params, model_state = workload.init_model_fn(random_key(0))
        optimizer_state = self.submission.init_optimizer_state(
            workload, params, model_state, self.hyperparameters, random_key(1)
        )
        self.state = backend.place_state((optimizer_state, params, model_state))
        self.global_step = 0

    def append_scalar_metrics(self, metrics: dict[str, Any], global_step: int) -> None:
        self.logged.append((global_step, float(metrics["loss"])))

    def step(self, batch: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """One step, on the next batch or on this one; returns the batch."""
        optimizer_state, params, model_state = self.state
        arguments = (self.hyperparameters, self.global_step, random_key(self.global_step))
        self.workload.backend.begin_step(0, self.global_step)
        batch = batch or self.submission.data_selection(
            self.workload, self.queue, optimizer_state, params, model_state, *arguments
        )
        self.state = self.submission.update_params(
            workload=self.workload,
            current_param_container=params,
            current_params_types=self.workload.model_params_types,
            model_state=model_state,
            hyperparameters=self.hyperparameters,
            batch=batch,
            loss_type=self.workload.loss_type,
            optimizer_state=optimizer_state,
            eval_results=[],
            global_step=self.global_step,
            rng=random_key(self.global_step),
            train_state={},
        )
        self.global_step += 1
        return batch

    def parameters(self) -> list[np.ndarray]:
        """All parameters, on the host."""
        if self.workload.framework is Framework.PYTORCH:
            return [p.detach().cpu().numpy().copy() for p in self.state[1].parameters()]
        return [np.array(array) for layer in self.state[1].values() for array in layer.values()]

    def prepare_for_eval(self) -> None:
        """As a trial does before it evaluates."""
        if self.submission.prepare_for_eval is None:
            return
        optimizer_state, params, model_state = self.state
        self.state = self.submission.prepare_for_eval(
            workload=self.workload,
            current_param_container=params,
            current_params_types=self.workload.model_params_types,
            model_state=model_state,
            hyperparameters=self.hyperparameters,
            loss_type=self.workload.loss_type,
            optimizer_state=optimizer_state,
            eval_results=[],
            global_step=self.global_step,
            rng=random_key(self.global_step),
        )

    def train_loss(self) -> float:
        self.prepare_for_eval()
        _, params, model_state = self.state
        metrics = self.workload.evaluate(params, model_state, random_key(2), [Split.EVAL_TRAIN])
        return metrics["train/loss"]


@pytest.fixture
def start() -> Any:
    """Begins to run a submission, from the point for mini scale without warm-up, if it takes hyperparameters."""
    runs = []

    def begin(name: str, framework: Framework, **hyperparameters: Any) -> Run:
        require(framework)
        path = locate(name, framework)
        point = mini_point(path.parent)
        if point is not None:
            point |= {"warmup_factor": 0.0, **hyperparameters}
        runs.append(Run(make_workload(TOY, framework), load(path), point and as_hyperparameters(point)))
        return runs[-1]

    yield begin
    for run in runs:
        run.queue.close()


def mini_point(folder: Path) -> dict[str, Any] | None:
    """The hyperparameters of a baseline at mini scale; None if it is self-tuning."""
    file = folder / "mini_hyperparameters.json"
    return dict(json.loads(file.read_text())[0]) if file.exists() else None
