"""Decoding, cropping and resizing of real photos, against Pillow, JAX and the definitions."""

import io

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from algoperf.data import DataError
from algoperf.spec import Framework
from algoperf.testing.frameworks import require
from algoperf_imagenet import images
from algoperf_imagenet.images import Box

PHOTOS = [np.ascontiguousarray(photo[:375, :500]) for photo in load_sample_images().images]


def jpeg(photo, **options):
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", **{"quality": 92} | options)
    return buffer.getvalue()


def resized(photo, box, size, mirror=False):
    out = np.empty((size, size, 3), np.uint8)
    images.resize(np.ascontiguousarray(photo), box, out, mirror=mirror)
    return out


def cropped(photo, box):
    return photo[box.top : box.top + box.height, box.left : box.left + box.width]


BOXES = [Box(0, 0, 375, 500), Box(17, 250, 101, 203), Box(300, 3, 75, 60), Box(10, 20, 224, 224), Box(5, 6, 1, 2)]


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize("box", BOXES, ids=str)
def test_resizing_is_bicubic_without_antialiasing(photo, box):
    require(Framework.JAX)
    import jax

    expected = jax.image.resize(cropped(photo, box).astype(np.float32), (224, 224, 3), "cubic", antialias=False)
    # JAX computes places in float32, which adds a little to the half that rounding may take.
    difference = resized(photo, box, 224) - np.clip(np.asarray(expected, np.float64), 0, 255)
    assert abs(difference).max() < 0.51


@pytest.mark.parametrize("box", BOXES[1:3], ids=str)
def test_enlarging_is_what_pillow_does(box):
    # Pillow rounds and clips between the two directions; of this nothing has to be clipped.
    dull = PHOTOS[0] // 2 + 64
    expected = np.asarray(Image.fromarray(cropped(dull, box)).resize((230, 230), Image.Resampling.BICUBIC))
    assert abs(resized(dull, box, 230).astype(int) - expected).max() <= 1


def test_values_beyond_the_range_are_clipped():
    edge = np.zeros((20, 20, 3), np.uint8)
    edge[:, 10:] = 255
    out = resized(edge, Box(0, 0, 20, 20), 57)
    assert out.min() == 0
    assert out.max() == 255
    assert (np.diff(out[:, :, 0].astype(int), axis=1) >= 0).all()


@pytest.mark.parametrize("box", BOXES, ids=str)
def test_a_mirrored_picture_is_the_picture_mirrored(box):
    np.testing.assert_array_equal(resized(PHOTOS[0], box, 99, mirror=True), resized(PHOTOS[0], box, 99)[:, ::-1])


KINDS = [
    {},
    {"subsampling": 0},
    {"subsampling": 1},
    {"subsampling": 2},
    {"progressive": True},
    {"restart_marker_rows": 1},
    {"comment": b"\xff" * 50},
]


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("num_rows", [1, 15, 16, 100, 374, 375])
def test_the_rows_that_are_wanted_are_decoded_exactly(options, num_rows, capfd):
    data = jpeg(PHOTOS[0], **options)
    pixels = images.decode(data, num_rows)
    np.testing.assert_array_equal(pixels[:num_rows], simplejpeg.decode_jpeg(data)[:num_rows])
    assert capfd.readouterr() == ("", "")


def test_fewer_rows_are_decoded_than_there_are():
    assert len(images.decode(jpeg(PHOTOS[0]), 100)) == 112


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_the_size_is_read_from_the_header(options):
    assert images.picture_size(jpeg(PHOTOS[0], **options)) == (375, 500)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n" + bytes(50), bytes(100)])
def test_what_is_no_jpeg_is_said(data):
    with pytest.raises(DataError, match=r"^no JPEG$"):
        images.picture_size(data)


def test_what_cannot_be_decoded_is_said():
    data = jpeg(PHOTOS[0])
    with pytest.raises(DataError, match="JPEG image"):
        images.decode(data[:2] + b"\xff\xfe\x00\x02" + data[2:100])


def test_grey_becomes_three_equal_colours():
    pixels = images.decode(jpeg(PHOTOS[0][:, :, 0]))
    assert pixels.shape == (375, 500, 3)
    assert (pixels == pixels[:, :, :1]).all()


sizes = st.integers(1, 600)


@given(height=sizes, width=sizes, seed=st.integers(0, 2**32), min_area=st.floats(0.01, 1))
@settings(deadline=None)
def test_a_training_crop_lies_within_the_picture(height, width, seed, min_area):
    box = images.training_crop(height, width, min_area, np.random.default_rng(seed))
    assert box.height >= 1
    assert box.width >= 1
    assert 0 <= box.top <= height - box.height
    assert 0 <= box.left <= width - box.width


def test_training_crops_follow_their_law():
    rng = np.random.default_rng(0)
    boxes = [images.training_crop(375, 500, 0.08, rng) for _ in range(20_000)]
    areas = np.array([box.height * box.width / (375 * 500) for box in boxes])
    # What torchvision's RandomResizedCrop gives on a picture of this size.
    expected = [0.087, 0.148, 0.25, 0.417, 0.59, 0.734, 0.917]
    np.testing.assert_allclose(np.quantile(areas, [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]), expected, atol=0.015)
    ratios = np.array([np.log(box.width / box.height) for box in boxes if box.height * box.width < 0.3 * 375 * 500])
    # Small crops always fit, so that nothing is drawn again: uniform, but for rounding to pixels.
    bounds = np.log([3 / 4, 4 / 3])
    assert abs(np.quantile(ratios, [0.25, 0.5, 0.75]) - np.quantile(bounds, [0.25, 0.5, 0.75])).max() < 0.01
    small = [box for box in boxes if box.width < 250 and box.height < 190]
    for place, room in ((2, lambda box: 375 - box.height), (3, lambda box: 500 - box.width)):
        offsets = np.array([(box.top if place == 2 else box.left) / room(box) for box in small])
        assert abs(np.quantile(offsets, [0.25, 0.5, 0.75]) - [0.25, 0.5, 0.75]).max() < 0.02
        assert offsets.min() == 0
        assert offsets.max() == 1


@pytest.mark.parametrize(
    ("size", "box"), [((10, 1000), Box(0, 493, 10, 13)), ((1000, 10), Box(493, 0, 13, 10))], ids=str
)
def test_a_picture_in_which_no_crop_fits_is_cut_in_the_middle(size, box):
    assert images.training_crop(*size, 0.9, np.random.default_rng(0)) == box


@pytest.mark.parametrize(
    ("size", "box"),
    [((375, 500), Box(24, 86, 328, 328)), ((101, 77), Box(17, 5, 67, 67)), ((1, 1), Box(0, 0, 1, 1))],
    ids=str,
)
def test_the_evaluation_crop_is_the_middle(size, box):
    assert images.evaluation_crop(*size) == box
