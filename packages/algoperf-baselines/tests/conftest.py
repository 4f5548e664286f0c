"""Reference numbers, and a loop that calls a submission as a trial does."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from algoperf.registry import make_workload
from algoperf.search import as_hyperparameters
from algoperf.spec import Framework
from algoperf.testing.frameworks import require
from algoperf.testing.toy import TOY
from algoperf.testing.training import Training, train

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


@pytest.fixture
def start() -> Any:
    """Begins to run a submission, from the point for mini scale without warm-up, if it takes hyperparameters."""
    runs = []

    def begin(name: str, framework: Framework, **hyperparameters: Any) -> Training:
        require(framework)
        runs.append(train(name, make_workload(TOY, framework), **{"warmup_factor": 0.0, **hyperparameters}))
        return runs[-1]

    yield begin
    for run in runs:
        run.close()
