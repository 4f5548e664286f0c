"""The adapter for submissions that were written for `jax.pmap`."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from algoperf.records import read_trial
from algoperf.spec import Framework
from algoperf.testing.frameworks import require
from algoperf.trial import EndReason

SUBMISSION = Path(__file__).parent / "submissions" / "pmap" / "submission.py"


def test_it_is_said_in_the_records(make_trial, tmp_path):

    trial = make_trial(Framework.JAX, path=SUBMISSION, adapter="pmap", max_steps=2)
    assert trial.run().end_reason is EndReason.STEPS
    assert read_trial(tmp_path / "trial").metadata[0]["submission_adapter"] == "pmap"


class Graphs(NamedTuple):
    """With the fields of `jraph.GraphsTuple`."""

    nodes: Any
    edges: Any
    receivers: Any
    senders: Any
    globals: Any
    n_node: Any
    n_edge: Any


def test_batches_are_divided_with_their_graphs(monkeypatch):
    require(Framework.JAX)
    import jax

    from algoperf import pmap_jax

    class TwoDevices:
        size = 2

    monkeypatch.setattr(pmap_jax, "mesh", lambda: TwoDevices)
    graphs = Graphs(
        nodes=np.arange(6.0)[:, None],
        edges=np.zeros((4, 3)),
        receivers=np.array([0, 2, 3, 5]),
        senders=np.array([1, 2, 4, 3]),
        globals={},
        n_node=np.array([3, 3]),
        n_edge=np.array([2, 2]),
    )
    batch = pmap_jax._divided({"inputs": graphs, "targets": np.arange(4), "weights": None})
    assert batch["weights"] is None
    np.testing.assert_array_equal(batch["targets"], [[0, 1], [2, 3]])
    divided = batch["inputs"]
    assert isinstance(divided, Graphs)
    np.testing.assert_array_equal(divided.receivers, [[0, 2], [0, 2]])
    np.testing.assert_array_equal(divided.senders, [[1, 2], [1, 0]])
    assert jax.tree.map(np.shape, divided.nodes) == (2, 3, 1)
    assert divided.globals == {}


def test_evaluations_see_the_mean_of_batch_statistics():
    require(Framework.JAX)
    from algoperf import pmap_jax

    params, state = np.array([[1.0, 2.0], [1.0, 2.0]]), {"mean": np.array([[1.0], [4.0]]), "count": np.array([3, 3])}
    params, state = pmap_jax._first_and_mean(params, state)
    np.testing.assert_array_equal(params, [1.0, 2.0])
    np.testing.assert_array_equal(state["mean"], [2.5])
    assert state["count"] == 3
