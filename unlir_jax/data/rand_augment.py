"""RandAugment: a few operations drawn from a list, all at one strength.

Cubuk et al., RandAugment: Practical automated data augmentation with a reduced search
space (2020).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from unlir_jax.data import geometry, source

STRONGEST = 30


class Kind(NamedTuple):
    """Say how an operation uses the magnitude.

    Attributes:
        strongest: What it is given at the largest magnitude.
        signed: Whether its direction is drawn.
        apply: `(example, strength) -> example`.
    """

    strongest: float
    signed: bool
    apply: Callable[[source.Example, float], source.Example]


def rand_augment(
    count: int = 2, magnitude: int = 9
) -> Callable[[source.Example, np.random.Generator], source.Example]:
    """Make the operation that applies some of `KINDS`, drawn with replacement.

    The list and the ranges come from `torchvision.transforms.RandAugment`.

    Note:
        Images are turned and sheared with bilinear interpolation, where torchvision
        takes the nearest pixel unless asked.

    Args:
        count: How many operations one image gets.
        magnitude: Their strength, 0 … 30.
    """
    if count < 0:
        raise ValueError(f"`count`={count}; expected 0 or more.")
    if not 0 <= magnitude <= STRONGEST:
        raise ValueError(f"`magnitude`={magnitude}; expected 0 … {STRONGEST}.")
    names = sorted(KINDS)

    def apply(example: source.Example, random: np.random.Generator) -> source.Example:
        for _ in range(count):
            kind = KINDS[names[random.integers(len(names))]]
            sign = -1 if random.random() < 0.5 and kind.signed else 1
            strength = sign * kind.strongest * magnitude / STRONGEST
            example = kind.apply(example, strength)
        return example

    return apply


def _turned(example: source.Example, degrees: float) -> source.Example:
    width, height = example["image"].size
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    linear = np.array([[cosine, -sine], [sine, cosine]])
    centre = np.array([width / 2, height / 2])
    matrix = np.column_stack([linear, centre - linear @ centre])
    return geometry.move(example, matrix, (width, height))


def _sheared(axis: int) -> Callable[[source.Example, float], source.Example]:
    def apply(example: source.Example, strength: float) -> source.Example:
        matrix = np.eye(2, 3)
        matrix[axis, 1 - axis] = strength
        return geometry.move(example, matrix, example["image"].size)

    return apply


def _shifted(axis: int) -> Callable[[source.Example, float], source.Example]:
    def apply(example: source.Example, strength: float) -> source.Example:
        size = example["image"].size
        matrix = np.eye(2, 3)
        matrix[axis, 2] = -int(strength * size[axis])
        return geometry.move(example, matrix, size)

    return apply


def _coloured(
    function: Callable[[Image.Image, float], Image.Image],
) -> Callable[[source.Example, float], source.Example]:
    def apply(example: source.Example, strength: float) -> source.Example:
        return {**example, "image": function(example["image"], strength)}

    return apply


def _enhanced(
    enhancer: Callable[[Image.Image], Any],
) -> Callable[[source.Example, float], source.Example]:
    return _coloured(lambda image, strength: enhancer(image).enhance(1 + strength))


# In multiples of the image's side, of a half turn, of the tone … at magnitude 30.
KINDS = {
    "autocontrast": Kind(0.0, False, _coloured(lambda image, _: _stretched(image))),
    "brightness": Kind(0.9, True, _enhanced(ImageEnhance.Brightness)),
    "colour": Kind(0.9, True, _enhanced(ImageEnhance.Color)),
    "contrast": Kind(0.9, True, _enhanced(ImageEnhance.Contrast)),
    "equalize": Kind(0.0, False, _coloured(lambda image, _: ImageOps.equalize(image))),
    "identity": Kind(0.0, False, lambda example, _: example),
    "posterize": Kind(
        4.0, False, _coloured(lambda image, x: ImageOps.posterize(image, 8 - round(x)))
    ),
    "rotate": Kind(30.0, True, _turned),
    "sharpness": Kind(0.9, True, _enhanced(ImageEnhance.Sharpness)),
    "shear_x": Kind(0.3, True, _sheared(0)),
    "shear_y": Kind(0.3, True, _sheared(1)),
    "solarize": Kind(
        255.0,
        False,
        _coloured(lambda image, x: ImageOps.solarize(image, math.ceil(255 - x))),
    ),
    "translate_x": Kind(150 / 331, True, _shifted(0)),
    "translate_y": Kind(150 / 331, True, _shifted(1)),
}


def _stretched(image: Image.Image) -> Image.Image:
    return ImageOps.autocontrast(image)
