"""Structural similarity, against scikit-image in float64 and numbers of the public implementation."""

from functools import cache

import numpy as np
import pytest
from fastmri_goldens import BLENDED_SSIM, golden_batch
from fastmri_models import Jax, Torch, make
from skimage.metrics import structural_similarity

from algoperf.spec import Framework
from algoperf.testing.frameworks import BOTH
from algoperf_fastmri.spec import FASTMRI

every_framework = pytest.mark.parametrize("framework", BOTH)
# Images of a scanner are of this order.
SCALARS = {"mean": 2e-5, "std": 3e-5, "volume_max": 4e-4}

# Targets have six digits.
EXACT = 1e-6


@cache
def made(framework: Framework) -> Jax | Torch:
    return make(framework, FASTMRI)


def knees(num: int, size: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and targets [num, size, size], of the order of normalised images: smooth, bright within a disc."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : 1j * size, -1 : 1 : 1j * size]
    targets = np.stack([2 * np.cos(3 * x + i) * np.sin(5 * y) + 3 for i in range(num)]) * (x**2 + y**2 < 0.7) - 0.6
    targets += noise * rng.normal(size=targets.shape)
    outputs = 0.9 * targets + noise * rng.normal(size=targets.shape)
    return outputs.astype(np.float32), targets.astype(np.float32)


def similarities(framework: Framework, outputs: np.ndarray, targets: np.ndarray, **scalars: float) -> np.ndarray:
    arrays = (np.full(len(outputs), (SCALARS | scalars)[key], np.float32) for key in SCALARS)
    return made(framework).ssim(outputs, targets, *arrays)


def exact(outputs: np.ndarray, targets: np.ndarray, mean: float, std: float, volume_max: float) -> list[float]:
    """Of the images as measured, in float64."""
    pairs = ((image.astype(np.float64) * std + mean for image in pair) for pair in zip(outputs, targets, strict=True))
    return [structural_similarity(*pair, data_range=volume_max) for pair in pairs]


@every_framework
@pytest.mark.parametrize("noise", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("unit", [1e-6, 1, 1e6], ids=str)
def test_it_is_that_of_scikit_image(framework: Framework, noise: float, unit: float) -> None:
    """Whatever the unit: smooth images too, whose windows have hardly any variance beside their mean."""
    outputs, targets = knees(3, 64, noise)
    scalars = {name: float(np.float32(value * unit)) for name, value in SCALARS.items()}
    found = similarities(framework, outputs, targets, **scalars)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact(outputs, targets, **scalars), rtol=0, atol=EXACT)


@every_framework
def test_large_images_lose_no_digits(framework: Framework) -> None:
    outputs, targets = knees(2, 320, 0.1)
    found = similarities(framework, outputs, targets)
    np.testing.assert_allclose(found, exact(outputs, targets, **SCALARS), rtol=0, atol=EXACT)


@every_framework
def test_windows_that_hardly_vary_beside_their_mean_lose_no_digits(framework: Framework) -> None:
    outputs, targets = knees(2, 64, 0.1)
    scalars = SCALARS | {"mean": 100 * SCALARS["std"]}
    found = similarities(framework, outputs, targets, **scalars)
    np.testing.assert_allclose(found, exact(outputs, targets, **scalars), rtol=0, atol=EXACT)


@every_framework
def test_images_need_not_be_square(framework: Framework) -> None:
    outputs, targets = (images[:, :33, :50] for images in knees(2, 64, 0.3))
    found = similarities(framework, outputs, targets)
    np.testing.assert_allclose(found, exact(outputs, targets, **SCALARS), rtol=0, atol=EXACT)


@every_framework
def test_it_is_that_of_the_public_implementation(framework: Framework) -> None:
    """With scalars that differ from example to example."""
    batch = golden_batch()
    outputs = np.float32(0.9) * batch["targets"] + np.float32(0.1) * batch["inputs"]
    found = made(framework).ssim(outputs, *(batch[key] for key in ("targets", "mean", "std", "volume_max")))
    np.testing.assert_allclose(found, BLENDED_SSIM, rtol=0, atol=EXACT)


@every_framework
def test_an_image_is_as_similar_as_can_be_to_itself(framework: Framework) -> None:
    images = knees(2, 48, 0.5)[1]
    np.testing.assert_allclose(similarities(framework, images, images), 1, rtol=0, atol=EXACT)
    assert similarities(framework, images, images).max() <= 1


@every_framework
def test_a_range_of_zero_stands_for_one(framework: Framework) -> None:
    """Files may lack it, and padding has none; an image of zeros is no division by zero."""
    outputs, targets = knees(2, 48, 0.5)
    scalars = {"mean": 0.2, "std": 0.3}
    found = similarities(framework, outputs, targets, **scalars, volume_max=0)
    np.testing.assert_array_equal(found, similarities(framework, outputs, targets, **scalars, volume_max=1))
    zeros = np.zeros((2, 48, 48), np.float32)
    np.testing.assert_array_equal(similarities(framework, zeros, zeros, mean=0, std=0, volume_max=0), 1)


@every_framework
def test_outputs_of_a_shorter_type_are_compared_in_float32(framework: Framework) -> None:
    outputs, targets = knees(2, 48, 0.5)
    shorter = outputs.astype(np.float16)
    found = similarities(framework, shorter, targets)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, similarities(framework, shorter.astype(np.float32), targets))
