"""RandAugment (Cubuk et al., https://arxiv.org/abs/1909.13719, section 3): some operations, each at full magnitude.

The operations are Pillow's, and their magnitudes those of AlgoPerf (https://arxiv.org/abs/2306.07179, appendix D). None
is the identity except Solarize: at this magnitude its threshold is above every pixel.
"""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

SHEAR = 0.3
ROTATION_DEGREES = 30
ENHANCEMENT = 1.9
POSTERIZE_BITS = 4
SOLARIZE_THRESHOLD = 256
SOLARIZE_ADD, SOLARIZE_ADD_BELOW = 110, 128
# Parts of the side: 100 and 80 of 224 pixels.
TRANSLATION = 100 / 224
CUTOUT = 80 / 224
# What fills uncovered and cut-out places.
GREY = (128, 128, 128)

Operation = Callable[[Image.Image, np.random.Generator], Image.Image]

_BRIGHTENED = [min(255, i + SOLARIZE_ADD) if i < SOLARIZE_ADD_BELOW else i for i in range(256)] * 3


def rand_augment(pixels: np.ndarray, num_operations: int, rng: np.random.Generator) -> np.ndarray:
    """Applies operations, drawn with replacement, to a picture, uint8 [H, W, 3]; one after the other."""
    image = Image.fromarray(pixels)
    for number in rng.integers(len(OPERATIONS), size=num_operations):
        image = OPERATIONS[_NAMES[number]](image, rng)
    return np.asarray(image)


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _mapped(image: Image.Image, *coefficients: float) -> Image.Image:
    """The picture whose pixel at (x, y) is the image's nearest to (a x + b y + c, d x + e y + f)."""
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.NEAREST, fillcolor=GREY)


def _shear_x(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _mapped(image, 1, SHEAR * _sign(rng), 0, 0, 1, 0)


def _shear_y(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _mapped(image, 1, 0, 0, SHEAR * _sign(rng), 1, 0)


def _translate_x(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _mapped(image, 1, 0, round(TRANSLATION * image.width) * _sign(rng), 0, 1, 0)


def _translate_y(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _mapped(image, 1, 0, 0, 0, 1, round(TRANSLATION * image.height) * _sign(rng))


def _rotate(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.rotate(ROTATION_DEGREES * _sign(rng), Image.Resampling.NEAREST, fillcolor=GREY)


def _cutout(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A grey square around a random point, moved inwards at the left and the upper border, cut at the others."""
    x, y = rng.random(2) * image.size
    width, height = round(CUTOUT * image.width), round(CUTOUT * image.height)
    left, top = int(max(0, x - width / 2)), int(max(0, y - height / 2))
    # Its ends are part of the square.
    right, bottom = min(image.width, left + width), min(image.height, top + height)
    image = image.copy()
    image.paste(GREY, (left, top, right + 1, bottom + 1))
    return image


OPERATIONS: Mapping[str, Operation] = {
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "Rotate": _rotate,
    "Brightness": lambda image, _: ImageEnhance.Brightness(image).enhance(ENHANCEMENT),
    "Color": lambda image, _: ImageEnhance.Color(image).enhance(ENHANCEMENT),
    "Contrast": lambda image, _: ImageEnhance.Contrast(image).enhance(ENHANCEMENT),
    "Sharpness": lambda image, _: ImageEnhance.Sharpness(image).enhance(ENHANCEMENT),
    "Posterize": lambda image, _: ImageOps.posterize(image, POSTERIZE_BITS),
    "Solarize": lambda image, _: ImageOps.solarize(image, SOLARIZE_THRESHOLD),
    "SolarizeAdd": lambda image, _: image.point(_BRIGHTENED),
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Invert": lambda image, _: ImageOps.invert(image),
    "Cutout": _cutout,
}
_NAMES = list(OPERATIONS)
