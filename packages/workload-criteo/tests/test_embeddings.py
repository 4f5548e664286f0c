"""Which rows of the table an id reads, and which a training step moves."""

from dataclasses import replace

import numpy as np
import pytest
from criteo_models import Arrays, make

from algoperf import registry
from algoperf.spec import ForwardPassMode, Framework, Scale, WorkloadSpec
from algoperf.testing.frameworks import BOTH
from algoperf_criteo.weights import torch_to_jax

NAMES = ("criteo1tb", "criteo1tb_layernorm", "criteo1tb_embed_init", "criteo1tb_resnet")
# No power of two, so that no remainder is right by accident.
VOCAB_SIZE = 1_004

every_framework = pytest.mark.parametrize("framework", BOTH)


def small(name: str) -> WorkloadSpec:
    spec = registry.workload_spec(name).at(Scale.MINI)
    return replace(spec, model=replace(spec.model, vocab_size=VOCAB_SIZE))


def batch_of(ids: np.ndarray) -> Arrays:
    rng = np.random.default_rng(1)
    inputs = np.concatenate([rng.random((len(ids), 13)), ids], axis=1).astype(np.float32)
    return {"inputs": inputs, "targets": rng.integers(0, 2, (len(ids), 1)).astype(np.float32)}


@every_framework
def test_an_id_reads_the_row_of_its_remainder(framework: Framework) -> None:
    """Also above 2**24, where floats have only even ids, and up to the largest."""
    workload = make(framework, small("criteo1tb"))
    params = workload.initial(0)
    ids = np.array([0, 1, 250, 251, 252, 1_003, 1_004, 2**24 - 1, 2**24 + 2, 2**25 + 4, 26_975_784, 39_979_768])
    ids = np.random.default_rng(0).permuted(np.resize(ids, (6, 26)), axis=1)
    given = workload.forward(params, batch_of(ids), ForwardPassMode.EVAL)
    expected = workload.forward(params, batch_of(ids % VOCAB_SIZE), ForwardPassMode.EVAL)
    np.testing.assert_array_equal(given, expected)
    for column in (0, 25):
        others = ids.copy()
        others[:, column] += 2
        assert (workload.forward(params, batch_of(others), ForwardPassMode.EVAL) != given).all()


@every_framework
@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_plain_sgd_moves_only_the_rows_in_the_batch(framework: Framework, name: str) -> None:
    """The gradient is a dense array, as optimizers expect it, and exactly zero in all other rows."""
    workload = make(framework, small(name))
    before = workload.initial(0)
    # Of every quarter of the table, some twice; none at its very beginning, where a stray id would land.
    ids = np.random.default_rng(0).integers(5, VOCAB_SIZE, (8, 26))
    ids[:, 0] = ids[0, 0]
    gradients, after = workload.after_sgd(before, batch_of(ids + 7 * VOCAB_SIZE))
    if framework is Framework.PYTORCH:
        before, gradients, after = (torch_to_jax(small(name).model, some) for some in (before, gradients, after))
    table, gradient, moved = (some["embedding_table"] for some in (before, gradients, after))
    assert gradient.shape == table.shape
    is_read = np.isin(np.arange(VOCAB_SIZE), ids)
    np.testing.assert_array_equal((gradient != 0).any(axis=1), is_read)
    np.testing.assert_array_equal(table[~is_read], moved[~is_read])
    assert (table[is_read] != moved[is_read]).any(axis=1).all()
    np.testing.assert_allclose(moved, table - 0.1 * gradient, rtol=1e-6, atol=1e-7)
