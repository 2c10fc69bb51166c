"""Augmentations of images, and of what belongs to their places: maps, masks and boxes.

A geometric augmentation moves pixels, and maps move with them; a photometric one
changes colours alone. What is drawn follows from the key and the image, so that
neighbours and order do not matter.

Colours, blur and noise have the strength of severity 3 in Hendrycks & Dietterich,
*Benchmarking neural network robustness to common corruptions and perturbations*, ICLR
2019. Angles and crop follow the code of Zhang, Torres & Hermanns, *Saliency maps give a
false sense of explanability to image classifiers*, ACML 2024.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.core import choices, random_keys
from unlir_jax.types import Images, RandomKey, Saliency

Place = Callable[[RandomKey], tuple[jax.Array, jax.Array]]
"""Gives a matrix `[2, 2]` and a shift `[2]`, from places of the result to places of
the image; rows come first, and both run from -1 to 1."""
Colours = Callable[[RandomKey, jax.Array], jax.Array]
"""Changes the values of one image, `[height, width, 3]` in [0, 1]."""

AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
"""Shares and shapes of a crop, as in torchvision."""
BRIGHTNESS, CONTRAST, BLUR, NOISE = 0.3, 0.2, 3.0, 0.18
TRUNCATED = 4
"""Standard deviations after which the blur's window ends."""


class Augmentation(NamedTuple):
    """Describe an augmentation.

    Attributes:
        place: Where pixels come from; None where they stay.
        colours: Change of values; None for none.
        seen: Side of the central square in which the result shows nothing but the
            image, as a share of the whole side.
    """

    place: Place | None = None
    colours: Colours | None = None
    seen: float = 1.0


def _flipped(key: RandomKey) -> tuple[jax.Array, jax.Array]:
    del key
    return jnp.asarray([[1.0, 0.0], [0.0, -1.0]]), jnp.zeros(2)


def _rotated(degrees: float) -> Place:
    """Rotate counter-clockwise about the middle."""
    turn = math.radians(degrees)
    cosine, sine = math.cos(turn), math.sin(turn)

    def place(key: RandomKey) -> tuple[jax.Array, jax.Array]:
        del key
        return jnp.asarray([[cosine, sine], [-sine, cosine]]), jnp.zeros(2)

    return place


def _cropped(key: RandomKey) -> tuple[jax.Array, jax.Array]:
    """Draw a box of random area and shape, and enlarge it to the whole image."""
    area, shape, down, across = jax.random.uniform(key, (4,))
    area = AREA[0] + area * (AREA[1] - AREA[0])
    low, high = (math.log(end) for end in RATIO)
    ratio = jnp.exp(low + shape * (high - low))
    sides = jnp.minimum(jnp.sqrt(jnp.stack([area / ratio, area * ratio])), 1)
    middle = (2 * jnp.stack([down, across]) - 1) * (1 - sides)
    return jnp.diag(sides), middle


def _brighter(key: RandomKey, image: jax.Array) -> jax.Array:
    """Add to the value of hue, saturation and value."""
    del key
    value = jnp.max(image, axis=-1, keepdims=True)
    brighter = jnp.minimum(value + BRIGHTNESS, 1)
    black = value <= 0
    return jnp.where(black, brighter, image * brighter / jnp.where(black, 1, value))


def _less_contrast(key: RandomKey, image: jax.Array) -> jax.Array:
    del key
    mean = jnp.mean(image, axis=(0, 1), keepdims=True)
    return mean + CONTRAST * (image - mean)


def _blurred(key: RandomKey, image: jax.Array) -> jax.Array:
    """Blur by a Gaussian; the pixels of the border fill the outside."""
    del key
    for axis, side in enumerate(image.shape[:2]):
        weights = jnp.asarray(_blurring(side), image.dtype)
        moved = jnp.tensordot(weights, image, (1, axis), precision="highest")
        image = jnp.moveaxis(moved, 0, axis)
    return image


@functools.cache
def _blurring(side: int) -> np.ndarray:
    """Give the matrix that blurs a line of pixels: `[side, side]`."""
    radius = round(TRUNCATED * BLUR)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / BLUR) ** 2)
    weights /= weights.sum()
    found = np.zeros((side, side))
    for row in range(side):
        columns = np.clip(row + offsets, 0, side - 1)
        np.add.at(found[row], columns, weights)
    return found


def _noisy(key: RandomKey, image: jax.Array) -> jax.Array:
    return image + NOISE * jax.random.normal(key, image.shape, image.dtype)


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Augmentation(),
    "flip": Augmentation(_flipped),
    # Of a square on its corner, the square upright within it.
    "rotation": Augmentation(_rotated(45.0), seen=math.sqrt(0.5)),
    "rotation_135": Augmentation(_rotated(135.0), seen=math.sqrt(0.5)),
    "rotation_225": Augmentation(_rotated(225.0), seen=math.sqrt(0.5)),
    "rotation_315": Augmentation(_rotated(315.0), seen=math.sqrt(0.5)),
    "crop": Augmentation(_cropped),
    "brightness": Augmentation(colours=_brighter),
    "contrast": Augmentation(colours=_less_contrast),
    "blur": Augmentation(colours=_blurred),
    "noise": Augmentation(colours=_noisy),
}
"""Augmentations by name."""


def check(name: str) -> str:
    """Refuse an augmentation that there is not.

    Raises:
        ValueError: It is unknown.
    """
    wrong = f"`augmentation`={name!r} is unknown"
    return choices.pick(name, AUGMENTATIONS, wrong, "expected one of {}")


def augment(name: str, images: Images, key: RandomKey | None) -> jax.Array:
    """Augment images.

    Args:
        name: One of `AUGMENTATIONS`.
        images: `[batch, height, width, 3]` in [0, 1].
        key: For what is drawn; each image has its own key, derived from its pixels.

    Returns:
        Images of the same shape in [0, 1]; what comes from outside is black.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from unlir_jax.metrics.sanity import augmentations
        >>> images = jnp.zeros((1, 2, 2, 3)).at[0, 0, 0].set(1)  # A white pixel.
        >>> flipped = augmentations.augment("flip", images, jax.random.key(0))
        >>> flipped[0, 0, :, 0].tolist()
        [0.0, 1.0]
    """
    return _augmented(check(name), jnp.asarray(images), keys(images, key))


def move(name: str, planes: Saliency, image_keys: jax.Array) -> jax.Array:
    """Move maps as `augment` moves their images; photometric ones leave them as is.

    Args:
        name: One of `AUGMENTATIONS`.
        planes: `[batch, rows, columns]`, of any size.
        image_keys: Keys of the images, see `keys`.

    Returns:
        Maps of the same shape; what comes from outside is 0.
    """
    return _moved(check(name), jnp.asarray(planes), image_keys, 1)


def move_masks(name: str, masks: np.ndarray, image_keys: jax.Array) -> np.ndarray:
    """Move masks of whole numbers, each pixel from the nearest one; outside is 0."""
    found = _moved(check(name), jnp.asarray(masks, jnp.float32), image_keys, 0)
    return np.asarray(found).round().astype(masks.dtype)


def keys(images: Images, key: RandomKey | None) -> jax.Array:
    """Derive the keys of images, which what belongs to them is moved with."""
    return random_keys.per_image(key, images)


@functools.partial(jax.jit, static_argnums=0)
def _augmented(name: str, images: jax.Array, image_keys: jax.Array) -> jax.Array:
    known = AUGMENTATIONS[name]
    if known.place is not None:
        planes = jnp.moveaxis(images, -1, 0)
        images = jnp.stack([_moved(name, p, image_keys, 1) for p in planes], axis=-1)
    if known.colours is not None:
        images = jax.vmap(known.colours)(image_keys, images)
    return jnp.clip(images, 0, 1)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _moved(
    name: str, planes: jax.Array, image_keys: jax.Array, order: int
) -> jax.Array:
    place = AUGMENTATIONS[name].place
    if place is None:
        return planes
    rows, columns = planes.shape[1:]

    def one(key: RandomKey, plane: jax.Array) -> jax.Array:
        matrix, shift = place(key)
        down, across = (_centres(side) for side in (rows, columns))
        grid = jnp.stack(jnp.meshgrid(down, across, indexing="ij")).reshape(2, -1)
        sources = jnp.matmul(matrix, grid, precision="highest") + shift[:, None]
        sides = jnp.asarray([rows, columns], grid.dtype)[:, None]
        pixels = (sources + 1) * sides / 2 - 0.5
        found = jax.scipy.ndimage.map_coordinates(
            plane, list(pixels), order, mode="constant"
        )
        return found.reshape(rows, columns)

    return jax.vmap(one)(image_keys, planes)


def _centres(side: int) -> jax.Array:
    """Give the centres of pixels between -1 and 1."""
    return jnp.asarray((2 * np.arange(side) + 1) / side - 1, jnp.float32)
