"""The names and call shapes that public submissions use, each in the form in which they use it."""

import functools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from algoperf import registry, spec
from algoperf.seeds import random_key
from algoperf.spec import ForwardPassMode, Framework, LossType, ParameterType, Scale, Split
from algoperf.testing.frameworks import require

TYPES = (
    "Workload ParameterContainer ParameterTypeTree ParameterShapeTree ModelAuxiliaryState OptimizerState "
    "Hyperparameters Tensor LossType RandomState UpdateReturn ModelInitState ForwardPassMode ParameterType ShapeTuple"
).split()


@pytest.fixture
def toy(framework):
    """The workload, parameters and a batch, in one framework."""
    workload = registry.make_workload(registry.workload_spec("toy").at(Scale.MINI), framework)
    params, model_state = workload.init_model_fn(random_key(0))
    return SimpleNamespace(
        workload=workload, params=params, model_state=model_state, batch=next(workload.input_queue(Split.TRAIN, 8))
    )


@pytest.fixture
def toy_jax():
    require(Framework.JAX)
    return toy.__wrapped__(Framework.JAX)


@pytest.fixture
def toy_torch():
    require(Framework.PYTORCH)
    return toy.__wrapped__(Framework.PYTORCH)


# spec.


@pytest.mark.parametrize("name", TYPES)
def test_annotations_are_evaluated_at_import(name):
    code = (
        f"from algoperf import spec\ndef f(x: dict[str, spec.{name}], y: spec.{name} | None = None) -> spec.{name}: ..."
    )
    exec(code, {})


def test_enums_have_their_public_members():
    assert {mode.name for mode in ForwardPassMode} == {"TRAIN", "EVAL"}
    assert {"SOFTMAX_CROSS_ENTROPY", "CTC_LOSS", "MEAN_ABSOLUTE_ERROR"} <= {loss.name for loss in LossType}
    assert {"WEIGHT", "BIAS", "EMBEDDING", "BATCH_NORM_SCALE", "ATTENTION_QKV"} <= {one.name for one in ParameterType}


def test_the_end_of_training_is_an_exception_with_a_message():
    with pytest.raises(spec.TrainingCompleteError, match="enough"):
        raise spec.TrainingCompleteError("enough")


def test_shapes_are_leaves(toy_jax):
    import jax

    shapes = jax.tree.leaves(toy_jax.workload.param_shapes)
    assert [shape.shape_tuple for shape in shapes] == [leaf.shape for leaf in jax.tree.leaves(toy_jax.params)]
    assert all(isinstance(shape, spec.ShapeTuple) for shape in shapes)


# workload.


def test_facts_of_the_workload(toy):
    workload = toy.workload
    assert type(workload.step_hint) is int
    assert workload.metrics_logger is None
    names = "num_train_examples num_validation_examples num_test_examples num_eval_train_examples eval_batch_size "
    names += "max_allowed_runtime_sec eval_period_time_sec validation_target_value test_target_value"
    assert all(getattr(workload, name) > 0 for name in names.split())
    assert workload.target_metric_name == "accuracy"
    assert workload.has_reached_validation_target({"validation/accuracy": 1.0})
    assert not workload.has_reached_test_target({"test/accuracy": 0.0})
    assert workload.loss_type is LossType.SOFTMAX_CROSS_ENTROPY
    assert workload.is_output_params("output")
    assert {workload: "hashable"}[workload] == "hashable"
    probabilities = workload.output_activation_fn(forward(toy)[0])
    np.testing.assert_allclose(host(probabilities).sum(axis=-1), 1.0, rtol=1e-6)


def host(tensor):
    return np.asarray(tensor.detach()) if hasattr(tensor, "detach") else np.asarray(tensor)


def forward(toy, **options):
    return toy.workload.model_fn(
        toy.params, toy.batch, toy.model_state, ForwardPassMode.TRAIN, random_key(1), update_batch_norm=True, **options
    )


def test_the_model_is_called_by_position_and_by_keyword(toy):
    by_keyword = toy.workload.model_fn(
        params=toy.params,
        augmented_and_preprocessed_input_batch=toy.batch,
        model_state=None,
        mode=ForwardPassMode.TRAIN,
        rng=random_key(1),
        update_batch_norm=False,
        dropout_rate=0.0,
    )
    by_position = forward(toy)
    assert by_position[1] is by_keyword[1] is None
    np.testing.assert_array_equal(host(by_position[0]), host(by_keyword[0]))


def test_the_dropout_rate_has_a_default_of_the_workload(toy):
    workload = toy.workload
    toy.workload = type(workload)(replace(workload.spec, dropout_rate=0.5), workload.backend)
    default = host(forward(toy)[0])
    assert not np.array_equal(default, host(forward(toy, dropout_rate=0.0)[0]))


def test_the_loss_is_called_by_position_by_keyword_and_with_what_it_ignores(toy):
    loss_fn, targets, logits = toy.workload.loss_fn, toy.batch["targets"], forward(toy)[0]
    mask = toy.batch.get("weights")
    losses = [
        loss_fn(targets, logits),
        loss_fn(targets, logits, mask, 0.0),
        loss_fn(label_batch=targets, logits_batch=logits, mask_batch=mask, label_smoothing=0.0),
        loss_fn(label_batch=targets, logits_batch=logits, dropout_rate=0.1),
    ]
    for loss in losses:
        assert loss.keys() == {"summed", "n_valid_examples", "per_example"}
        np.testing.assert_array_equal(host(loss["summed"]), host(losses[0]["summed"]))
        assert host(loss["n_valid_examples"]) == 8
        assert host(loss["per_example"]).shape == (8,)


def test_the_loss_can_be_replaced(toy):
    """As harnesses do that compile it."""
    original = toy.workload.loss_fn
    toy.workload.loss_fn = functools.wraps(original)(lambda *a, **k: original(*a, **k) | {"summed": 7.0})
    assert toy.workload.loss_fn(toy.batch["targets"], forward(toy)[0])["summed"] == 7.0


def test_rates_may_be_traced(toy_jax):
    import jax
    import jax.numpy as jnp

    num_traces = 0

    @functools.partial(jax.jit, static_argnums=0)
    def loss(workload, params, batch, dropout_rate, label_smoothing):
        nonlocal num_traces
        num_traces += 1
        logits, _ = workload.model_fn(
            params, batch, None, ForwardPassMode.TRAIN, random_key(1), update_batch_norm=True, dropout_rate=dropout_rate
        )
        return workload.loss_fn(batch["targets"], logits, label_smoothing=label_smoothing)["summed"]

    def call(dropout_rate, label_smoothing):
        rates = (jnp.float32(dropout_rate), jnp.float32(label_smoothing))
        return float(loss(toy_jax.workload, toy_jax.params, toy_jax.batch, *rates))

    assert len({call(0.0, 0.0), call(0.5, 0.0), call(0.0, 0.1)}) == 3
    assert num_traces == 1


def test_the_number_of_examples_can_be_summed_over_processes(toy_torch):
    import torch

    count = toy_torch.workload.loss_fn(toy_torch.batch["targets"], forward(toy_torch)[0])["n_valid_examples"]
    assert isinstance(count, torch.Tensor)
    assert count.shape == ()


def test_the_model_trains_after_an_evaluation_whatever_its_mode_was(toy_torch):
    import torch

    with torch.no_grad():
        toy_torch.params.eval()
        forward(toy_torch)
    assert all(module.training for module in toy_torch.params.modules())


# jax_sharding_utils.


def test_shardings_have_their_public_names(toy_jax):
    import jax
    import jax.numpy as jnp
    from jax.sharding import Mesh, PartitionSpec

    from algoperf import jax_sharding_utils as utils

    mesh = Mesh(jax.devices(), ("batch"))
    for everywhere in (utils.get_replicate_sharding(), utils.get_replicate_sharding(mesh)):
        assert everywhere.spec == PartitionSpec()
        assert everywhere.mesh == mesh
    for divided in (
        utils.get_batch_dim_sharding(),
        utils.get_batch_dim_sharding(mesh),
        utils.get_batch_sharding(),
        utils.get_batch_sharding(mesh),
    ):
        assert divided.spec == PartitionSpec("batch")
        assert divided.mesh == mesh
    tree = {"a": jnp.ones((4, 2)), "b": None}
    assert utils.replicate(tree)["a"].sharding == utils.get_replicate_sharding()
    assert utils.shard_along_batch_dim(tree)["a"].sharding == utils.get_batch_dim_sharding()


def test_an_array_can_be_drawn(toy_jax, capsys):
    from algoperf import jax_sharding_utils as utils

    utils.display_shard_info(toy_jax.batch["inputs"])
    assert "CPU 0" in capsys.readouterr().out


def test_none_may_stand_among_arguments_with_a_sharding(toy_jax):
    """A `grad_clip` of None, and a batch without weights, under one sharding for all of an argument's leaves."""
    import jax

    from algoperf import jax_sharding_utils as utils

    everywhere, divided = utils.get_replicate_sharding(), utils.get_batch_dim_sharding()

    @functools.partial(jax.jit, in_shardings=(divided, everywhere), out_shardings=everywhere)
    def total(batch, grad_clip):
        assert grad_clip is None
        return batch["inputs"].sum()

    np.testing.assert_allclose(
        total({**toy_jax.batch, "weights": None}, None), np.asarray(toy_jax.batch["inputs"]).sum(), rtol=1e-5
    )


def test_every_leaf_of_a_batch_can_be_divided(toy_jax):
    import jax

    assert {leaf.shape[0] for leaf in jax.tree.leaves(toy_jax.batch)} == {8}


# pytorch_utils.


@pytest.mark.parametrize(
    ("environment", "found"), [({}, (False, 0)), ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, (True, 1))]
)
def test_the_setup_of_pytorch_says_what_torchrun_says(monkeypatch, no_ddp, environment, found):
    require(Framework.PYTORCH)
    import torch

    from algoperf.pytorch_utils import pytorch_setup

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    use_ddp, rank, device, num_gpus = pytorch_setup()
    assert (use_ddp, rank) == found
    assert isinstance(device, torch.device)
    assert num_gpus == (2 if use_ddp else torch.cuda.device_count())


# What entry points are given.

SEEN = """
_update, _data, _init, SEEN = update_params, data_selection, init_optimizer_state, []
def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    SEEN.append(("init", workload, hyperparameters, rng))
    return _init(workload, model_params, model_state, hyperparameters, rng)
def data_selection(*arguments):
    assert len(arguments) == 8
    for _ in range(3):
        next(arguments[1])
    return _data(*arguments)
def update_params(*, train_state=None, **arguments):
    SEEN.append(("update", arguments["workload"], arguments["global_step"], list(arguments["eval_results"])))
    return _update(**arguments)
"""


def test_entry_points_are_given_what_they_expect(make_trial, framework):
    trial = make_trial(framework, patch=SEEN, max_steps=25)
    trial._judge = lambda *arguments: None
    assert trial.run().end_reason == "steps", trial._error
    (first, *updates) = trial.submission.update_params.__globals__["SEEN"]
    assert first[:3] == ("init", trial.workload, None)
    assert (first[3].dtype, first[3].shape) == (np.uint32, (2,))
    assert all(workload is trial.workload for _, workload, _, _ in updates)
    assert [step for _, _, step, _ in updates] == list(range(25))
    results = updates[-1][3]
    assert [step for step, _ in results] == [1, 11, 21]
    names = {f"{split}/{name}" for split in ("train", "validation", "test") for name in ("loss", "accuracy")}
    assert all(names | {"score", "total_duration", "global_step"} <= set(row) for _, row in results)
