"""Checks published images, and turns those that training cannot decode into JPEG files that it can."""

import io

import simplejpeg
from PIL import Image, UnidentifiedImageError

from algoperf.data.preparation import DataError
from algoperf_imagenet.images import picture_size

# An image of more pixels (768 MiB of memory) is a broken header.
MAX_PIXELS = 2**28
# Of JPEG files, as simplejpeg names them. CMYK and YCCK are the others.
_PLAIN = ("Gray", "YCbCr", "RGB")
# What libjpeg warns of although all of the image is there.
_HARMLESS = ("extraneous bytes before marker", "unknown JFIF revision", "Adobe color transform")


class DamagedImage(Exception):
    """An image that cannot be decoded as a whole; the message says why."""


def normalise(content: bytes) -> bytes:
    """An image as a JPEG file that training can decode.

    Plain JPEG files remain as they are. Others (CMYK, PNG under a wrong name, stray bytes between the parts) become RGB
    JPEG files. Orientation tags are ignored.

    Args:
        content: an image file.

    Raises:
        DamagedImage: no whole image can be read from it.
    """
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return _convert(content)
    if height * width > MAX_PIXELS:
        raise DamagedImage(f"an image of {width} x {height} pixels")
    is_plain = colorspace in _PLAIN
    warning = _warning(content, "RGB" if is_plain else "CMYK")
    if warning and not any(harmless in warning for harmless in _HARMLESS):
        raise DamagedImage(warning)
    return content if is_plain and not warning and _is_understood(content, height, width) else _convert(content)


def _warning(content: bytes, colorspace: str) -> str:
    """What libjpeg has to say about a JPEG, all of which is read for it; empty if nothing."""
    try:
        simplejpeg.decode_jpeg(content, colorspace, fastdct=True, fastupsample=True)
    except ValueError as error:
        return str(error)
    return ""


def _is_understood(content: bytes, height: int, width: int) -> bool:
    """Whether our own reader of headers sees what libjpeg sees."""
    try:
        return picture_size(content) == (height, width)
    except DataError:
        return False


def _convert(content: bytes) -> bytes:
    buffer = io.BytesIO()
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"an image of {image.width} x {image.height} pixels")
            image.convert("RGB").save(buffer, "JPEG", quality=95, subsampling="4:4:4")
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise DamagedImage("not an image file" if content else "an empty file") from error
    except Exception as error:  # Pillow's readers raise whatever they stumble over.
        raise DamagedImage(" ".join(str(error).split()) or type(error).__name__) from error
    return buffer.getvalue()
