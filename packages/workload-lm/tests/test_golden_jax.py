"""The JAX model at full size against numbers of the public implementation in JAX: logits, losses, gradients."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from lm_goldens import (
    FILLS,
    assert_gradients,
    assert_logits,
    assert_losses,
    filled,
    golden,
    golden_batch,
    statistics,
)

from algoperf.spec import ForwardPassMode, Framework
from algoperf.testing.frameworks import require
from algoperf_lm.spec import FINEWEBEDU_LM

require(Framework.JAX)

import jax  # noqa: E402
from flax.traverse_util import flatten_dict, unflatten_dict  # noqa: E402

from algoperf.backends.jax import JaxBackend  # noqa: E402
from algoperf_lm.jax_workload import LmJax  # noqa: E402

WORKLOAD = LmJax(FINEWEBEDU_LM, JaxBackend())
every_fill = pytest.mark.parametrize("fill", FILLS)


def params_of(fill: str) -> Any:
    return unflatten_dict({name: jax.device_put(value) for name, value in filled(Framework.JAX, fill)}, sep="/")


@jax.jit
@jax.value_and_grad
def loss_and_gradients(params: Any, inputs: Any, targets: Any) -> Any:
    logits, _ = WORKLOAD.model_fn(params, {"inputs": inputs}, None, ForwardPassMode.TRAIN, jax.random.key(0), True)
    loss = WORKLOAD.loss_fn(targets, logits)
    return loss["summed"] / loss["n_valid_examples"]


@jax.jit
def logits_of(params: Any, inputs: Any) -> Any:
    return WORKLOAD.model_fn(params, {"inputs": inputs}, None, ForwardPassMode.EVAL, jax.random.key(0), False)[0]


@cache
def measured(fill: str) -> tuple[np.ndarray, float, dict[str, list[float]]]:
    """Logits, the mean loss, and what is compared of gradients: little, since parameters take a gigabyte."""
    params, batch = params_of(fill), golden_batch()
    logits = np.asarray(logits_of(params, batch["inputs"]))
    loss, gradients = loss_and_gradients(params, batch["inputs"], batch["targets"])
    found = {name: statistics(np.asarray(array)) for name, array in flatten_dict(gradients, sep="/").items()}
    return logits, float(loss), found


@every_fill
def test_logits_are_the_published_ones(fill: str) -> None:
    assert_logits(Framework.JAX, fill, measured(fill)[0])


@every_fill
def test_losses_are_the_published_ones(fill: str) -> None:
    logits, targets = measured(fill)[0], golden_batch()["targets"]
    assert_losses(Framework.JAX, fill, lambda mask, smoothing: jax.device_get(_loss(targets, logits, mask, smoothing)))


_loss = jax.jit(WORKLOAD.loss_fn)


@every_fill
def test_gradients_are_the_published_ones(fill: str) -> None:
    _, loss, gradients = measured(fill)
    np.testing.assert_allclose(loss, golden(Framework.JAX, fill)["train_loss"], rtol=1e-6)
    assert_gradients(Framework.JAX, fill, gradients)


@pytest.mark.slow
@pytest.mark.parametrize("fill", ["attn20", "initscale"])
def test_a_long_sequence_is_as_published(fill: str) -> None:
    batch = golden_batch()
    logits = np.asarray(logits_of(params_of(fill), batch["long_inputs"]))
    assert_logits(Framework.JAX, f"{fill}_long", logits)
    loss = WORKLOAD.loss_fn(batch["long_targets"], logits)["summed"]
    np.testing.assert_allclose(loss, golden(Framework.JAX, fill)["long_loss"], rtol=1e-6)
