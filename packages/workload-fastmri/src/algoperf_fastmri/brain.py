"""Slabs of a brain as pictures of simulated scans, and how they are divided among splits."""

import numpy as np
from scipy import ndimage

# Slices of a slab, and those that are left out between two of them; a millimetre each.
SLAB, GAP = 8, 4
# Which slabs, from below, are evaluated; the others are trained on.
VALIDATION_SLABS, TEST_SLABS = (2, 6), (4, 8)
# Of a slice, that the brain fills.
_LEAST_SHARE = 0.05
# Millimetres that a picture shows.
_FIELD = 240


def slabs(brain: np.ndarray) -> list[np.ndarray]:
    """The slabs of a brain from below, [SLAB, H, W] each. Gaps between them are left out, and both tips of the brain.

    Args:
        brain: [sagittal, coronal, axial].
    """
    inside = np.flatnonzero((brain > 0).mean(axis=(0, 1)) > _LEAST_SHARE)
    starts = range(inside[0], inside[-1] + 2 - SLAB, SLAB + GAP)
    return [brain[:, :, start : start + SLAB].transpose(2, 1, 0)[:, ::-1].astype(np.float32) for start in starts]


def split_of(slab: int) -> str:
    """The split that a slab is in."""
    if slab in VALIDATION_SLABS:
        return "validation"
    return "test" if slab in TEST_SLABS else "train"


def pictures(slab: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A slab as another head would lie in another scanner: turned, moved, of another size and contrast.

    Args:
        slab: [slices, H, W], a millimetre a pixel.
        size: of the pictures.
        rng: draws all of that, the same for all slices.

    Returns:
        float32 [slices, size, size], from 0 to 1.
    """
    angle, zoom = rng.uniform(-0.4, 0.4), rng.uniform(0.85, 1.1) * _FIELD / size
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    center = np.array(slab.shape[1:]) / 2 + rng.uniform(-10, 10, 2)
    offset = center - turn @ np.full(2, (size - 1) / 2)
    # Averaged over a pixel of the picture before it is taken.
    smooth = ndimage.gaussian_filter(slab, (0, zoom / 2.5, zoom / 2.5))
    moved = np.stack([ndimage.affine_transform(one, turn, offset, (size, size), order=1) for one in smooth])
    share = np.clip(moved / slab.max(), 0, 1)
    return (share ** rng.uniform(0.6, 1.6)).astype(np.float32)
