"""Simulated measurements: pictures of an object become k-space, as a scanner with one coil would measure them."""

import numpy as np
from scipy import fft

# Of k-space, in rows and columns; twice as much is measured along the rows as the image needs, as in fastMRI.
HEIGHT, WIDTH = 128, 80
# Radians at the edges of the field of view.
_PHASE = 2.0


def measure(pictures: np.ndarray, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The measurements of some slices of an object, and the images that they give.

    The magnetisation of a real object has a phase; here it is a random polynomial of the second degree in the place,
    the same for all slices. Noise is white and complex.

    Args:
        pictures: how much signal there is where; float [slices, S, S], in the middle of the field of view.
        noise: its standard deviation in an image, as a share of the largest signal.
        rng: draws phase and noise.

    Returns:
        `kspace`, complex64 [slices, HEIGHT, WIDTH], and `images`, float32 [slices, S, S].
    """
    size = pictures.shape[1]
    rows, columns = _middle(HEIGHT, size), _middle(WIDTH, size)
    field = np.zeros((len(pictures), HEIGHT, WIDTH), np.complex128)
    y, x = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * y, x**2, y**2])
    phase = np.tensordot(rng.uniform(-_PHASE, _PHASE, len(terms)), terms, axes=1)
    field[:, rows, columns] = pictures * np.exp(1j * phase)
    scale = noise * pictures.max() / np.sqrt(2)
    field += scale * (rng.normal(size=field.shape) + 1j * rng.normal(size=field.shape))
    axes = (1, 2)
    kspace = fft.fftshift(fft.fft2(fft.ifftshift(field, axes), norm="ortho"), axes)
    return kspace.astype(np.complex64), np.abs(field[:, rows, columns]).astype(np.float32)


def _middle(length: int, size: int) -> slice:
    start = (length - size) // 2
    return slice(start, start + size)
