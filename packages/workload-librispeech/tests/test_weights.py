"""The tables of weights: they know all parameters and statistics of both frameworks, and lose nothing on the way."""

from typing import Any

import numpy as np
import pytest

from algoperf import registry
from algoperf.spec import Framework, Scale
from algoperf.testing.frameworks import require
from algoperf_librispeech.weights import (
    jax_gradients_to_torch,
    jax_to_torch,
    statistics_table,
    torch_to_jax,
    weight_table,
)

NAMES = [
    "librispeech_conformer",
    "librispeech_conformer_layernorm",
    "librispeech_deepspeech",
    "librispeech_deepspeech_norm_and_spec_aug",
]
every_workload = pytest.mark.parametrize("name", NAMES)


def shapes(spec: Any, framework: Framework) -> dict[str, tuple[int, ...]]:
    require(framework)
    return {p["name"]: tuple(p["shape"]) for p in registry.make_workload(spec, framework).parameters()}


def random(shapes_by_name: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes_by_name.items()}


@every_workload
@pytest.mark.parametrize("scale", Scale)
def test_tables_know_all_parameters(name: str, scale: Scale) -> None:
    spec = registry.workload_spec(name).at(scale)
    in_jax, in_torch = (shapes(spec, framework) for framework in (Framework.JAX, Framework.PYTORCH))
    found = jax_to_torch(spec.model, {path: np.broadcast_to(np.float32(1), shape) for path, shape in in_jax.items()})
    assert {key: array.shape for key, array in found.items()} == in_torch
    # PyTorch's order, in which an LSTM's first biases have no row.
    order = dict.fromkeys(row.torch for row in weight_table(spec.model))
    assert list(order) == [key for key in in_torch if "bias_ih" not in key]


@every_workload
def test_nothing_is_lost(name: str) -> None:
    spec = registry.workload_spec(name).at(Scale.MINI)
    params = random(shapes(spec, Framework.JAX))
    found = jax_to_torch(spec.model, params)
    back = torch_to_jax(spec.model, found)
    assert back.keys() == params.keys()
    for path, array in params.items():
        np.testing.assert_array_equal(back[path], array, err_msg=path)
    with pytest.raises(ValueError, match="not the parameters of this model"):
        torch_to_jax(spec.model, {key: array for key, array in found.items() if key != "output.bias"})


def test_biases_of_lstms() -> None:
    """They are added to each other: the second one is all of it, their sum is JAX's, and they share gradients."""
    spec = registry.workload_spec("librispeech_deepspeech").at(Scale.MINI)
    arrays = random(shapes(spec, Framework.JAX))
    params, gradients = jax_to_torch(spec.model, arrays), jax_gradients_to_torch(spec.model, arrays)
    first, second = (f"recurrent.1.lstm.bias_{kind}_l0_reverse" for kind in ("ih", "hh"))
    gates = [arrays[f"BatchRNN_1/LSTM_0/backward/h{gate}/bias"] for gate in "ifgo"]
    assert (params[first] == 0).all()
    for array in (params[second], gradients[first], gradients[second]):
        np.testing.assert_array_equal(array, np.concatenate(gates))
    assert gradients.keys() == params.keys()
    params[first] = params[first] + 1
    back = torch_to_jax(spec.model, params)
    np.testing.assert_array_equal(back["BatchRNN_1/LSTM_0/backward/hf/bias"], gates[1] + 1)


@every_workload
def test_tables_know_all_statistics(name: str) -> None:
    for framework in Framework:
        require(framework)
    import jax
    from flax.traverse_util import flatten_dict

    spec = registry.workload_spec(name)
    in_jax, in_torch = (registry.make_workload(spec, framework) for framework in (Framework.JAX, Framework.PYTORCH))
    _, state = jax.eval_shape(in_jax.init_variables, jax.random.key(0))
    model = in_torch.build_model()
    table = statistics_table(spec.model)
    assert {row.jax for row in table} == (set() if state is None else flatten_dict(state, sep="/").keys())
    assert {row.torch for row in table} == {key for key, _ in model.named_buffers() if "running" in key}
