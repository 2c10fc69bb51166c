"""Most confusing test images: unknown ones that look known, and the reverse."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from unlir_jax.core.document_types import Document
from unlir_jax.data import preprocessing, source
from unlir_jax.open_set.score_names import BEST
from unlir_jax.open_set.setup import OpenSetSetup
from unlir_jax.report import open_set_page

SIDE = 144


class Confusing(NamedTuple):
    """Hold an image that a score takes for the other kind.

    Attributes:
        picture: The image as the network frames it, small.
        name: Its name in the data.
        meaning: Its class, and the known class that it is taken for.
        known: Whether it is of a known class.
        rank: Share of images of the other kind that look less like this one's kind.
    """

    picture: Image.Image
    name: str
    meaning: str
    known: bool
    rank: float


def draw(setup: OpenSetSetup, found: Sequence[Document]) -> list[Confusing]:
    """Find the most confusing images of the first split, by its last score.

    Args:
        setup: What was evaluated.
        found: See `trial.run`, with the names of the images.

    Returns:
        Unknown images that score highest, then known ones that score lowest.
    """
    split, count = found[0], setup.settings.gallery
    name = BEST if BEST in setup.names else setup.names[0]
    scores = np.asarray(split["scores"][name])
    is_known = np.asarray(split["is_known"]) > 0
    order = np.argsort(scores, kind="stable")
    unknown = [int(place) for place in order[::-1] if not is_known[place]][:count]
    known = [int(place) for place in order if is_known[place]][:count]
    inside, outside = open_set_page.sides(split, name)
    return [
        *(
            _shown(setup, split, place, False, inside < scores[place])
            for place in unknown
        ),
        *(
            _shown(setup, split, place, True, outside > scores[place])
            for place in known
        ),
    ]


def _shown(
    setup: OpenSetSetup,
    split: Document,
    place: int,
    is_known: bool,
    beyond: np.ndarray,
) -> Confusing:
    named = split["images"][place]
    index = _index(setup.test, named)
    example = source.narrowed(setup.test).read(index)
    frame = preprocessing.framing(setup.image_size, setup.crop, setup.interpolation)
    picture = frame(example["image"]).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    every = setup.test.classes
    own, taken = every[int(example["label"])], every[split["predicted"][place]]
    return Confusing(
        picture,
        named,
        own if own == taken else f"{own}, taken for {taken}",
        is_known,
        float(np.mean(beyond)),
    )


def _index(data: source.Source, name: str) -> int:
    return next(index for index in range(data.size) if data.name(index) == name)
