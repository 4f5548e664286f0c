"""Padding in JAX: padded frames, samples and utterances change nothing, in training and in evaluation."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

require(Framework.JAX)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from speech_models_jax import TRAIN, forward, loss_and_gradients, make, make_batch  # noqa: E402

from algoperf_librispeech import jax_layers, jax_spec_augment  # noqa: E402
from algoperf_librispeech.jax_deepspeech import BidirectionalLSTM  # noqa: E402
from algoperf_librispeech.log_mel import FRAME_STEP  # noqa: E402
from algoperf_librispeech.spec import SpecAugment  # noqa: E402

# Other variants treat padding as these do.
NAMES = ["librispeech_conformer", "librispeech_deepspeech", "librispeech_deepspeech_norm_and_spec_aug"]
every_model = pytest.mark.parametrize("name", NAMES)

# Some padding is behind each utterance: the convolutions see silence there, and zeros behind the last frame.
BATCH = make_batch(96, [90, 61], [5, 3])


def padded(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with two more rows, the first and the last, and longer ones, where there is noise but no audio."""
    # Of four steps, so that "SAME" pads frames as before.
    audio, paddings = (
        np.pad(array, ((1, 1), (0, 8 * FRAME_STEP)), constant_values=value)
        for array, value in zip(batch["inputs"], (0, 1), strict=True)
    )
    audio = np.where(paddings > 0, 9000 * np.random.default_rng(1).standard_normal(audio.shape, np.float32), audio)
    targets = tuple(
        np.pad(array, ((1, 1), (0, 2)), constant_values=value)
        for array, value in zip(batch["targets"], (0, 1), strict=True)
    )
    return {"inputs": (audio, paddings), "targets": targets, "weights": np.pad(batch["weights"], 1)}


def drawn(key: Any, batch_size: int, spec: Any) -> Any:
    """Random numbers that hide the same of the two utterances in both batches."""
    rng, rows = np.random.default_rng(0), (batch_size - 2) // 2
    numbers = (spec.num_time_masks, spec.num_time_masks, spec.num_frequency_masks, spec.num_frequency_masks)
    return jax_spec_augment.Uniforms(*(np.pad(rng.random((2, n), np.float32), ((rows, rows), (0, 0))) for n in numbers))


def empty() -> Any:
    """As many rows, of nothing but padding."""
    return jax.tree.map(lambda array: array[[0, 0, -1, -1]], padded(BATCH))


case_of = cache(make)


@cache
def trained(name: str) -> list[Any]:
    """A training step on the batch, on the padded one, and on padding alone."""
    case = case_of(name, spec_augment=SpecAugment())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax_spec_augment, "draw", drawn)
        return [loss_and_gradients(case, batch, TRAIN) for batch in (BATCH, padded(BATCH), empty())]


@every_model
def test_padding_changes_nothing_in_training(name: str) -> None:
    parts = []
    for (loss, ((logits, paddings), state)), gradients in trained(name)[:2]:
        assert (logits[paddings > 0] == 0).all()
        assert paddings.shape == logits.shape[:2]
        parts.append((logits[paddings == 0], loss, gradients, state))
    (logits, loss, gradients, state), (others, other_loss, other_gradients, other_state) = parts
    # A quarter of the frames, rounded up.
    assert len(logits) == len(others) == 23 + 16
    np.testing.assert_allclose(others, logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other_loss, loss, rtol=1e-5)
    assert jax.tree.structure(other_gradients) == jax.tree.structure(gradients)
    for found, expected in zip(jax.tree.leaves(other_gradients), jax.tree.leaves(gradients), strict=True):
        assert np.linalg.norm(found - expected) < 1e-4 * max(np.linalg.norm(expected), 0.1)
    for found, expected in zip(jax.tree.leaves(other_state), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@every_model
def test_padding_changes_nothing_in_evaluation(name: str) -> None:
    case = case_of(name, spec_augment=SpecAugment())
    (logits, paddings), (others, other_paddings) = (forward(case, batch)[0] for batch in (BATCH, padded(BATCH)))
    assert (others[other_paddings > 0] == 0).all()
    np.testing.assert_allclose(others[other_paddings == 0], logits[paddings == 0], rtol=1e-4, atol=1e-5)
    losses = [
        case.workload.loss_fn(batch["targets"], output, batch["weights"])
        for batch, output in ((BATCH, (logits, paddings)), (padded(BATCH), (others, other_paddings)))
    ]
    np.testing.assert_allclose(losses[1]["per_example"], [0, *losses[0]["per_example"], 0], rtol=1e-5)
    assert losses[0]["n_valid_examples"] == losses[1]["n_valid_examples"] == 8


@every_model
def test_padding_alone_is_harmless(name: str) -> None:
    case = case_of(name, spec_augment=SpecAugment())
    (loss, ((logits, paddings), state)), gradients = trained(name)[2]
    assert (paddings == 1).all()
    assert (logits == 0).all()
    assert loss == 0
    for gradient in jax.tree.leaves(gradients):
        assert (gradient == 0).all()
    assert all(np.isfinite(array).all() for array in jax.tree.leaves(state))
    evaluated = case.workload.compiled_eval_step(case.params, case.state, empty(), None)
    assert all((array == 0).all() for array in evaluated.values())


@pytest.mark.parametrize("shape", [(9, 5), (10, 6), (11, 4), (12, 1)])
def test_a_product_is_the_convolution(shape: tuple[int, int]) -> None:
    """And both are plain sums over a frame and a bin, their neighbours and zeros outside, at every second one."""
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, *shape, 3)), rng.standard_normal((3, 3, 3, 4))
    halves = [-(-size // 2) for size in shape]
    # The smaller part of the zeros comes first.
    before = [max((half - 1) * 2 + 3 - size, 0) // 2 for half, size in zip(halves, shape, strict=True)]
    zeros = np.pad(x, ((0, 0), (before[0], 3), (before[1], 3), (0, 0)))
    expected = np.zeros((2, *halves, 4))
    for t, k in np.ndindex(*halves):
        window = zeros[:, 2 * t : 2 * t + 3, 2 * k : 2 * k + 3]
        expected[:, t, k] = np.einsum("btkc,tkcd->bd", window, kernel)
    with jax.enable_x64(True):
        results = []
        for function in (jax_layers.strided_convolution, jax_layers.strided_product):
            np.testing.assert_allclose(function(x, kernel), expected, rtol=1e-10, atol=1e-10)
            results.append(jax.vjp(function, x, kernel)[1](expected))
        for one, other in zip(*results, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("num_channels", "is_product"), [(127, False), (128, True)])
def test_products_are_for_many_channels(num_channels: int, is_product: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if jax.default_backend() != "cpu":
        pytest.skip("is about CPUs")
    monkeypatch.setattr(jax_layers, "strided_product", lambda x, kernel: jnp.zeros(7))
    x = jnp.ones((1, 2, 2, num_channels))
    output = jax.eval_shape(lambda: jax_layers.StridedConv(7).init_with_output(jax.random.key(0), x)[0])
    assert (output.shape == (7,)) == is_product


@pytest.mark.parametrize("num_frames", [5, 6, 7, 8])
def test_subsampling_flattens_frequencies_first(num_frames: int) -> None:
    """Half, twice; padding is 0 between the convolutions and behind them."""
    rng = np.random.default_rng(0)
    small = jax_layers.Subsampling(make("librispeech_conformer").workload.spec.model, "tanh")
    x = rng.standard_normal((2, num_frames, 80)).astype(np.float32)
    paddings = (np.arange(num_frames) >= np.array([[num_frames], [4]])).astype(np.float32)
    variables = small.init(jax.random.key(0), x, paddings)
    params = jax.tree.map(lambda p: p + 0.1, variables["params"])
    found, found_paddings = small.apply({"params": params}, x, paddings)
    y = x[..., None]
    for number in range(2):
        conv = params[f"Conv2dSubsampling_{number}"]
        paddings = paddings[:, ::2]
        y = jnp.tanh(jax_layers.strided_convolution(y, conv["kernel"]) + conv["bias"]) * (1 - paddings)[..., None, None]
    flat = jnp.concatenate([y[:, :, k] for k in range(20)], axis=-1)
    expected = flat @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found_paddings, paddings)
    assert found.shape[1] == -(-num_frames // 4)


def plain_lstm(params: Any, x: np.ndarray) -> np.ndarray:
    """One direction over all of [T, W], in numpy."""
    sigmoid = lambda array: 1 / (1 + np.exp(-array))  # noqa: E731
    cell = output = np.zeros(params["hi"]["bias"].shape)
    outputs = []
    for row in x:
        i, f, g, o = (
            row @ params[f"i{gate}"]["kernel"] + output @ params[f"h{gate}"]["kernel"] + params[f"h{gate}"]["bias"]
            for gate in "ifgo"
        )
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        output = sigmoid(o) * np.tanh(cell)
        outputs.append(output)
    return np.array(outputs)


def test_each_direction_begins_and_ends_at_what_is_real() -> None:
    rng = np.random.default_rng(0)
    lengths, size = [7, 4, 1, 0], 7
    x = rng.standard_normal((len(lengths), size, 6))
    mask = (np.arange(size) < np.array(lengths)[:, None])[..., None].astype(np.float64)
    with jax.enable_x64(True):
        params = BidirectionalLSTM().init(jax.random.key(0), x, mask)["params"]
        params = jax.tree.map(lambda p: 2 * p + rng.standard_normal(p.shape), params)
        found = np.asarray(BidirectionalLSTM().apply({"params": params}, x, mask))
        gradient = np.asarray(jax.grad(lambda x: BidirectionalLSTM().apply({"params": params}, x, mask).sum())(x))
    params = jax.device_get(params)
    for row, length in enumerate(lengths):
        ahead = plain_lstm(params["forward"], x[row, :length]).reshape(length, 3)
        back = plain_lstm(params["backward"], x[row, :length][::-1])[::-1].reshape(length, 3)
        np.testing.assert_allclose(found[row, :length], np.concatenate([ahead, back], axis=1), rtol=1e-9, atol=1e-9)
        assert (found[row, length:] == 0).all()
        assert (gradient[row, length:] == 0).all()
        assert (gradient[row, :length] != 0).all()
