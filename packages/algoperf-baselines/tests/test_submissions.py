"""What holds for each baseline in each framework."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import algoperf_baselines
from algoperf.checkpoint import Checkpoints
from algoperf.search import SearchSpace, points
from algoperf.spec import ForwardPassMode, Framework, Split
from algoperf.submission import locate
from algoperf.testing.frameworks import BOTH, require
from algoperf_baselines import nadamw_self_tuning, schedule_free_adamw_self_tuning
from algoperf_baselines.batch_sizes import BATCH_SIZES, get_batch_size

TUNED = [
    "adafactor",
    "adamw",
    "ademamix",
    "lamb",
    "lion",
    "momentum",
    "muon",
    "nadamw",
    "nesterov",
    "sam",
    "schedule_free_adamw",
    "shampoo",
]
SELF_TUNING = {
    "nadamw_self_tuning": nadamw_self_tuning.HYPERPARAMETERS,
    "schedule_free_adamw_self_tuning": schedule_free_adamw_self_tuning.HYPERPARAMETERS,
}
NAMES = [*TUNED, *SELF_TUNING]
FREE_DIMENSIONS = {"momentum": 6, "nesterov": 6, "sam": 6}
MODULES = {Framework.JAX: "jax", Framework.PYTORCH: "torch"}


def test_these_are_all() -> None:
    assert sorted(spec.lower() for spec in algoperf_baselines.__all__) == sorted(NAMES)


@pytest.mark.parametrize("framework", BOTH)
def test_each_is_found_by_name_and_loads_in_a_process_without_the_other_framework(framework: Framework) -> None:
    require(framework)
    code = (
        "import sys; from algoperf import spec, submission\n"
        f"for name in {NAMES!r}: submission.load(submission.locate(name, spec.Framework({framework.value!r})))\n"
        "print(sorted({'jax', 'torch'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == str([MODULES[framework]]), result.stderr


@pytest.mark.parametrize("framework", BOTH)
@pytest.mark.parametrize("name", NAMES)
def test_learns_and_goes_on_from_a_checkpoint(start: Any, name: str, framework: Framework, tmp_path: Path) -> None:
    # One test of two things, because compiling takes longer than both.
    run = start(name, framework, warmup_factor=0.05, label_smoothing=0.1, dropout_rate=0.1)
    for _ in range(150):
        run.step()
    run.prepare_for_eval()
    _, params, model_state = run.state
    metrics = run.workload.evaluate(params, model_state, 0, [Split.VALIDATION])
    assert metrics["validation/accuracy"] > 0.8

    Checkpoints(tmp_path, run.workload.backend).save(run.global_step, {"state": run.state})
    batches = [run.step() for _ in range(2)]
    expected = run.arrays()
    loaded = Checkpoints(tmp_path, run.workload.backend).load({"state": run.state})
    assert loaded is not None
    run.state, run.global_step = loaded["state"], run.global_step - len(batches)
    for batch in batches:
        run.step(batch)
    for parameter, array in run.arrays().items():
        np.testing.assert_array_equal(array, expected[parameter])


@pytest.mark.parametrize("framework", BOTH)
def test_the_loss_is_the_mean_over_the_batch_logged_every_100_steps(start: Any, framework: Framework) -> None:
    # Without steps of any size and without dropout, the loss of a batch can be had again.
    run = start("adamw", framework, learning_rate=0.0, dropout_rate=0.0, label_smoothing=0.3)
    batches = [run.step() for _ in range(101)]
    assert [step for step, _ in run.logged] == [0, 100]
    for step, loss in run.logged:
        assert loss == pytest.approx(_mean_loss(run, batches[step], 0.3), rel=1e-5)


def _mean_loss(run: Any, batch: Any, label_smoothing: float) -> float:
    """In evaluation mode, of the current parameters."""
    _, params, model_state = run.state
    logits, _ = run.workload.model_fn(params, batch, model_state, ForwardPassMode.EVAL, None, False)
    losses = run.workload.loss_fn(batch["targets"], logits, None, label_smoothing)["per_example"]
    return sum(losses.tolist()) / len(losses)


@pytest.mark.parametrize("name", SELF_TUNING)
def test_self_tuning_is_the_algorithm_at_one_point(start: Any, name: str) -> None:
    # What binds the point is the same in both frameworks.
    run = start(name, Framework.PYTORCH)
    point = SELF_TUNING[name][run.workload.spec.scale]
    tuned = start(name.removesuffix("_self_tuning"), Framework.PYTORCH, **point)
    for _ in range(6):
        run.step(), tuned.step()
    expected = tuned.arrays()
    for parameter, array in run.arrays().items():
        np.testing.assert_array_equal(array, expected[parameter])


@pytest.mark.parametrize("name", TUNED)
def test_search_space_has_five_free_dimensions_or_more(name: str) -> None:
    space = SearchSpace.load(locate(name, Framework.JAX).parent / "tuning_search_space.json")
    found = points(space, 5, seed=0)
    assert len({tuple(point.values()) for point in found}) == 5
    many = points(space, 50, seed=0)
    assert sum(len({point[name] for point in many}) > 1 for name in many[0]) == FREE_DIMENSIONS.get(name, 5)


@pytest.mark.parametrize("name", TUNED)
def test_mini_hyperparameters_are_one_point_of_the_same_names(name: str) -> None:
    folder = locate(name, Framework.JAX).parent
    space = SearchSpace.load(folder / "tuning_search_space.json")
    mini = SearchSpace.load(folder / "mini_hyperparameters.json")
    assert [set(point) for point in mini.content] == [set(space.content)]


def test_batch_sizes() -> None:
    assert all(get_batch_size(name) == size for name, size in BATCH_SIZES.items())
    assert all(size % 8 == 0 for size in BATCH_SIZES.values())
    with pytest.raises(ValueError, match="no batch size for 'ogbg_gelu'"):
        get_batch_size("ogbg_gelu")
