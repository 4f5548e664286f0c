"""Checking and converting single images."""

import io

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from algoperf_imagenet import images, jpegs
from algoperf_imagenet.jpegs import DamagedImage, normalise

PHOTO = Image.fromarray(load_sample_images().images[0]).resize((160, 107))


def encoded(image=PHOTO, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


PLAIN = encoded(quality=90)
# Where the image's data begins.
SCAN = PLAIN.index(b"\xff\xda")
# Says that the image is to be turned by 90 degrees.
TURNED = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x01"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        encoded(progressive=True),
        encoded(PHOTO.convert("L")),
        encoded(keep_rgb=True),
        encoded(subsampling="4:4:4"),
        encoded(restart_marker_rows=1),
        encoded(icc_profile=b"x" * 5000),
        encoded(exif=TURNED),
        encoded(PHOTO.resize((1, 1))),
        PLAIN[:2] + ADOBE + PLAIN[2:],
        PLAIN + b"something after the end",
    ],
)
def test_a_plain_jpeg_is_kept_as_it_is(content):
    assert normalise(content) == content


@pytest.mark.parametrize(
    "content",
    [
        encoded(PHOTO, "PNG"),
        encoded(PHOTO.convert("RGBA"), "PNG"),
        encoded(PHOTO.quantize(256, kmeans=1), "PNG"),
        encoded(PHOTO, "BMP"),
        encoded(PHOTO, "TIFF"),
        encoded(PHOTO.convert("CMYK"), quality=95, subsampling=0),
        # Bytes where none belong, which Pillow and browsers read past.
        PLAIN[:SCAN] + b"xxxx" + PLAIN[SCAN:],
        PLAIN[:-2] + b"abcdefg" + PLAIN[-2:],
    ],
)
def test_anything_else_becomes_a_jpeg_of_the_same_picture(content):
    result = normalise(content)
    assert simplejpeg.decode_jpeg_header(result)[2:] == ("YCbCr", "444")
    pixels = simplejpeg.decode_jpeg(result, "RGB").astype(int)
    assert pixels.shape == (107, 160, 3)
    assert np.abs(pixels - np.asarray(PHOTO)).mean() < 8
    assert normalise(content) == result
    assert normalise(result) == result


def test_a_turned_image_is_not_turned():
    content = encoded(PHOTO.convert("CMYK"), exif=TURNED)
    assert simplejpeg.decode_jpeg(normalise(content), "RGB").shape == (107, 160, 3)


@pytest.mark.parametrize("progressive", [True, False])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_image_is_damaged(progressive, share):
    content = encoded(progressive=progressive)
    with pytest.raises(DamagedImage):
        normalise(content[: int(share * len(content))])


def without(content, start, stop):
    """A JPEG that ends as it should, without a part of its data."""
    scan = content.index(b"\xff\xda") + 20
    first, last = (scan + int(share * (len(content) - 2 - scan)) for share in (start, stop))
    return content[:first] + content[last:]


@pytest.mark.parametrize("image", [PHOTO, PHOTO.convert("L"), PHOTO.convert("CMYK")], ids=lambda image: image.mode)
@pytest.mark.parametrize(("start", "stop"), [(0.0, 1.0), (0.25, 0.75), (0.9, 1.0)])
def test_an_image_with_a_hole_is_damaged(image, start, stop):
    with pytest.raises(DamagedImage, match="premature end of data"):
        normalise(without(encoded(image, quality=90), start, stop))


def test_what_training_would_not_understand_is_converted():
    # libjpeg reads past a marker without a length; our reader of headers does not.
    result = normalise(PLAIN[:2] + b"\xff\xd0" + PLAIN[2:])
    assert images.picture_size(result) == (107, 160)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"<html>not found</html>", "^not an image file$"),
        (PLAIN[:-2], "Premature end of JPEG file"),
        (encoded(PHOTO.convert("CMYK"))[:-500], "Premature end of JPEG file"),
        (encoded(PHOTO, "PNG")[:-5000], "truncated"),
    ],
)
def test_the_reason_is_given(content, reason):
    with pytest.raises(DamagedImage, match=reason):
        normalise(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_of_absurd_size_is_damaged(kind, monkeypatch):
    monkeypatch.setattr(jpegs, "MAX_PIXELS", 1000)
    with pytest.raises(DamagedImage, match="160 x 107 pixels"):
        normalise(encoded(PHOTO, kind))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(PLAIN) - 1), st.binary(min_size=1, max_size=8)), max_size=5))
def test_whatever_is_not_damaged_can_be_decoded(changes):
    content = bytearray(PLAIN)
    for place, new in changes:
        content[place : place + len(new)] = new
    try:
        result = normalise(bytes(content))
    except DamagedImage:
        return
    whole = simplejpeg.decode_jpeg(result, "RGB")
    height, width = images.picture_size(result)
    assert whole.shape == (height, width, 3)
    np.testing.assert_array_equal(images.decode(result, height // 2)[: height // 2], whole[: height // 2])
