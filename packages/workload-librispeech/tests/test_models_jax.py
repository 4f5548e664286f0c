"""What the goldens leave open, in JAX: dropout, errors, evaluation, types, initial values."""

import math
from functools import cache
from typing import Any

import numpy as np
import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import require
from algoperf_librispeech.spec import Conformer

require(Framework.JAX)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from flax import linen as nn  # noqa: E402
from flax.traverse_util import flatten_dict  # noqa: E402
from speech_models_jax import (  # noqa: E402
    EVAL,
    SPECS,
    TRAIN,
    VOCAB,
    WIDTH,
    Case,
    forward,
    make,
    make_batch,
    make_workload,
    small_spec,
)

from algoperf_librispeech import jax_conformer, jax_layers  # noqa: E402

BATCH = make_batch(64, [60, 33, 8, 0], [5, 3, 5, 0])
every_workload = pytest.mark.parametrize("name", SPECS)
every_model = pytest.mark.parametrize("name", ["librispeech_conformer", "librispeech_deepspeech"])
case_of = cache(make)


def trace(case: Case, mode: Any, rate: Any) -> None:
    """A forward pass without numbers."""
    arguments = (BATCH, case.state, mode, jax.random.key(0), mode is TRAIN, rate)
    jax.eval_shape(lambda params: case.workload.model_fn(params, *arguments)[0], case.params)


class Places:
    """Of dropout: the layer or activation whose output is dropped, or the width of what else is."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._outputs: dict[int, Any] = {}

    def intercept(self, call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        name = "/".join(context.module.path)
        output = call(*args, **kwargs)
        self._outputs[id(output)] = (name, output)
        return output

    def watched(self, activation: Any) -> Any:
        def call(x: jax.Array) -> jax.Array:
            y = activation(x)
            self._outputs[id(y)] = ("activation", y)
            return y

        return call

    def drop(self, x: jax.Array, rate: float, key: Any) -> jax.Array:
        name, _ = self._outputs.get(id(x), ("", None))
        self.found.append(f"after {name}" if name else str(x.shape[-1]))
        return x


@every_workload
def test_places_of_dropout(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, places = case_of(name), Places()
    monkeypatch.setattr(jax_layers, "dropout", places.drop)
    watched = {key: places.watched(activation) for key, activation in jax_layers.ACTIVATIONS.items()}
    monkeypatch.setattr(jax_conformer, "ACTIVATIONS", watched)
    with nn.intercept_methods(places.intercept):
        trace(case, TRAIN, 0.3)
    if isinstance(SPECS[name].model, Conformer):
        block = "ConformerBlock_0"
        # Behind the positions; then twice in a feed-forward module, of which the second is behind a mask.
        feed_forward = ["after activation", str(WIDTH)]
        attention, convolution = f"{block}/MultiHeadedSelfAttention_0/out", f"{block}/ConvolutionBlock_0/Dense_2"
        expected = [str(WIDTH), *feed_forward, f"after {attention}", f"after {convolution}", *feed_forward]
    else:
        expected = ["after Subsample_0/Dense_0", str(WIDTH)]
    assert places.found == expected


@every_model
def test_rates_of_dropout(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[Any] = []
    monkeypatch.setattr(jax_layers, "dropout", lambda x, rate, key: rates.append(rate) or x)
    for mode, rate, expected in ((TRAIN, 0.3, {0.3}), (TRAIN, None, {0.1}), (TRAIN, 0, set()), (EVAL, 0.3, set())):
        rates.clear()
        trace(case_of(name), mode, rate)
        assert set(rates) == expected


@every_model
def test_mode_and_key_decide_on_dropout(name: str) -> None:
    """The rate is traced in all of these."""
    case = case_of(name)

    def logits(mode: Any, rate: float, seed: int) -> np.ndarray:
        return np.asarray(forward(case, BATCH, mode, rate, seed=seed)[0][0])

    np.testing.assert_array_equal(logits(TRAIN, 0.4, 1), logits(TRAIN, 0.4, 1))
    assert abs(logits(TRAIN, 0.4, 1) - logits(TRAIN, 0.4, 2)).max() > 1e-2
    np.testing.assert_array_equal(logits(TRAIN, 0.0, 1), logits(TRAIN, 0.0, 2))
    np.testing.assert_array_equal(logits(EVAL, 0.4, 1), logits(EVAL, 0.0, 2))
    # The workload's own.
    np.testing.assert_allclose(forward(case, BATCH, TRAIN, None, seed=1)[0][0], logits(TRAIN, 0.1, 1), atol=1e-4)


@every_model
def test_eval_step(name: str) -> None:
    case = case_of(name)
    output = case.workload.compiled_eval_step(case.params, case.state, BATCH, None)
    (logits, paddings), _ = forward(case, BATCH)
    loss = case.workload.loss_fn(BATCH["targets"], (logits, paddings), BATCH["weights"])
    assert output.keys() == {"losses", "tokens", "predictions", "targets", "weights"}
    np.testing.assert_allclose(output["losses"], loss["per_example"], rtol=1e-5)
    # The third has two frames for five tokens, and the fourth is padding.
    assert output["tokens"].tolist() == [5, 3, 0, 0]
    assert (output["losses"] > 0).tolist() == [True, True, False, False]
    np.testing.assert_array_equal(output["predictions"], logits.argmax(axis=-1) * (paddings == 0))
    assert (output["predictions"] > 0).any()
    np.testing.assert_array_equal(output["targets"], BATCH["targets"][0])
    np.testing.assert_array_equal(output["weights"], BATCH["weights"])
    floats = dict.fromkeys(("losses", "tokens", "weights"), jnp.float32)
    assert {k: v.dtype for k, v in output.items()} == floats | dict.fromkeys(("predictions", "targets"), jnp.int32)


@every_model
def test_bad_input_is_refused(name: str) -> None:
    case = case_of(name)
    audio, paddings = BATCH["inputs"]
    for inputs in ((audio, paddings[:, 1:]), (audio[0], paddings[0]), (audio[:, :400], paddings[:, :400])):
        with pytest.raises(ValueError, match=r"needs audio and paddings of the same shape \[B, at least 401\], not \("):
            forward(case, {"inputs": inputs})
    (logits, _), _ = forward(case, {"inputs": (audio[:, :401], paddings[:, :401])})
    assert logits.shape == (4, 1, VOCAB)


def test_model_states_that_do_not_fit_are_refused() -> None:
    batch_norm, layer_norm = case_of("librispeech_conformer"), case_of("librispeech_deepspeech_norm_and_spec_aug")
    with pytest.raises(ValueError, match=r"has running statistics; pass them as model_state"):
        forward(batch_norm._replace(state=None), BATCH)
    with pytest.raises(ValueError, match=r"has no model state; pass None as model_state"):
        forward(layer_norm._replace(state={}), BATCH)


@every_workload
def test_output_parameters_are_those_of_the_last_layer(name: str) -> None:
    workload = make_workload(SPECS[name])
    assert [key for key in workload.param_shapes if workload.is_output_params(key)] == ["output"]


def test_positions_are_sines_and_cosines() -> None:
    found = jax_conformer.position_embedding(500, 512)
    rates = 10_000 ** -(np.arange(256) / 255)
    angles = np.arange(500)[:, None] * rates
    np.testing.assert_allclose(found, np.concatenate([np.sin(angles), np.cos(angles)], axis=1), atol=1e-6)
    assert found.dtype == np.float32


def check_initial(name: str, array: np.ndarray) -> None:
    layer = name.split("/")[-2]
    if layer in ("hi", "hf", "hg", "ho"):
        np.testing.assert_allclose(array @ array.T, np.eye(len(array)), atol=1e-5)
        return
    # As one matrix, whatever its axis of heads; a convolution's reaches over several places.
    columns = math.prod(array.shape[-2:]) if layer in ("query", "key", "value") else array.shape[-1]
    is_convolution = layer.startswith("Conv")
    receptive = math.prod(array.shape[:-2]) if is_convolution else 1
    if layer in ("ii", "if", "ig", "io"):
        # Normal, cut at two sigma.
        deviation, largest = array.shape[0] ** -0.5, 2 * array.shape[0] ** -0.5 / 0.8796256610342398
    else:
        largest = math.sqrt(6 / (array.size / columns + receptive * columns))
        deviation = largest / math.sqrt(3)
    tolerance = 5 / array.size**0.5
    assert abs(array.mean()) < deviation * tolerance, name
    assert array.std() == pytest.approx(deviation, rel=tolerance), name
    assert 0.95 * largest < abs(array).max() <= largest * (1 + 1e-6), name


@every_model
def test_initial_values(name: str) -> None:
    # Wide enough for statistics, and no two sizes are equal.
    sizes = {"width": 96, "subsampling_channels": 20, "vocab_size": 150}
    sizes |= {"mlp_dim": 200, "num_heads": 4} if isinstance(SPECS[name].model, Conformer) else {}
    workload = make_workload(small_spec(name, **sizes))
    init = jax.jit(workload.init_variables)
    (params, state), (other, _) = (jax.device_get(init(jax.random.key(seed))) for seed in (1, 2))
    arrays, others, firsts = flatten_dict(params, sep="/"), flatten_dict(other, sep="/"), set()
    for key, array in arrays.items():
        if not key.endswith("kernel"):
            # Biases, scales, which are stored less one, and the scale of queries.
            assert (array == 0).all(), key
            continue
        check_initial(key, array)
        firsts.add(array.ravel()[0])
        assert abs(array - others[key]).max() > 1e-3, key
    # No two are copies.
    assert len(firsts) == sum(key.endswith("kernel") for key in arrays)
    for key, array in flatten_dict(state, sep="/").items():
        assert (array == float(key.endswith("var"))).all()


@every_model
def test_parameters_of_a_shorter_type_are_computed_in_it(name: str) -> None:
    case = case_of(name)
    short = jax.tree.map(lambda array: array.astype(jnp.bfloat16), case.params)
    for mode in (TRAIN, EVAL):
        (logits, _), state = case.workload.model_fn(short, BATCH, case.state, mode, jax.random.key(0), mode is TRAIN)
        assert jnp.isfinite(logits).all()
        # What a step returns has the types that it was given.
        new, old = (jax.tree.map(lambda array: array.dtype.name, tree) for tree in (state, case.state))
        assert new == old
