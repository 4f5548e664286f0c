"""The CTC loss in JAX: against sums over all alignments, and what does not count."""

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

require(Framework.JAX)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402
from speech_models_jax import SPECS, make_workload  # noqa: E402

from algoperf_librispeech.jax_ctc import ctc_losses  # noqa: E402

NUM_FRAMES, VOCAB = 5, 4
# Of frames and tokens: a usual one, equal neighbours with a frame between them, one token per frame, no token, nothing.
LENGTHS = [(5, 2), (5, 3), (4, 3), (2, 2), (3, 0), (0, 0)]
IDS = [[1, 3, 0], [2, 2, 1], [3, 1, 2], [1, 2, 0], [0, 0, 0], [0, 0, 0]]
# Those which do not fit: too few frames, or none between equal neighbours, or none at all.
UNFIT_LENGTHS = [(2, 3), (2, 2), (0, 1)]
UNFIT_IDS = [[1, 2, 3], [2, 2, 0], [1, 0, 0]]


def padded(lengths: Any, size: int) -> np.ndarray:
    return (np.arange(size) >= np.array(lengths)[:, None]).astype(np.float32)


def examples(lengths: list[tuple[int, int]], ids: list[list[int]]) -> tuple[Any, Any]:
    frames, tokens = zip(*lengths, strict=True)
    logits = np.random.default_rng(0).standard_normal((len(lengths), NUM_FRAMES, VOCAB), np.float32)
    return (np.array(ids, np.int32), padded(tokens, 3)), (logits, padded(frames, NUM_FRAMES))


LABELS, LOGITS = examples(LENGTHS, IDS)
ALL_LABELS, ALL_LOGITS = examples(LENGTHS + UNFIT_LENGTHS, IDS + UNFIT_IDS)


def plain_loss(logits: np.ndarray, tokens: list[int]) -> float:
    """Minus the logarithm of the sum over all ways to say the tokens, [T, V]."""
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    total = 0.0
    for path in itertools.product(range(VOCAB), repeat=len(logits)):
        said = [token for token, _ in itertools.groupby(path) if token != 0]
        if said == tokens:
            total += np.prod([row[token] for row, token in zip(probabilities, path, strict=True)])
    return -np.log(total)


@cache
def workload() -> Any:
    return make_workload(SPECS["librispeech_conformer"])


def loss_fn(*arrays: Any, **options: Any) -> dict[str, Any]:
    return jax.device_get(jax.jit(lambda *arrays: workload().loss_fn(*arrays, **options))(*arrays))


def gradient(labels: Any, logits: Any, mask: Any = None) -> np.ndarray:
    """Of the mean loss of a token."""

    def mean_loss(array: Any) -> Any:
        loss = workload().loss_fn(labels, (array, logits[1]), mask)
        return loss["summed"] / loss["n_valid_examples"]

    return np.asarray(jax.jit(jax.grad(mean_loss))(logits[0]))


def test_losses_are_sums_over_alignments() -> None:
    loss = loss_fn(LABELS, LOGITS)
    expected = [
        plain_loss(logits[:frames].astype(np.float64), ids[:tokens])
        for (frames, tokens), ids, logits in zip(LENGTHS, IDS, LOGITS[0], strict=True)
    ]
    np.testing.assert_allclose(loss["per_example"], expected, rtol=1e-5, atol=1e-7)
    assert expected[-1] == 0
    np.testing.assert_allclose(loss["summed"], loss["per_example"].sum(), rtol=1e-6)
    assert loss["n_valid_examples"] == 2 + 3 + 3 + 2
    assert {value.dtype for value in loss.values()} == {np.dtype(np.float32)}


def test_gradients_are_those_of_the_sums() -> None:
    with jax.enable_x64(True):
        logits, paddings, mask = LOGITS[0].astype(np.float64), LOGITS[1], np.ones(len(LENGTHS))
        check_grads(lambda x: ctc_losses(LABELS, (x, paddings), mask)[0], (logits,), order=1, modes=["rev"])


def test_what_does_not_fit_does_not_count() -> None:
    usual, loss = loss_fn(LABELS, LOGITS), loss_fn(ALL_LABELS, ALL_LOGITS)
    assert loss["n_valid_examples"] == usual["n_valid_examples"]
    assert loss["per_example"][len(LENGTHS) :].tolist() == [0, 0, 0]
    number = len(LENGTHS)
    found = gradient(ALL_LABELS, ALL_LOGITS)
    assert (found[number:] == 0).all()
    fitting = ((ALL_LABELS[0][:number], ALL_LABELS[1][:number]), (ALL_LOGITS[0][:number], ALL_LOGITS[1][:number]))
    np.testing.assert_allclose(found[:number], gradient(*fitting), rtol=1e-5, atol=1e-7)


def test_padding_does_not_count() -> None:
    """Neither ids behind a transcript, equal neighbours though they be, nor logits behind the real frames."""
    ids, array = LABELS[0].copy(), LOGITS[0].copy()
    for row, (frames, tokens) in enumerate(LENGTHS):
        ids[row, tokens:] = ids[row, tokens - 1] if tokens else 3
        array[row, frames:] = 100.0
    found = loss_fn((ids, LABELS[1]), (array, LOGITS[1]))
    np.testing.assert_allclose(found["per_example"], loss_fn(LABELS, LOGITS)["per_example"], rtol=1e-6)
    assert found["n_valid_examples"] == 10


def test_nothing_counts_as_one() -> None:
    labels, logits = (LABELS[0][-2:], np.ones((2, 3))), (LOGITS[0][-2:], np.ones((2, NUM_FRAMES)))
    loss = loss_fn(labels, logits)
    assert (loss["summed"], loss["n_valid_examples"]) == (0, 1)
    assert (gradient(labels, logits) == 0).all()


@pytest.mark.parametrize("kind", [np.float32, np.bool_])
def test_masked_examples_do_not_count_whatever_they_hold(kind: Any) -> None:
    mask = np.array([1, 0, 0, 1, 1, 1]).astype(kind)
    ids, array = LABELS[0].copy(), LOGITS[0].copy()
    ids[1], array[1] = 1_000_000, np.nan
    ids[2], array[2] = -5, np.inf
    labels, logits = (ids, LABELS[1]), (array, LOGITS[1])
    loss, whole = loss_fn(labels, logits, mask), loss_fn(LABELS, LOGITS)
    np.testing.assert_allclose(loss["per_example"], whole["per_example"] * mask, rtol=1e-6)
    assert loss["n_valid_examples"] == 4
    assert {value.dtype for value in loss.values()} == {np.dtype(np.float32)}
    found = gradient(labels, logits, mask)
    assert (found[1:3] == 0).all()
    np.testing.assert_allclose(found[0], gradient(LABELS, LOGITS)[0] * 10 / 4, rtol=1e-5, atol=1e-7)


def test_masks_multiply_losses_and_tokens() -> None:
    mask = np.array([0.5, 1, 0, 2, 1, 1], np.float32)
    loss, whole = loss_fn(LABELS, LOGITS, mask), loss_fn(LABELS, LOGITS)
    np.testing.assert_allclose(loss["per_example"], whole["per_example"] * mask, rtol=1e-6)
    assert loss["n_valid_examples"] == 1 + 3 + 4


def test_label_smoothing_and_unknown_options_change_nothing() -> None:
    loss, other = loss_fn(LABELS, LOGITS), loss_fn(LABELS, LOGITS, label_smoothing=0.3, unheard_of=1)
    for name, value in loss.items():
        np.testing.assert_array_equal(value, other[name])


def test_short_types_are_computed_in_float32() -> None:
    array = jnp.asarray(LOGITS[0], jnp.bfloat16)
    loss = loss_fn(LABELS, (array, LOGITS[1]))
    assert {value.dtype for value in loss.values()} == {np.dtype(np.float32)}
    expected = loss_fn(LABELS, (array.astype(jnp.float32), LOGITS[1]))
    np.testing.assert_array_equal(loss["per_example"], expected["per_example"])


def test_what_does_not_fit_together_is_refused() -> None:
    (ids, id_paddings), (logits, paddings) = LABELS, LOGITS
    wrong = [
        ((ids, id_paddings[:, :2]), LOGITS),
        ((ids[0], id_paddings[0]), LOGITS),
        ((ids[:2], id_paddings[:2]), LOGITS),
        (LABELS, (logits, paddings[:, :2])),
        (LABELS, (logits[..., 0], paddings)),
        (LABELS, LOGITS, np.ones(5)),
        (LABELS, LOGITS, np.ones((6, 3))),
    ]
    for arrays in wrong:
        with pytest.raises(ValueError, match=r"Labels and paddings \[B, L\], logits .* are needed; they have the"):
            loss_fn(*arrays)
