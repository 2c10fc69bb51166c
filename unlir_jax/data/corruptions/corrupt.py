"""Corruptions by name and severity, as pure functions of images and a key."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from unlir_jax.core import choices, random_keys
from unlir_jax.data.corruptions import blur, digital, noise, weather
from unlir_jax.types import Array, RandomKey

Change = Callable[[np.ndarray, np.random.Generator, int], np.ndarray]
"""`(image, random, severity) -> image` of one image in [0, 1], in float64."""
SEVERITIES = (1, 2, 3, 4, 5)
CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "gaussian_noise": noise.gaussian_noise,
        "shot_noise": noise.shot_noise,
        "impulse_noise": noise.impulse_noise,
        "defocus_blur": blur.defocus_blur,
        "glass_blur": blur.glass_blur,
        "motion_blur": blur.motion_blur,
        "zoom_blur": blur.zoom_blur,
        "snow": weather.snow,
        "frost": weather.frost,
        "fog": weather.fog,
        "brightness": digital.brightness,
        "contrast": digital.contrast,
        "elastic_transform": digital.elastic_transform,
        "pixelate": digital.pixelate,
        "jpeg_compression": digital.jpeg_compression,
    }
)
NAMES = tuple(CHANGES)


def corrupt(name: str, severity: int = 1) -> Callable[..., np.ndarray]:
    """Make `(images, key) -> images`, which corrupts images on the host.

    Args:
        name: One of `NAMES`.
        severity: 1 to 5.

    Returns:
        A function of images `[batch, height, width, channels]` in [0, 1] with 1 or 3
        channels, and a typed key. What is drawn for an image depends on the key and
        on its pixels, not on the batch.

    Raises:
        ValueError: An unknown name or severity; or when called, images of another
            shape, or outside of [0, 1].
        TypeError: When called: the key is none.

    References:
        Hendrycks & Dietterich, ICLR 2019, Section 3 and Appendix B.

    Note:
        Severities are the benchmark's for images of 224 pixels; lengths in
        pixels do not shrink with smaller ones. Frost is drawn, where the benchmark has
        photographs. Random corruptions draw other numbers. So accuracies differ
        from those on the benchmark's files. Images are not rounded but for
        `jpeg_compression` and `pixelate`.

    Example:
        >>> import jax, numpy as np
        >>> from unlir_jax.data import corruptions
        >>> images = np.full((1, 4, 4, 3), 0.2, np.float32)
        >>> found = corruptions.corrupt("brightness", 3)(images, jax.random.key(0))
        >>> round(float(found[0, 0, 0, 0]), 3)
        0.5
    """
    wrong = f"`name`={name!r} is no corruption"
    change = CHANGES[choices.pick(name, NAMES, wrong)]
    check_severity(severity)

    def apply(images: Array, key: RandomKey | None) -> np.ndarray:
        given = np.asarray(images)
        _check(given)
        if not len(given):
            return given
        keys = random_keys.per_image(key, given)
        data = np.asarray(jax.vmap(jax.random.key_data)(keys))
        made = [
            change(image.astype(np.float64), _random(seed, name), severity)
            for image, seed in zip(given, data, strict=True)
        ]
        return np.clip(np.stack(made), 0, 1).astype(given.dtype)

    return apply


def check_severity(severity: Any) -> None:
    """Refuse a severity that is not 1 to 5.

    Raises:
        ValueError: It is not.
    """
    if isinstance(severity, bool) or severity not in SEVERITIES:
        raise ValueError(f"`severity`={severity!r}; expected 1, 2, 3, 4 or 5.")


def _check(images: np.ndarray) -> None:
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:3]:
        raise ValueError(
            f"`images` has shape {images.shape}; expected [batch, height, width, 3], or"
            " 1 channel."
        )
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"`images` are {images.dtype}; expected floating point in [0, 1]."
        )
    if len(images) and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            f"`images` holds {images.min():g} to {images.max():g}; expected values in "
            "[0, 1]."
        )


def _random(seed: np.ndarray, name: str) -> np.random.Generator:
    """Seed a generator with an image's key, another one for each corruption."""
    return np.random.default_rng([*seed.tolist(), NAMES.index(name)])
