"""SpecAugment in PyTorch: what is hidden for given random numbers, how much on average, and when."""

from typing import Any

import numpy as np
import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import require
from algoperf_librispeech.spec import CONFORMER, DEEPSPEECH_NORM_AND_SPEC_AUG, SpecAugment

require(Framework.PYTORCH)

import torch  # noqa: E402
from speech_models_torch import EVAL, TRAIN, logits_of, make, make_batch  # noqa: E402

from algoperf.backends.pytorch import TorchBackend  # noqa: E402
from algoperf_librispeech.torch_spec_augment import Uniforms, draw, hide  # noqa: E402

LARGEST = 1 - 2.0**-24
BINS = 80


def hidden(spec: SpecAugment, lengths: list[int], num_frames: int, uniforms: Uniforms) -> np.ndarray:
    """Which features are set to zero, and others are kept."""
    features = torch.rand(len(lengths), num_frames, BINS) + 1
    paddings = (torch.arange(num_frames) >= torch.tensor(lengths)[:, None]).float()
    found = hide(features, paddings, spec, uniforms)
    is_hidden = found == 0
    assert torch.equal(found, features.masked_fill(is_hidden, 0.0))
    return is_hidden.numpy()


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
    torch.manual_seed(0)
    for _ in range(20):
        uniforms = draw(spec, len(lengths), torch.device("cpu"))
        found = hidden(spec, lengths, num_frames, uniforms)
        for row, length in enumerate(lengths):
            expected = plainly(spec, length, num_frames, [u[row].numpy() for u in uniforms])
            np.testing.assert_array_equal(found[row], expected)


@pytest.mark.parametrize(("length", "size"), [(20, 0), (21, 1), (59, 2), (400, 19), (401, 20)])
def test_the_largest_mask(length: int, size: int) -> None:
    """Largest random numbers: the longest run, at the end of what is real, and the highest bins."""
    spec = SpecAugment(num_time_masks=1, num_frequency_masks=1)
    found = hidden(spec, [length], 500, Uniforms(*(torch.full((1, 1), LARGEST) for _ in range(4))))[0]
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
    augment, lengths = spec.model.spec_augment, [1500] * 600
    torch.manual_seed(0)
    found = hidden(augment, lengths, 1500, draw(augment, len(lengths), torch.device("cpu")))
    frames, bins = found.all(axis=2), found.all(axis=1)
    assert frames.mean() == pytest.approx(time, abs=0.01)
    assert bins.mean() == pytest.approx(frequency, abs=0.02)
    # Each example has its own.
    assert min(len(np.unique(masks, axis=0)) for masks in (frames, bins)) > 570


def test_random_numbers_are_four_draws_of_the_seeded_generator() -> None:
    spec = SpecAugment(num_time_masks=2, num_frequency_masks=3)
    torch.manual_seed(3)
    uniforms = draw(spec, 5, torch.device("cpu"))
    torch.manual_seed(3)
    for name, number in (("time_sizes", 2), ("time_starts", 2), ("frequency_sizes", 3), ("frequency_starts", 3)):
        assert torch.equal(getattr(uniforms, name), torch.rand(5, number)), name


@pytest.mark.parametrize("name", ["librispeech_conformer", "librispeech_deepspeech"])
def test_the_step_decides_on_what_training_hides(name: str) -> None:
    spec = SpecAugment()
    case, shown = make(name, spec_augment=spec), make(name)
    batch, backend = make_batch(96, [90, 60]), TorchBackend()

    def logits(which: Any, mode: Any, step: int) -> torch.Tensor:
        backend.begin_step(0, step)
        with torch.no_grad():
            return logits_of(which, batch, mode)[0]

    assert torch.equal(logits(case, TRAIN, 1), logits(case, TRAIN, 1))
    assert not torch.equal(logits(case, TRAIN, 1), logits(case, TRAIN, 2))
    assert not torch.equal(logits(case, TRAIN, 1), logits(shown, TRAIN, 1))
    assert torch.equal(logits(case, EVAL, 1), logits(case, EVAL, 2))
    assert torch.equal(logits(case, EVAL, 1), logits(shown, EVAL, 1))
