"""From the measurements of a slice to what a model is given: an image with artefacts, normalised. Numpy and scipy.

As in the baseline of fastMRI (Zbontar et al., https://arxiv.org/abs/1811.08839, sections 5 and 6): columns of k-space
that are not kept are zero, what is transformed back is cropped, and the magnitude is normalised.
"""

from typing import NamedTuple

import numpy as np
from scipy import fft

# In standard deviations.
_LIMIT = 6.0
# Standard deviation of what is no more than rounding of one grey, as a share of that.
_LEAST_SPREAD = np.float32(1e-6)


class Scale(NamedTuple):
    """What an image was normalised with: image = normalised * std + mean.

    Attributes:
        mean: of the zero-filled image; float32.
        std: its standard deviation; float32, positive.
    """

    mean: np.float32
    std: np.float32


def zero_filled(kspace: np.ndarray, mask: np.ndarray, size: int) -> np.ndarray:
    """The middle of the image that the kept columns of k-space give.

    It is the inverse Fourier transform, orthonormal and with the lowest frequency and the image's middle in the middle,
    of `kspace * mask`; cropped, and then its magnitude. Columns that are not kept are not transformed, nor are rows
    that are cropped away.

    Args:
        kspace: complex64 [H, W].
        mask: columns to keep; bool [W].
        size: of the image.

    Returns:
        float32 [size, size].

    Raises:
        ValueError: there is less than an image of that size.
    """
    height, width = kspace.shape
    if size > min(height, width):
        raise ValueError(f"k-space of {height} x {width} gives no image of {size} x {size}.")
    # K-space is not shifted: where its lowest frequency lies decides the phases of the image, not their magnitude.
    columns = fft.ifft(kspace[:, mask], axis=0, norm="ortho", overwrite_x=True)
    rows = np.zeros((size, width), np.complex64)
    rows[:, mask] = columns[_middle(height, size)]
    rows = fft.ifft(rows, axis=1, norm="ortho", overwrite_x=True)
    image: np.ndarray = np.abs(rows[:, _middle(width, size)])
    return image


def normalise(image: np.ndarray, target: np.ndarray, inputs: np.ndarray, targets: np.ndarray) -> Scale:
    """Normalises both with the mean and the (biased) standard deviation of `image`, and clips them to 6 of these.

    The standard deviation of an image of one grey, such as where nothing was measured, counts as 1: its `inputs` are
    next to zero then, and no number is NaN.

    Args:
        image: zero-filled; float32 [S, S].
        target: what a model should make of it; float32 [S, S].
        inputs: where to write the normalised `image`.
        targets: where to write the normalised `target`.
    """
    mean, std = image.mean(), image.std()
    scale = Scale(mean, std if std > _LEAST_SPREAD * mean else np.float32(1))
    for source, out in ((image, inputs), (target, targets)):
        np.subtract(source, scale.mean, out=out)
        np.divide(out, scale.std, out=out)
        np.clip(out, -_LIMIT, _LIMIT, out=out)
    return scale


def _middle(length: int, size: int) -> np.ndarray:
    """Where a transform, which begins with the middle, puts the middle `size` of `length` pixels. int64 [size]."""
    return (np.arange(size) + (length - size) // 2 - length // 2) % length
