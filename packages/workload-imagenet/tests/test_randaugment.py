"""Each operation of RandAugment on a real photo, against its definition written in numpy."""

import collections

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from algoperf_imagenet.randaugment import OPERATIONS, rand_augment

PHOTO = np.ascontiguousarray(load_sample_images().images[0][100:324, 200:424])
SMALL = np.ascontiguousarray(PHOTO[::8, ::8])


class Draws:
    """A generator that gives chosen numbers."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def random(self, size=None):
        if size is None:
            return self.numbers.pop(0)
        return np.array([self.numbers.pop(0) for _ in range(size)])


def applied(name, photo, *numbers):
    return np.asarray(OPERATIONS[name](Image.fromarray(photo), Draws(*numbers)))


def moved(photo, source):
    """The photo whose pixel centre (x, y) is the nearest to `source(x, y)`, grey where there is none."""
    height, width, _ = photo.shape
    y, x = np.mgrid[:height, :width] + 0.5
    columns, rows = (np.floor(values).astype(int) for values in source(x, y))
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    out = np.full_like(photo, 128)
    out[inside] = photo[rows[inside], columns[inside]]
    return out


def rotation(degrees, width, height):
    """Where a pixel comes from when a picture is turned counterclockwise about its centre."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))

    def source(x, y):
        u, v = x - width / 2, y - height / 2
        return c * u - s * v + width / 2, s * u + c * v + height / 2

    return source


GEOMETRY = {
    "ShearX": lambda sign, w, h: lambda x, y: (x + 0.3 * sign * y, y),
    "ShearY": lambda sign, w, h: lambda x, y: (x, y + 0.3 * sign * x),
    "TranslateX": lambda sign, w, h: lambda x, y: (x + sign * round(100 / 224 * w), y),
    "TranslateY": lambda sign, w, h: lambda x, y: (x, y + sign * round(100 / 224 * h)),
    "Rotate": lambda sign, w, h: rotation(30 * sign, w, h),
}


@pytest.mark.parametrize("photo", [PHOTO, SMALL], ids=["224", "28"])
@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize(("number", "sign"), [(0.1, 1), (0.9, -1)])
def test_geometry(photo, name, number, sign):
    found = applied(name, photo, number)
    height, width, _ = photo.shape
    expected = moved(photo, GEOMETRY[name](sign, width, height))
    differing = (found != expected).any(axis=2).mean()
    # Pillow's coordinates are fixed-point: a few on the border of two pixels fall on the other.
    assert differing < 0.01
    assert (found == 128).all(axis=2).mean() > 0.05


def test_translation_is_100_of_224_pixels():
    np.testing.assert_array_equal(applied("TranslateX", PHOTO, 0.1)[:, :124], PHOTO[:, 100:])


def blended(photo, degenerate):
    """Away from `degenerate`, by 1.9 times the difference."""
    value = degenerate + 1.9 * (photo.astype(np.float32) - degenerate)
    return np.clip(value, 0, 255)


def grey(photo):
    """ITU-R 601-2, as Pillow rounds it."""
    r, g, b = photo.astype(np.int64).transpose(2, 0, 1)
    return ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16).astype(np.float32)


def smoothed(photo):
    """3 x 3: 5 in the middle, 1 around it, of 13; borders as they are."""
    wide = photo.astype(np.float64)
    neighbours = sum(np.roll(wide, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1))
    out = wide.copy()
    out[1:-1, 1:-1] = np.floor((neighbours + 4 * wide) / 13 + 0.5)[1:-1, 1:-1]
    return out.astype(np.float32)


DEGENERATE = {
    "Brightness": lambda photo: np.zeros_like(photo, np.float32),
    "Color": lambda photo: grey(photo)[:, :, None],
    "Contrast": lambda photo: np.full_like(photo, int(grey(photo).mean() + 0.5), np.float32),
    "Sharpness": smoothed,
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_enhancement(name):
    found, expected = applied(name, PHOTO), blended(PHOTO, DEGENERATE[name](PHOTO))
    # Truncated to 8 bits.
    assert abs(found - np.floor(expected)).max() <= 1
    assert abs(found - expected).mean() < 0.75
    assert (found != PHOTO).mean() > 0.2


def equalized(photo):
    out = np.empty_like(photo)
    for c in range(3):
        histogram = np.bincount(photo[:, :, c].ravel(), minlength=256)
        step = (histogram.sum() - histogram[histogram > 0][-1]) // 255
        before = np.cumsum(histogram) - histogram
        table = np.clip((before + step // 2) // step, 0, 255) if step else np.arange(256)
        out[:, :, c] = table[photo[:, :, c]]
    return out


def stretched(photo):
    low, high = photo.min(axis=(0, 1)).astype(np.float64), photo.max(axis=(0, 1)).astype(np.float64)
    return np.clip((photo - low) * 255 / (high - low), 0, 255)


def test_posterize_keeps_the_top_four_bits():
    np.testing.assert_array_equal(applied("Posterize", PHOTO), PHOTO & 0xF0)


def test_solarize_changes_nothing_at_this_magnitude():
    np.testing.assert_array_equal(applied("Solarize", PHOTO), PHOTO)


def test_solarize_add_brightens_dark_pixels():
    expected = np.where(PHOTO < 128, np.minimum(PHOTO.astype(int) + 110, 255), PHOTO)
    np.testing.assert_array_equal(applied("SolarizeAdd", PHOTO), expected)


def test_invert():
    np.testing.assert_array_equal(applied("Invert", PHOTO), 255 - PHOTO)


def test_equalize():
    np.testing.assert_array_equal(applied("Equalize", PHOTO), equalized(PHOTO))


def test_autocontrast_uses_the_whole_range():
    dull = (PHOTO // 2 + 40).astype(np.uint8)
    assert abs(applied("AutoContrast", dull) - np.floor(stretched(dull))).max() <= 1
    flat = np.full_like(PHOTO, 7)
    np.testing.assert_array_equal(applied("AutoContrast", flat), flat)


@pytest.mark.parametrize(
    ("x", "y", "left", "top"), [(112, 112, 72, 72), (10, 20, 0, 0), (223, 200, 183, 160), (60.5, 40.9, 20, 0)]
)
def test_cutout_greys_a_square(x, y, left, top):
    expected = PHOTO.copy()
    # Its ends are part of the square; at the left and the upper border it is moved inwards.
    expected[top : top + 81, left : left + 81] = 128
    np.testing.assert_array_equal(applied("Cutout", PHOTO, x / 224, y / 224), expected)


def test_two_operations_are_drawn_with_replacement(monkeypatch):
    used = collections.Counter()
    pairs = collections.Counter()

    def recorded(name):
        def operation(image, rng):
            used[name] += 1
            pair.append(name)
            return image

        return operation

    monkeypatch.setattr("algoperf_imagenet.randaugment.OPERATIONS", {name: recorded(name) for name in OPERATIONS})
    for seed in range(3200):
        pair = []
        rand_augment(SMALL, 2, np.random.default_rng(seed))
        assert len(pair) == 2
        pairs[pair[0] == pair[1]] += 1
    assert set(used) == set(OPERATIONS)
    # 400 each, with a standard deviation of 19.4; the same twice in 200 of the draws, with one of 13.7.
    assert max(abs(count - 400) for count in used.values()) < 100
    assert abs(pairs[True] - 200) < 70


def test_signs_and_places_come_from_the_generator():
    first, again, other = (rand_augment(PHOTO, 2, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
