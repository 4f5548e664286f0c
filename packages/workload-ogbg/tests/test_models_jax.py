"""What the goldens leave open, in JAX: dropout, padding, masks, errors, evaluation."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.frameworks import require
from algoperf_ogbg.graphs import GraphsTuple
from algoperf_ogbg.spec import OGBG, OGBG_MODEL_SIZE

require(Framework.JAX)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from algoperf.backends.jax import JaxBackend  # noqa: E402
from algoperf_ogbg.jax_model import OgbgJax, dropout  # noqa: E402

# With the rate of full scale: at mini scale it is 0.
MINI = replace(OGBG.at(Scale.MINI), dropout_rate=OGBG.dropout_rate)


@pytest.fixture(scope="module")
def workload() -> OgbgJax:
    return OgbgJax(MINI, JaxBackend())


@pytest.fixture(scope="module")
def params(workload: OgbgJax) -> Any:
    return workload.init_model_fn(jax.random.key(0))[0]


def make_batch(padding: float = 0.0) -> dict[str, Any]:
    """Two graphs of 3 and 2 nodes, and one of padding: 3 nodes filled with `padding`, and 2 edges."""
    rng = np.random.default_rng(0)
    nodes, edges = rng.normal(size=(8, 9)), rng.normal(size=(8, 3))
    nodes[5:], edges[6:] = padding, padding
    graph = GraphsTuple(
        nodes=nodes.astype(np.float32),
        edges=edges.astype(np.float32),
        receivers=np.array([1, 2, 0, 1, 4, 3, 5, 5], np.int32),
        senders=np.array([0, 1, 1, 2, 3, 4, 5, 5], np.int32),
        globals={},
        n_node=np.array([3, 2, 3], np.int32),
        n_edge=np.array([4, 2, 2], np.int32),
    )
    weights = (rng.random((3, 128)) < 0.5) * np.array([[1], [1], [0]])
    targets = (rng.random((3, 128)) < 0.3).astype(np.float32)
    is_real = np.array([True, True, False])
    batch = {"inputs": graph, "targets": targets, "weights": weights.astype(np.float32), "is_real": is_real}
    return jax.tree.map(jnp.asarray, batch)


@pytest.mark.parametrize("width", [64, 33])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.997])
def test_dropout_keeps_the_mean_and_scales(rate: float, width: int) -> None:
    x = np.ones((4000, width), np.float32)
    y = np.asarray(jax.jit(dropout)(x, rate, jax.random.key(3)))
    assert set(np.unique(y)) == {0.0, np.unique(y)[-1]}
    assert y.max() == pytest.approx(1 / (1 - rate), rel=1e-4)
    # Five standard errors of a share of `x.size` independent elements, and of each column's.
    error = 5 * (rate * (1 - rate)) ** 0.5
    assert abs((y == 0).mean() - rate) < error / x.size**0.5
    assert (abs((y == 0).mean(axis=0) - rate) < error / len(x) ** 0.5).all()


def test_dropout_draws_neighbours_independently() -> None:
    y = np.asarray(dropout(jnp.ones((4000, 64)), 0.5, jax.random.key(4))) > 0
    for shifted in (np.roll(y, 1, axis=0), np.roll(y, 1, axis=1), np.roll(y, 2, axis=1), np.roll(y, 32, axis=1)):
        assert abs((y == shifted).mean() - 0.5) < 5 * 0.5 / y.size**0.5


def test_dropout_of_nothing_is_the_identity() -> None:
    x = jax.random.normal(jax.random.key(0), (7, 5))
    np.testing.assert_array_equal(dropout(x, 0.0, jax.random.key(1)), x)


def test_dropout_rate_may_be_traced(workload: OgbgJax, params: Any) -> None:
    batch, key = make_batch(), jax.random.key(5)
    compilations = []

    @jax.jit
    def logits(rate: jax.Array) -> jax.Array:
        compilations.append(rate)
        return workload.model_fn(params, batch, None, ForwardPassMode.TRAIN, key, True, dropout_rate=rate)[0]

    none, some, default = logits(0.0), logits(0.1), logits(MINI.dropout_rate)
    expected = workload.model_fn(params, batch, None, ForwardPassMode.TRAIN, key, True)[0]
    evaluated = workload.model_fn(params, batch, None, ForwardPassMode.EVAL, None, False)[0]
    assert len(compilations) == 1
    np.testing.assert_allclose(none, evaluated, rtol=0, atol=1e-5)
    np.testing.assert_allclose(default, expected, rtol=0, atol=1e-5)
    assert abs(some - none).max() > 1e-2


def test_dropout_depends_on_the_key(workload: OgbgJax, params: Any) -> None:
    first, again, other = (
        workload.model_fn(params, make_batch(), None, ForwardPassMode.TRAIN, jax.random.key(seed), True)[0]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 1e-2


ON_FOUR_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from algoperf_ogbg.jax_model import dropout
assert jax.device_count() == 4
x, key = jnp.ones((64, 32)), jax.random.key(0)
sharding = NamedSharding(Mesh(jax.devices(), ("batch",)), PartitionSpec("batch"))
divided = jax.jit(dropout)(jax.device_put(x, sharding), 0.3, key)
np.testing.assert_array_equal(divided, jax.jit(dropout)(x, 0.3, key))
"""


def test_dropout_does_not_depend_on_the_number_of_devices() -> None:
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", ON_FOUR_DEVICES], env=env, check=True)


def test_padding_does_not_reach_real_graphs(workload: OgbgJax, params: Any) -> None:
    evaluate = jax.jit(lambda batch: workload.eval_step(params, None, batch, None))
    clean, noisy = evaluate(make_batch()), evaluate(make_batch(padding=100.0))
    np.testing.assert_array_equal(clean["logits"][:2], noisy["logits"][:2])
    np.testing.assert_array_equal(clean["losses"], noisy["losses"])
    assert (noisy["losses"][2] == 0).all()


def test_real_graphs_do_not_reach_each_other(workload: OgbgJax, params: Any) -> None:
    batch = make_batch()
    nodes = batch["inputs"].nodes.at[:3].add(1)
    changed = {**batch, "inputs": batch["inputs"]._replace(nodes=nodes)}
    before, after = (workload.eval_step(params, None, b, None)["logits"] for b in (batch, changed))
    np.testing.assert_array_equal(before[1:], after[1:])
    assert abs(before[0] - after[0]).max() > 1e-3


def test_eval_step_gives_what_the_metrics_need(workload: OgbgJax, params: Any) -> None:
    batch = make_batch()
    out = workload.eval_step(params, None, batch, None)
    loss = workload.loss_fn(batch["targets"], out["logits"], batch["weights"])
    assert out.keys() == {"logits", "labels", "weights", "losses", "num_graphs"}
    assert out["num_graphs"] == 2
    np.testing.assert_array_equal(out["losses"], loss["per_example"])
    np.testing.assert_array_equal(out["labels"], batch["targets"])
    np.testing.assert_array_equal(out["weights"], batch["weights"])


def test_masks_may_be_boolean_and_options_unknown(workload: OgbgJax) -> None:
    logits, batch = jnp.linspace(-90, 90, 3 * 128).reshape(3, 128), make_batch()
    number = workload.loss_fn(batch["targets"], logits, batch["weights"])
    boolean = workload.loss_fn(batch["targets"], logits, batch["weights"] > 0, unheard_of=1)
    for key in number:
        np.testing.assert_array_equal(number[key], boolean[key])
        assert isinstance(boolean[key], jax.Array)
        assert boolean[key].dtype == jnp.float32
    assert np.isfinite(number["per_example"]).all()


def test_bad_input_is_refused(workload: OgbgJax, params: Any) -> None:
    with pytest.raises(ValueError, match="model_state"):
        workload.model_fn(params, make_batch(), {}, ForwardPassMode.EVAL, None, False)
    x = jnp.ones((3, 128))
    for arrays in [(x, x[:2]), (x[0], x[0]), (x, x, x[:, :1])]:
        with pytest.raises(ValueError, match="one shape"):
            workload.loss_fn(*arrays)


@pytest.mark.parametrize("spec", [OGBG, OGBG_MODEL_SIZE])
def test_output_parameters_are_the_decoder(spec: Any) -> None:
    model = OgbgJax(spec, JaxBackend())
    assert [key for key in model.param_shapes if model.is_output_params(key)] == ["decoder"]
