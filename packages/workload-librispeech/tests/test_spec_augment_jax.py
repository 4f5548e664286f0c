"""SpecAugment in JAX: what is hidden for given random numbers, how much on average, and when."""

from typing import Any

import numpy as np
import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import require
from algoperf_librispeech.spec import CONFORMER, DEEPSPEECH_NORM_AND_SPEC_AUG, SpecAugment

require(Framework.JAX)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from speech_models_jax import EVAL, TRAIN, Case, forward, make, make_batch, make_workload, small_spec  # noqa: E402

from algoperf_librispeech.jax_spec_augment import Uniforms, draw, masks, spec_augment  # noqa: E402

LARGEST = 1 - 2.0**-24
BINS = 80


def hidden(spec: SpecAugment, lengths: list[int], num_frames: int, uniforms: Uniforms) -> np.ndarray:
    """Which features are hidden, [B, num_frames, BINS]."""
    frames, bins = masks(uniforms, jnp.array(lengths, jnp.float32), (num_frames, BINS), spec)
    return np.asarray(frames[:, :, None] | bins[:, None, :])


def plainly(spec: SpecAugment, length: int, num_frames: int, uniforms: list[np.ndarray]) -> np.ndarray:
    """What one example hides, one mask after the other."""
    mask = np.zeros((num_frames, BINS), bool)
    time_sizes, time_starts, frequency_sizes, frequency_starts = (u.astype(np.float64) for u in uniforms)
    for size, start in zip(time_sizes, time_starts, strict=True):
        longest = spec.max_time_share * length
        size = min(int(size * longest), max(int(longest), 1))
        start = int(start * (length - size + 1))
        mask[start : start + size] = True
    for size, start in zip(frequency_sizes, frequency_starts, strict=True):
        size = int(size * spec.max_frequency_bins)
        start = int(start * (BINS - size + 1))
        mask[:, start : start + size] = True
    return mask


def test_given_random_numbers_say_what_is_hidden() -> None:
    spec, lengths, num_frames = SpecAugment(num_time_masks=3), [0, 19, 20, 150, 333, 400], 400
    for seed in range(20):
        uniforms = draw(jax.random.key(seed), len(lengths), spec)
        found = hidden(spec, lengths, num_frames, uniforms)
        for row, length in enumerate(lengths):
            expected = plainly(spec, length, num_frames, [np.asarray(u[row]) for u in uniforms])
            np.testing.assert_array_equal(found[row], expected)


@pytest.mark.parametrize(("length", "size"), [(20, 0), (21, 1), (59, 2), (400, 19), (401, 20)])
def test_the_largest_mask(length: int, size: int) -> None:
    """Largest random numbers: the longest run, at the end of what is real, and the highest bins."""
    spec = SpecAugment(num_time_masks=1, num_frequency_masks=1)
    found = hidden(spec, [length], 500, Uniforms(*(jnp.full((1, 1), LARGEST) for _ in range(4))))[0]
    frames, bins = found.all(axis=1), found.all(axis=0)
    assert frames.sum() == size
    assert frames[length - size : length].all()
    # Never all that it is given, and in padded frames too.
    assert bins.sum() == 26
    assert bins[-26:].all()
    assert found.sum() == size * BINS + 26 * (500 - size)


@pytest.mark.parametrize(
    ("spec", "time", "frequency"), [(CONFORMER, 0.223, 0.302), (DEEPSPEECH_NORM_AND_SPEC_AUG, 0.315, 0.496)]
)
def test_shares_that_are_hidden(spec: Any, time: float, frequency: float) -> None:
    augment, size = spec.model.spec_augment, 600
    frames, bins = masks(draw(jax.random.key(0), size, augment), jnp.full(size, 1500.0), (1500, BINS), augment)
    assert frames.mean() == pytest.approx(time, abs=0.01)
    assert bins.mean() == pytest.approx(frequency, abs=0.02)
    # Each example has its own.
    assert min(len(np.unique(rows, axis=0)) for rows in (frames, bins)) > 570


def test_no_two_draws_are_the_same() -> None:
    spec = SpecAugment(num_time_masks=2, num_frequency_masks=2)
    draws = [draw(jax.random.key(seed), 5, spec) for seed in (3, 3, 4)]
    for one, same in zip(draws[0], draws[1], strict=True):
        np.testing.assert_array_equal(one, same)
    assert len({array.tobytes() for array in map(np.asarray, (*draws[0], *draws[2]))}) == 8
    assert {array.shape for array in draws[0]} == {(5, 2)}


def test_what_is_hidden_is_the_mean() -> None:
    spec, key = SpecAugment(), jax.random.key(0)
    features = 1 + jax.random.uniform(key, (2, 300, BINS))
    paddings = jnp.arange(300) >= jnp.array([[300], [200]])
    found = np.asarray(spec_augment(features, paddings.astype(jnp.float32), spec, key))
    expected = hidden(spec, [300, 200], 300, draw(key, 2, spec))
    np.testing.assert_array_equal(found, np.where(expected, 0, features))
    # Masks in time lie in what is real; those of bins do not hide everything.
    assert not expected[1, 200:].all(axis=1).any()
    assert expected[1, :200].all(axis=1).any()


@pytest.mark.parametrize("name", ["librispeech_conformer", "librispeech_deepspeech"])
def test_the_key_decides_on_what_training_hides(name: str) -> None:
    shown = make(name)
    case = Case(make_workload(small_spec(name, spec_augment=SpecAugment())), shown.params, shown.state)
    batch = make_batch(96, [90, 60])

    def logits(which: Case, mode: Any, seed: int) -> np.ndarray:
        return np.asarray(forward(which, batch, mode, seed=seed)[0][0])

    first = logits(case, TRAIN, 1)
    np.testing.assert_array_equal(first, logits(case, TRAIN, 1))
    assert (first != logits(case, TRAIN, 2)).any()
    assert (first != logits(shown, TRAIN, 1)).any()
    np.testing.assert_array_equal(logits(case, EVAL, 1), logits(case, EVAL, 2))
    np.testing.assert_array_equal(logits(case, EVAL, 1), logits(shown, EVAL, 1))
