"""Images of kept columns: reference numbers, and the plain formula in float64."""

import json
from pathlib import Path

import numpy as np
import pytest

from algoperf_fastmri.masks import evaluation_mask
from algoperf_fastmri.reconstruction import normalise, zero_filled
from algoperf_fastmri.spec import Scans

GOLDEN = json.loads((Path(__file__).parent / "golden" / "reconstruction.json").read_text())
SHAPES = [
    (20, 16, 12),
    (21, 17, 12),
    (21, 17, 13),
    (20, 17, 13),
    (12, 12, 12),
    (13, 13, 13),
    (13, 30, 1),
    (640, 368, 320),
    (640, 372, 320),
]
# Of float32, in units of the largest pixel.
ROUNDING = 6e-7


def hash_uniform(count, index):
    """The numbers in [-1, 1) that the reference was given."""
    bits = np.uint64(0xFFFFFFFF)
    h = (np.arange(count, dtype=np.uint64) * np.uint64(2_654_435_761) + np.uint64(index * 40_503 + 12_345)) & bits
    for _ in range(2):
        h ^= h >> np.uint64(16)
        h = (h * np.uint64(0x045D9F3B)) & bits
    h ^= h >> np.uint64(16)
    return (2 * (h / 2**32) - 1).astype(np.float32)


def measured(height, width, seed=0):
    """Random k-space, and random columns to keep."""
    rng = np.random.default_rng(seed)
    kspace = rng.normal(size=(height, width)) + 1j * rng.normal(size=(height, width))
    return (kspace * 1e-5).astype(np.complex64), rng.random(width) < 0.4


def plain(kspace, mask, size):
    """The formula as it is written, in float64."""
    masked = kspace.astype(np.complex128) * mask
    image = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(masked), norm="ortho"))
    top, left = ((length - size) // 2 for length in image.shape)
    return np.abs(image[top : top + size, left : left + size])


def normalised(image, target):
    inputs, targets = np.empty_like(image), np.empty_like(image)
    return normalise(image, target, inputs, targets), inputs, targets


def test_an_example_is_the_reference_s():
    kspace = ((hash_uniform(640 * 368, 11) + 1j * hash_uniform(640 * 368, 12)) * 1e-4).astype(np.complex64)
    target = (np.abs(hash_uniform(320 * 320, 13)) * 1e-3).astype(np.float32).reshape(320, 320)
    image = zero_filled(kspace.reshape(640, 368), evaluation_mask(368, Scans()), 320)
    scale, inputs, targets = normalised(image, target)
    np.testing.assert_allclose([scale.mean, scale.std], [GOLDEN["mean"], GOLDEN["std"]], rtol=2e-7)
    # Both transforms round in float32, the reference's by up to 3.4e-7 (of a standard deviation) in these pixels.
    np.testing.assert_allclose(inputs.ravel()[:8], GOLDEN["inputs_first8"], rtol=0, atol=1e-6)
    # One unit in the last place.
    np.testing.assert_allclose(targets.ravel()[:8], GOLDEN["targets_first8"], rtol=2.5e-7)
    assert inputs.mean() == pytest.approx(GOLDEN["inputs_mean"], abs=1e-6)
    assert np.abs(inputs).max() == pytest.approx(GOLDEN["inputs_absmax"], rel=2e-7)


@pytest.mark.parametrize(("height", "width", "size"), SHAPES)
def test_an_image_is_what_the_formula_says(height, width, size):
    kspace, mask = measured(height, width)
    before = kspace.copy()
    image = zero_filled(kspace, mask, size)
    expected = plain(kspace, mask, size)
    assert (image.shape, image.dtype) == ((size, size), np.float32)
    np.testing.assert_allclose(image, expected, rtol=0, atol=ROUNDING * expected.max())
    np.testing.assert_array_equal(kspace, before)


@pytest.mark.parametrize(("height", "width", "size"), SHAPES)
def test_all_columns_give_back_the_image_that_was_measured(height, width, size):
    rng = np.random.default_rng(1)
    image = rng.random((height, width))
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image), norm="ortho")).astype(np.complex64)
    top, left = (height - size) // 2, (width - size) // 2
    found = zero_filled(kspace, np.ones(width, bool), size)
    # Of float32, k-space included, whose lowest frequency is far larger than the others.
    np.testing.assert_allclose(found, image[top : top + size, left : left + size], atol=2e-6)


def test_no_columns_give_a_black_image():
    kspace, _ = measured(20, 16)
    assert not zero_filled(kspace, np.zeros(16, bool), 12).any()


@pytest.mark.parametrize(("height", "width"), [(11, 16), (16, 11)])
def test_k_space_that_is_smaller_than_the_image_is_refused(height, width):
    kspace, mask = measured(height, width)
    with pytest.raises(ValueError, match=f"k-space of {height} x {width} gives no image of 12 x 12"):
        zero_filled(kspace, mask, 12)


def test_both_images_are_normalised_with_the_mean_and_deviation_of_the_first():
    rng = np.random.default_rng(2)
    image, target = (rng.random((2, 40, 40)) * 1e-5).astype(np.float32)
    scale, inputs, targets = normalised(image, target)
    assert (inputs.dtype, targets.dtype) == (np.float32, np.float32)
    exact = image.astype(np.float64)
    assert scale.mean == pytest.approx(exact.mean(), rel=3e-7)
    assert scale.std == pytest.approx(exact.std(), rel=3e-7)
    for found, source in ((inputs, image), (targets, target)):
        expected = np.clip((source.astype(np.float64) - exact.mean()) / exact.std(), -6, 6)
        np.testing.assert_allclose(found, expected, atol=2e-6)
    # The numbers give the images back, to what float32 has of the largest pixel.
    np.testing.assert_allclose(targets * scale.std + scale.mean, target, rtol=0, atol=2e-7 * target.max())


def test_what_is_beyond_six_deviations_is_clipped():
    image = np.random.default_rng(3).normal(5, 1, (40, 40)).astype(np.float32)
    target = image.copy()
    image[0, 0], target[0, :2] = 1_000, [-1_000, 1_000]
    _, inputs, targets = normalised(image, target)
    assert inputs[0, 0] == 6
    assert targets[0, :2].tolist() == [-6, 6]
    assert np.abs(inputs).max() == np.abs(targets).max() == 6


def test_an_image_of_one_grey_gives_no_nan():
    """Such as of a slice in which nothing was measured."""
    target = np.random.default_rng(4).random((320, 320)).astype(np.float32)
    # The mean of so many numbers that are not round is not quite the number.
    for grey in (0, 0.25, 0.1, 3e-5):
        scale, inputs, targets = normalised(np.full((320, 320), grey, np.float32), target)
        assert scale == (pytest.approx(grey, rel=1e-6), 1)
        np.testing.assert_allclose(inputs, 0, atol=1e-6 * grey)
        np.testing.assert_allclose(targets, target - np.float32(grey), atol=1e-6 * grey)
