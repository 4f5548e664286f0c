"""Baselines on workloads: both frameworks train the same, and agree on what a matrix is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algoperf.search import SearchSpace, as_hyperparameters
from algoperf.seeds import random_key
from algoperf.spec import Framework
from algoperf.submission import load, locate
from algoperf.testing.bench import Bench
from algoperf.testing.compare import assert_close
from algoperf.testing.frameworks import require
from algoperf.testing.parity_tests import Twins
from algoperf_criteo import torch_model, weights

NUM_STEPS = 20
BASELINES = (
    "adafactor adamw ademamix lamb lion momentum muon nadamw nadamw_self_tuning nesterov sam schedule_free_adamw "
    "schedule_free_adamw_self_tuning shampoo"
).split()


@pytest.fixture(scope="module")
def twins(data_dir: Path) -> Any:
    """Criteo in both frameworks, with the same weights. Its table is one array in both: some rules use arrays' norms."""
    for framework in Framework:
        require(framework)
    with pytest.MonkeyPatch.context() as patch:
        for module in (torch_model, weights):
            patch.setattr(module, "NUM_CHUNKS", 1)
        jax, pytorch = (Bench("criteo1tb", framework, data_dir, {}) for framework in (Framework.JAX, Framework.PYTORCH))
        yield Twins(jax, pytorch, weights.jax_to_torch)


def train(name: str, bench: Bench, state: tuple[Any, Any]) -> Mapping[str, np.ndarray]:
    """The parameters after some steps without dropout, as they are evaluated."""
    workload, path = bench.workload, locate(name, bench.workload.framework)
    submission, mini = load(path), path.parent / "mini_hyperparameters.json"
    point = as_hyperparameters(SearchSpace.load(mini).content[0] | {"warmup_factor": 0.01}) if mini.exists() else None
    params, model_state = bench.driver.with_arrays(state[0], bench.driver.arrays(state[0])), state[1]
    optimizer_state = submission.init_optimizer_state(workload, params, model_state, point, random_key(1))
    optimizer_state, params, model_state = workload.backend.place_state((optimizer_state, params, model_state))
    for step in range(NUM_STEPS):
        arguments = {
            "workload": workload,
            "current_params_types": workload.model_params_types,
            "hyperparameters": point,
            "loss_type": workload.loss_type,
            "eval_results": [],
            "global_step": step,
            "rng": random_key(step),
        }
        optimizer_state, params, model_state = submission.update_params(
            **arguments,
            current_param_container=params,
            model_state=model_state,
            optimizer_state=optimizer_state,
            batch=bench.batches[step % len(bench.batches)],
        )
    if submission.prepare_for_eval is not None:
        _, params, _ = submission.prepare_for_eval(
            **arguments, current_param_container=params, model_state=model_state, optimizer_state=optimizer_state
        )
    return bench.driver.arrays(params)


@pytest.mark.parametrize("name", BASELINES)
def test_both_frameworks_train_the_same(twins: Twins, name: str) -> None:
    jax, pytorch = (train(name, bench, state) for bench, state in zip(twins.benches, twins.states, strict=True))
    expected = twins.in_torch(jax)
    for parameter, found in pytorch.items():
        assert_close(found, expected[parameter], parameter, 1e-4)
