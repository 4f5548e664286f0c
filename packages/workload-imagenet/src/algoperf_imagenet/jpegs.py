"""Checks published images, and turns those that training cannot decode into JPEG files that it can."""

import io

import simplejpeg
from PIL import Image, UnidentifiedImageError

# An image of more pixels (768 MiB of memory) is a broken header.
MAX_PIXELS = 2**28
# Of JPEG files, as simplejpeg names them. CMYK and YCCK are the others.
_PLAIN = ("Gray", "YCbCr", "RGB")


class DamagedImage(Exception):
    """An image that cannot be decoded as a whole; the message says why."""


def normalise(content: bytes) -> bytes:
    """An image as a JPEG file that training can decode (`simplejpeg.decode_jpeg(..., "RGB")`).

    Plain JPEG files remain as they are. Others (CMYK, PNG under a wrong name, blemishes that Pillow reads past but
    simplejpeg stops at, such as bytes between the parts) become RGB JPEG files. Orientation tags are ignored.

    Args:
        content: an image file.

    Raises:
        DamagedImage: no whole image can be read from it.
    """
    return content if _is_plain(content) else _convert(content)


def _is_plain(content: bytes) -> bool:
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(content)
        if colorspace not in _PLAIN or height * width > MAX_PIXELS:
            return False
        # Whether the data is whole is only known when all of it has been read.
        simplejpeg.decode_jpeg(content, "RGB", fastdct=True, fastupsample=True)
    except ValueError:
        return False
    return True


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
