"""Training images, read again to show the regions that parts are learnt from."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from unlir_jax.core.document_types import Document
from unlir_jax.data import preprocessing
from unlir_jax.data import source as sources
from unlir_jax.runs import workdir

# A region is shown with what is round it: so many times its side, and at least so
# much of the frame.
CONTEXT, LEAST = 2.0, 0.26
KEPT = 256


class TrainingImages(NamedTuple):
    """Give the training images of a workdir, as far as they are still there.

    Attributes:
        source: The training split; None where it cannot be opened.
        frame: `region -> picture` as the network saw it, or None; a region is one of
            `parts.json`.
        missing: A sentence about what cannot be shown, or "".
    """

    source: sources.Source | None
    frame: Callable[[Document], Image.Image | None]
    missing: str = ""


def nothing(sentence: str) -> TrainingImages:
    """Give no images, and say why."""
    return TrainingImages(None, lambda region: None, sentence)


def open_images(
    folder: Path, side: int, crop: float, interpolation: str
) -> TrainingImages:
    """Open the training images that the config of a workdir names.

    Args:
        folder: The workdir.
        side: Side of the framed images in pixels; they show the same at any.
        crop: Share of the shorter side that is kept.
        interpolation: See `preprocessing.INTERPOLATIONS`.
    """
    try:
        source = sources.narrowed(workdir.training_pictures(folder))
    except ValueError as error:
        return nothing(f"{error} No regions of them are shown.")
    framed = preprocessing.framing(side, crop, interpolation)

    @functools.lru_cache(maxsize=KEPT)
    def read(index: int, name: str) -> Image.Image | None:
        if index >= source.size or source.name(index) != name:
            return None
        try:
            return framed(source.read(index)["image"])
        except (ValueError, OSError):
            return None

    return TrainingImages(
        source, lambda region: read(region["index"], region["picture"])
    )


def cut(
    training: TrainingImages,
    region: Document,
    side: int,
    context: float = CONTEXT,
) -> Image.Image | None:
    """Cut a region and what is round it out of its image.

    Args:
        training: Where the image is.
        region: One of `parts.json`.
        side: Side of the result in pixels.
        context: How many times the region's side is shown.

    Returns:
        None where the image is not there any more, or is another one.
    """
    picture = training.frame(region)
    if picture is None:
        return None
    return picture.resize(
        (side, side), Image.Resampling.LANCZOS, box=_around(region, picture, context)
    )


def _around(
    region: Document, picture: Image.Image, context: float
) -> tuple[float, float, float, float]:
    """Enlarge a region's box within the frame, in pixels."""
    x0, y0, x1, y1 = region["box"]
    side = min(max((x1 - x0) * context, LEAST), 1.0)
    left, top = (
        min(max((low + high - side) / 2, 0.0), 1.0 - side)
        for low, high in ((x0, x1), (y0, y1))
    )
    width = picture.width
    # Rounding must not reach out of the image.
    far = (min((left + side) * width, width), min((top + side) * width, width))
    return (left * width, top * width, *far)


def cuts(
    training: TrainingImages, regions: list[Document], side: int, count: int
) -> list[tuple[Document, Image.Image]]:
    """Cut out the first so many regions that are still there."""
    found = []
    for region in regions:
        if len(found) == count:
            break
        image = cut(training, region, side)
        if image is not None:
            found.append((region, image))
    return found
