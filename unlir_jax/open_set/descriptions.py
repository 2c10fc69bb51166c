"""Descriptions of all images by a frozen network, kept on the disk."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from unlir_jax.data import source
from unlir_jax.features import cache
from unlir_jax.models import pooling
from unlir_jax.open_set.recogniser import Described
from unlir_jax.open_set.scores.neighbours import unit
from unlir_jax.open_set.setup import OpenSetSetup
from unlir_jax.parts import clustering, discovery
from unlir_jax.runtime import preemption

ROWS = 64
DIMENSIONS = 256
"""Dimensions of whitened cells."""


class Split(NamedTuple):
    """Hold a split of the data as the network sees it.

    Attributes:
        pooled: Pooled features, `[images, channels]`.
        labels: `[images]`.
        places: Place of each in the source; images that cannot be read are left out.
        maps: Maps of the images, on the disk; None where no score reads parts.
        unreadable: Number of images that cannot be read.
    """

    pooled: np.ndarray
    labels: np.ndarray
    places: np.ndarray
    maps: np.ndarray | None
    unreadable: int

    def take(self, chosen: np.ndarray) -> "Split":
        """Keep some images; maps stay where they are, by place."""
        return self._replace(
            pooled=self.pooled[chosen],
            labels=self.labels[chosen],
            places=self.places[chosen],
        )


class Detectors(NamedTuple):
    """Hold detectors of parts, clusters of cells.

    Attributes:
        whitening: Map of cells to whitened space.
        centres: Unit centre of each part, `[parts, dimensions]`.
    """

    whitening: clustering.Whitening
    centres: np.ndarray


def read(
    setup: OpenSetSetup,
    data: source.Source,
    name: str,
    progress: Callable[[str, float], None],
    asked: Callable[[], str] = lambda: "",
) -> Split:
    """Compute the features of a split, or read those that are kept.

    Args:
        setup: What is described.
        data: Images of the split.
        name: Its name.
        progress: Told what is being done, and the share of it.
        asked: Gives the name of a signal that asks to stop, or "".

    Raises:
        ValueError: No image of it can be read.
        preemption.Stopped: It was asked to stop.
    """
    settings = setup.settings

    def advance(share: float) -> None:
        progress(f"features of {name}", share)
        if asked():
            raise preemption.Stopped(
                f"Stopped by {asked()} at features of {name}; what is computed is "
                "kept, and the same command continues."
            )

    found = cache.cached(
        data,
        setup.network.variables,
        setup.network.module,
        name=setup.network.name,
        image_size=setup.image_size,
        crop=setup.crop,
        interpolation=setup.interpolation,
        batch_size=settings.batch_size,
        folder=settings.features.folder or None,
        threads=settings.data.threads or None,
        workers=settings.data.workers,
        strict=settings.data.strict,
        poolings=cache.WHOLE if setup.by_parts else (setup.pooling,),
        progress=advance,
    )
    kept = np.flatnonzero(np.asarray(found.weight) > 0)
    if not len(kept):
        raise ValueError(
            f"No image of {name} can be read: {source.reason(data, 0)}; expected some."
        )
    lost = len(found.weight) - len(kept)
    labels = np.asarray(found.label)[kept]
    maps = found.features if setup.by_parts else None
    if maps is None:
        rows = np.asarray(found.features[kept]).reshape(len(kept), -1)
    else:
        rows = [_pool(maps[some], setup.pooling) for some in _chunks(kept)]
        rows = np.concatenate(rows)
    pooled = unit(rows) if settings.unit_length else rows
    return Split(pooled, labels, kept, maps, lost)


def _chunks(places: np.ndarray) -> list[np.ndarray]:
    return [places[start : start + ROWS] for start in range(0, len(places), ROWS)]


def _pool(maps: Float[np.ndarray, "images rows columns channels"], how: str):
    return np.asarray(_pooled(how)(_padded(maps)))[: len(maps)]


@functools.cache
def _pooled(how: str) -> Callable[[np.ndarray], jax.Array]:
    return jax.jit(pooling.POOLINGS[how])


def _padded(maps: np.ndarray) -> np.ndarray:
    """Fill a last chunk up, so that one program serves all."""
    more = [(0, ROWS - len(maps))] + [(0, 0)] * (maps.ndim - 1)
    return np.pad(maps, more, mode="edge")


def fit_detectors(
    split: Split, chosen: np.ndarray, *, parts: int, images: int, seed: int
) -> Detectors:
    """Cluster cells of training images of known classes, without labels.

    Args:
        split: The training split, with maps.
        chosen: Rows of the split that are of known classes.
        parts: Number of parts.
        images: Number of images whose cells are clustered, drawn where there are more.
        seed: Seed of the draw and of the clustering.

    Raises:
        ValueError: More parts than cells, or cells that are all equal.
    """
    if len(chosen) > images:
        random = np.random.default_rng([seed, 2])
        chosen = np.sort(random.choice(chosen, images, replace=False))
    maps = _maps(split)[split.places[chosen]]
    cells = maps.reshape(-1, maps.shape[-1])
    whitening = clustering.whitening(cells, DIMENSIONS)
    rows = clustering.whiten(cells, whitening)
    key = jax.random.key(seed)
    found = clustering.kmeans(rows, parts, key=key, spherical=True)
    return Detectors(whitening, np.asarray(found.centres))


def part_scores(split: Split, detectors: Detectors) -> np.ndarray:
    """Score the parts of all images: largest and mean cosine, `[images, 2 parts]`."""
    maps, bag = _maps(split), _bagging(detectors)
    found = [
        np.asarray(bag(_padded(maps[some])))[: len(some)]
        for some in _chunks(split.places)
    ]
    return np.concatenate(found)


def bags(maps: np.ndarray, detectors: Detectors) -> np.ndarray:
    """Score the parts of a few images by their maps, `[images, 2 parts]`."""
    return np.asarray(_bagging(detectors)(maps))


def _bagging(detectors: Detectors) -> Callable[[np.ndarray], jax.Array]:
    @jax.jit
    def bag(rows: jax.Array) -> jax.Array:
        cells = rows.reshape(len(rows), -1, rows.shape[-1])
        white = clustering.whiten(cells, detectors.whitening)
        return discovery.bag_of_parts(white @ detectors.centres.T)

    return bag


def _maps(split: Split) -> np.ndarray:
    if split.maps is None:
        raise ValueError("The split has no maps; expected a setup with parts.")
    return split.maps


def described(split: Split, detectors: Detectors | None) -> Described:
    """Give what scores read of a split."""
    parts = None if detectors is None else part_scores(split, detectors)
    return Described(split.pooled, parts)


def names(data: source.Source, places: Sequence[int] | np.ndarray) -> list[str]:
    """Name the images at some places."""
    return [data.name(int(place)) for place in places]
