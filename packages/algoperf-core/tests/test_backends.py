"""What a backend promises the harness, beyond what trials and the conformance kit show."""

import numpy as np
import pytest

from algoperf.data import Shards
from algoperf.registry import make_workload
from algoperf.seeds import random_key
from algoperf.spec import ForwardPassMode, Framework, Split
from algoperf.testing.frameworks import BOTH, require
from algoperf.testing.toy import TOY


def test_jax_places_only_what_is_not_placed():
    """A large model has no room for a second copy; a buffer that is there twice cannot be donated."""
    require(Framework.JAX)
    import jax
    import jax.numpy as jnp

    from algoperf.backends.jax import JaxBackend, replicated

    place = JaxBackend().place_state
    placed = jax.device_put(jnp.arange(4.0), replicated())
    plain, key = jnp.arange(3.0), jax.random.key(0)
    state = place({"params": placed, "average": placed, "plain": plain, "key": key, "name": "sgd"})
    assert state["average"] is placed
    assert state["name"] == "sgd"
    arrays = [state[name] for name in ("params", "average", "plain")]
    assert len({array.unsafe_buffer_pointer() for array in [*arrays, plain]}) == 4
    assert all(array.sharding == replicated() for array in [*arrays, state["key"]])
    np.testing.assert_array_equal(state["params"], placed)
    np.testing.assert_array_equal(jax.random.key_data(state["key"]), jax.random.key_data(key))
    # What a step does: everything goes into one call, and its buffers are used again.
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    np.testing.assert_array_equal(step(arrays)[0], np.arange(4.0) + 1)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pytorch_copies_to_the_host_also_on_the_host(dtype):
    """An output of an evaluation that is kept must not keep a part of the heap: ten million rows grew by 4 GB."""
    require(Framework.PYTORCH)
    import torch

    from algoperf.backends.pytorch import TorchBackend

    tensor = torch.from_numpy(np.arange(3, dtype=dtype))
    copied = TorchBackend().to_host({"sums": tensor})["sums"]
    assert copied.dtype == dtype
    tensor[0] = 7
    np.testing.assert_array_equal(copied, [0, 1, 2])


@pytest.mark.parametrize("framework", BOTH)
def test_predictions_are_those_of_an_evaluation_without_gradients(framework, monkeypatch):
    require(framework)
    workload = make_workload(TOY, framework)
    params, model_state = workload.init_model_fn(random_key(0))
    batch = workload.place_batch(next(iter(workload.dataset.evaluation(Split.VALIDATION, 8, Shards()))))
    logits, _ = workload.model_fn(params, batch, model_state, ForwardPassMode.EVAL, random_key(1), False)
    found = workload.predict(params, model_state, batch, random_key(1))
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, workload.backend.to_host(logits), rtol=1e-6, atol=1e-6)
    if framework is Framework.PYTORCH:
        import torch

        grad, model_fn = [], workload.model_fn
        monkeypatch.setattr(
            workload, "model_fn", lambda *a, **k: (grad.append(torch.is_grad_enabled()), model_fn(*a, **k))[1]
        )
        workload.predict(params, model_state, batch, random_key(1))
        assert grad == [False]
