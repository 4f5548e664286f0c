"""From the bytes of a JPEG to a picture of fixed size: decoding, cropping, resizing. Numpy only.

Pictures are resized by bicubic interpolation (Keys, https://doi.org/10.1109/TASSP.1981.1163711, a = -0.5) with
half-pixel centres and without antialiasing, as the benchmark's published results were; taps outside the crop are left
out and the others scaled up. The result is rounded to 8 bits.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
import simplejpeg

from algoperf.data import DataError

# The part of the short side that an evaluation sees.
EVAL_CROP = 224 / 256
MIN_ASPECT, MAX_ASPECT = 3 / 4, 4 / 3
CROP_ATTEMPTS = 10

_MCU_ROWS = 16
_BASELINE = 0xC0
# Markers of a frame header: all of 0xC0 … 0xCF but three that mean something else.
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Box(NamedTuple):
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


class _Header(NamedTuple):
    """What a JPEG says of itself."""

    height: int
    width: int
    height_at: int  # Where in the file the height stands, two bytes.
    is_baseline: bool  # What progressive files need is spread over the whole of them.


def training_crop(height: int, width: int, min_area: float, rng: np.random.Generator) -> Box:
    """A random part of a picture (Szegedy et al., https://arxiv.org/abs/1409.4842, section 6).

    Its area is uniform between `min_area` and all of the picture's, the logarithm of its aspect ratio between those of
    3/4 and 4/3. After ten draws that do not fit comes the largest centred crop that has such a ratio.
    """
    area = height * width
    low, high = math.log(MIN_ASPECT), math.log(MAX_ASPECT)
    for share, log_ratio in rng.random((CROP_ATTEMPTS, 2)).tolist():
        target = area * (min_area + share * (1 - min_area))
        ratio = math.exp(low + log_ratio * (high - low))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.random(2).tolist()
            return Box(int(top * (height - h + 1)), int(left * (width - w + 1)), h, w)
    w, h = min(width, round(height * MAX_ASPECT)), min(height, round(width / MIN_ASPECT))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def evaluation_crop(height: int, width: int) -> Box:
    """The centred square of 7/8 of the short side."""
    side = max(1, int(EVAL_CROP * min(height, width)))
    return Box((height - side + 1) // 2, (width - side + 1) // 2, side, side)


def picture_size(jpeg: bytes) -> tuple[int, int]:
    """Height and width of a JPEG. Raises DataError, with the reason alone, if it has no header."""
    header = _read_header(jpeg)
    return header.height, header.width


def decode(jpeg: bytes, num_rows: int | None = None) -> np.ndarray:
    """The pixels of a JPEG, uint8 [rows, width, 3]; at least the first `num_rows` rows, where that is given.

    Of a baseline JPEG hardly more than those are decoded. Raises DataError, with the reason alone, if it is damaged.
    """
    if num_rows is not None:
        jpeg = _cut(jpeg, num_rows)
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(jpeg, "RGB", strict=False)
    except ValueError as error:
        raise DataError(str(error)) from error
    return pixels


def _cut(jpeg: bytes, num_rows: int) -> bytes:
    """A JPEG that says it is no higher than needed, so that decoders stop there."""
    header = _read_header(jpeg)
    # Two rows more, because upsampled colours look at the row below.
    height = -(-(num_rows + 2) // _MCU_ROWS) * _MCU_ROWS
    if not header.is_baseline or height >= header.height:
        return jpeg
    at = header.height_at
    return b"".join((jpeg[:at], height.to_bytes(2, "big"), jpeg[at + 2 :]))


def _read_header(jpeg: bytes) -> _Header:
    """The frame header (ISO/IEC 10918-1, section B.2)."""
    at = 2
    while at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if marker in _FRAME_HEADERS:
            height, width = (int.from_bytes(jpeg[at + k : at + k + 2], "big") for k in (5, 7))
            return _Header(height, width, at + 5, marker == _BASELINE)
        # A byte of 0xFF may fill the space before a marker.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    raise DataError("no JPEG")


def resize(pixels: np.ndarray, box: Box, out: np.ndarray, *, mirror: bool = False) -> None:
    """Resizes a part of a picture.

    Args:
        pixels: uint8 [H, W, 3], C-contiguous.
        box: the part.
        out: where to, uint8 [size, size, 3], C-contiguous.
        mirror: exchange left and right.
    """
    size = len(out)
    rows, row_weights = _taps(box.height, size)
    columns, column_weights = _mirrored_colour_taps(box.width, size) if mirror else _colour_taps(box.width, size)
    line = np.empty(3 * box.width, np.float32)
    corner = (box.top, 3 * box.left)
    flat = pixels.reshape(len(pixels), -1)
    _resize(flat, corner, rows, row_weights, columns, column_weights, line, out.reshape(size, -1))


@functools.lru_cache(maxsize=8192)
def _taps(num_in: int, num_out: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `num_out` positions the four neighbours among `num_in`, uint32 [num_out, 4], and weights, float32."""
    positions = (np.arange(num_out) + 0.5) * (num_in / num_out) - 0.5
    indices = np.floor(positions).astype(np.int64)[:, None] + np.arange(-1, 3)
    distance = np.abs(positions[:, None] - indices)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = np.where(distance <= 1, near, np.where(distance < 2, far, 0))
    weights *= (indices >= 0) & (indices < num_in)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(indices, 0, num_in - 1).astype(np.uint32), weights.astype(np.float32)


@functools.lru_cache(maxsize=8192)
def _colour_taps(num_in: int, num_out: int) -> tuple[np.ndarray, np.ndarray]:
    """`_taps` where a pixel takes three places."""
    indices, weights = _taps(num_in, num_out)
    return 3 * indices, weights


@functools.lru_cache(maxsize=8192)
def _mirrored_colour_taps(num_in: int, num_out: int) -> tuple[np.ndarray, np.ndarray]:
    indices, weights = _colour_taps(num_in, num_out)
    return indices[::-1].copy(), weights[::-1].copy()


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compiled at the first call, and kept for the next process where there is a place that can be written."""
    compile_ = functools.partial(numba.njit, nogil=True)
    try:
        compiled: Callable[..., None] = compile_(cache=True)(function)
    except RuntimeError:
        compiled = compile_(function)
    return compiled


@_compiled
def _resize(
    pixels: np.ndarray,
    corner: tuple[int, int],
    rows: np.ndarray,
    row_weights: np.ndarray,
    columns: np.ndarray,
    column_weights: np.ndarray,
    line: np.ndarray,
    out: np.ndarray,
) -> None:
    """`resize` with the three colours of a pixel side by side: pixels [H, 3 W], columns in steps of 3, line [3 width].

    Indices are unsigned: signed ones are looked at for being negative, which keeps the loops from being vectorised.
    """
    top, left = np.uint32(corner[0]), np.uint32(corner[1])
    for i in range(np.uint32(out.shape[0])):
        r0, r1, r2, r3 = top + rows[i, 0], top + rows[i, 1], top + rows[i, 2], top + rows[i, 3]
        w0, w1, w2, w3 = row_weights[i, 0], row_weights[i, 1], row_weights[i, 2], row_weights[i, 3]
        for x in range(np.uint32(line.size)):
            at = left + x
            line[x] = w0 * pixels[r0, at] + w1 * pixels[r1, at] + w2 * pixels[r2, at] + w3 * pixels[r3, at]
        for j in range(np.uint32(columns.shape[0])):
            c0, c1, c2, c3 = columns[j, 0], columns[j, 1], columns[j, 2], columns[j, 3]
            v0, v1, v2, v3 = column_weights[j, 0], column_weights[j, 1], column_weights[j, 2], column_weights[j, 3]
            for c in range(np.uint32(3)):
                value = v0 * line[c0 + c] + v1 * line[c1 + c] + v2 * line[c2 + c] + v3 * line[c3 + c]
                out[i, np.uint32(3) * j + c] = np.uint8(
                    min(max(value, np.float32(0)), np.float32(255)) + np.float32(0.5)
                )
