"""Images of an evaluation that are worth looking at, and their maps.

While batches are scored, the maps of images that may be shown in the end are kept: of
each kind no more than can be chosen, whatever the number of images. An image without
kept maps is explained again. That happens after a change of `gallery`, in a workdir of
an earlier version, and where the judge is known only once all images are scored.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from unlir_jax import metrics
from unlir_jax.evaluation import batch_files, scoring
from unlir_jax.evaluation.setup import EvaluationSetup
from unlir_jax.evaluation.store import Rows
from unlir_jax.report import overlay
from unlir_jax.runs import sharing
from unlir_jax.storage import files

# Of what is asked for, the first of these decides what is best and worst.
JUDGES = ("insertion", "average_gain", "average_drop", "deletion")
# Threshold in place of 1, above which no pixel is.
HIGHEST = 0.999
FOLDER, MAPS, NONE = "gallery", "maps/", np.asarray([], int)


class Candidates(NamedTuple):
    """Hold images that may be shown, in the order of the data.

    Attributes:
        index: Places in the data, `[images]`.
        pixels: 8-bit images as the network sees them.
        values: Values of the judge, `[images, methods]`.
        flat: Whether maps are flat, `[images, methods]`.
        maps: Raw maps of each method that is shown, `[images, rows, columns]`.
    """

    index: np.ndarray
    pixels: np.ndarray
    values: np.ndarray
    flat: np.ndarray
    maps: dict[str, np.ndarray]


class Shown(NamedTuple):
    """Hold one image of the gallery.

    Attributes:
        kind: `best`, `worst` or `disputed`.
        name: Name of the image.
        picture: The image as the network sees it.
        views: By method, its map over the image and the image seen through it.
        scores: By method, what the judge gives.
        place: Its row in the table.
        judge: The metric of the scores.
        framed: Whether boxes are drawn.
    """

    kind: str
    name: str
    picture: Image.Image
    views: dict[str, overlay.View]
    scores: dict[str, float]
    place: int
    judge: str
    framed: bool = False


def judge(names: Sequence[str]) -> str:
    """Choose the metric by which images are the best and the worst."""
    return next((name for name in JUDGES if name in names), names[0])


def choose(
    values: np.ndarray, flat: np.ndarray, higher: bool, count: int
) -> list[tuple[str, int]]:
    """Choose the best, the worst and the most disputed images.

    Args:
        values: Values of the judge, `[images, methods]`, without controls.
        flat: Whether a map is flat, of the same shape; such images are the worst.
        higher: Whether more is better.
        count: Images of each kind; fewer where there are few images.

    Returns:
        Kinds and places; an image comes once.
    """
    order, apart = _orders(values, flat, higher)
    count = min(count, len(order) // 2)
    chosen = [("best", place) for place in order[:count]]
    chosen += [("worst", place) for place in order[::-1][:count]]
    if values.shape[1] > 1:
        taken = {place for _, place in chosen}
        left = [place for place in apart if place not in taken]
        chosen += [("disputed", place) for place in left[:count]]
    return chosen


def _orders(
    values: np.ndarray, flat: np.ndarray, higher: bool
) -> tuple[list[int], list[int]]:
    """Sort images from the best to the worst, and from the most disputed on."""
    finite = np.where(np.isfinite(values), values, 0.0)
    mean = (finite if higher else -finite).mean(1) - flat.any(1)
    apart = np.argsort(-np.ptp(finite, axis=1), kind="stable")
    return np.argsort(-mean, kind="stable").tolist(), apart.tolist()


def methods(setup: EvaluationSetup) -> list[str]:
    """List the methods that are shown: all but controls, unless there is no other."""
    own = [name for name in setup.explainers if name not in setup.controls]
    return own or list(setup.explainers)


def merge(*parts: Candidates | None) -> Candidates | None:
    """Put candidates together, each image once and in order."""
    known = [each for each in parts if each is not None]
    if not known:
        return None
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *known)
    _, places = np.unique(joined.index, return_index=True)
    return jax.tree.map(lambda leaf: leaf[places], joined)


def update(
    setup: EvaluationSetup, known: Candidates | None, scored: scoring.Scored
) -> Candidates | None:
    """Take in a batch, and drop what cannot be chosen any more.

    Returns:
        The same candidates where no image of the batch is one.
    """
    count = setup.settings.gallery
    every = merge(known, _of(setup, scored)) if count else None
    if every is None or not len(every.index):
        return known
    higher = metrics.higher_is_better(judge(setup.columns))
    order, apart = _orders(every.values, every.flat, higher)
    # Of the most disputed, as many may be among the best and the worst.
    kept = sorted({*order[:count], *order[::-1][:count], *apart[: 3 * count]})
    if known is not None and np.array_equal(known.index, every.index[kept]):
        return known
    return jax.tree.map(lambda leaf: leaf[kept], every)


def _of(setup: EvaluationSetup, scored: scoring.Scored) -> Candidates:
    maps = {name: scored.maps[name].astype(np.float32) for name in methods(setup)}
    judged = _judged(setup, scored.rows)
    return Candidates(scored.rows.index, scored.pixels, *judged, maps)


def _judged(setup: EvaluationSetup, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Give the judge's values and flat maps, `[images, methods]`."""
    places = [list(setup.explainers).index(name) for name in methods(setup)]
    column = setup.columns.index(judge(setup.columns))
    return rows.values[:, places, column], rows.flat[:, places]


def write(folder: Path, whose: batch_files.Whose, known: Candidates) -> None:
    """Keep the candidates of this process.

    Raises:
        ValueError: Nothing can be written there.
    """
    file = folder / FOLDER / f"{jax.process_index()}.npz"
    arrays = known._asdict()
    arrays |= {f"{MAPS}{name}": each for name, each in arrays.pop("maps").items()}
    with sharing.writing(folder):
        file.parent.mkdir(parents=True, exist_ok=True)
        about = whose.about(known.index, NONE)
        files.write_bytes(file, batch_files.pack(arrays, about))


def read(
    folder: Path,
    whose: batch_files.Whose,
    setup: EvaluationSetup,
    say: Callable[[str], None],
) -> Candidates | None:
    """Read the candidates of all processes, but for damaged files, which it says."""
    found = []
    for file in sorted((folder / FOLDER).glob("*.npz")):
        try:
            found.append(_read(file, whose, setup))
        except (ValueError, OSError) as error:
            damage = " ".join(str(error).split())
            say(f"{str(file)!r} is damaged ({damage}): its maps are made again.")
    return merge(*found)


def _read(file: Path, whose: batch_files.Whose, setup: EvaluationSetup) -> Candidates:
    """Read a file, and refuse what this evaluation has not written."""
    arrays, about = batch_files.unpack(file)
    names, side = methods(setup), setup.image_size
    own = [name for name in Candidates._fields if name != "maps"]
    if set(arrays) != {*own, *(f"{MAPS}{name}" for name in names)}:
        raise ValueError("it has too few or too many arrays")
    maps = {name: arrays[f"{MAPS}{name}"] for name in names}
    found = Candidates._make([*(arrays[name] for name in own), maps])
    count = found.index.size
    shapes = [(count,), (count, side, side, 3), *2 * [(count, len(names))]]
    shapes += [(count, *each.shape[1:3]) for each in maps.values()]
    leaves = [*found[:4], *maps.values()]
    kinds = "".join(each.dtype.kind for each in leaves)
    if kinds != "iufb" + len(maps) * "f" or any(not each.size for each in leaves):
        raise ValueError("an array is of another type, or empty")
    if [each.shape for each in leaves] != shapes or {e.ndim for e in leaves[4:]} != {3}:
        raise ValueError("an array has another shape")
    inside = (found.index >= 0).all() and (found.index < setup.data.size).all()
    if not inside or about != whose.about(found.index, NONE):
        raise ValueError("it is of another evaluation")
    return found


def draw(
    setup: EvaluationSetup,
    rows: Rows,
    names: Sequence[str],
    known: Candidates | None,
    thresholds: Mapping[str, Sequence[Sequence[float]]],
) -> list[Shown]:
    """Choose images, and draw their maps: kept ones, or new ones where none are.

    True boxes are drawn where they are known, and the box around the largest part of
    each map at the threshold of the judge, or of the first metric that has one.

    Args:
        setup: The evaluation.
        rows: Its scores.
        names: Names of the images.
        known: Maps that were kept.
        thresholds: By `method/metric`, for each overlap and half of the images.
    """
    by = judge(setup.columns)
    values, flat = _judged(setup, rows)
    higher = metrics.higher_is_better(by)
    chosen = choose(values, flat, higher, setup.settings.gallery)
    wanted = [int(rows.index[place]) for _, place in chosen]
    kept = () if known is None else known.index.tolist()
    known = merge(known, *_explained(setup, sorted(set(wanted).difference(kept))))
    shown: list[Shown] = []
    if known is None:
        return shown
    there = scoring.objects(setup, np.asarray(sorted(set(wanted))))
    for (kind, place), index in zip(chosen, wanted, strict=True):
        # An image that could be scored may be gone since.
        for row in np.flatnonzero(known.index == index).tolist():
            picture = Image.fromarray(known.pixels[row])
            views = {
                name: overlay.views(
                    [picture],
                    known.maps[name][row : row + 1],
                    setup.signs if name in setup.signed else None,
                )[0]
                for name in methods(setup)
            }
            scores = dict(zip(views, values[place].tolist(), strict=True))
            true = there.get(index, {}).get("boxes")
            if true is not None:
                cuts = _cuts(setup, thresholds, place)
                raw = {name: known.maps[name][row] for name in views}
                views = _framed(picture, views, raw, true, cuts)
            about = views, scores, place, by, true is not None
            shown.append(Shown(kind, names[place], picture, *about))
    return shown


def _cuts(
    setup: EvaluationSetup,
    thresholds: Mapping[str, Sequence[Sequence[float]]],
    place: int,
) -> dict[str, float]:
    """Give the threshold of each method for the image in one row of the table."""
    columns = sorted(setup.columns, key=lambda name: name != judge(setup.columns))
    found = {}
    for name in methods(setup):
        own = [
            thresholds[f"{name}/{c}"] for c in columns if f"{name}/{c}" in thresholds
        ]
        if own:
            halves = own[0][len(own[0]) // 2]
            found[name] = halves[place % len(halves)]
    return found


def _framed(
    picture: Image.Image,
    views: Mapping[str, overlay.View],
    raw: Mapping[str, np.ndarray],
    true: np.ndarray,
    cuts: Mapping[str, float],
) -> dict[str, overlay.View]:
    found = {}
    for name, view in views.items():
        own = np.zeros((0, 4), int)
        if name in cuts:
            size, cut = (picture.height, picture.width), min(cuts[name], HIGHEST)
            mask = metrics.object_masks(raw[name][None], size, threshold=cut)
            own = metrics.object_boxes(mask)[0]
        drawn = overlay.framed(view.overlay, picture.size, true, own)
        found[name] = view._replace(overlay=drawn)
    return found


def _explained(setup: EvaluationSetup, indices: Sequence[int]) -> list[Candidates]:
    """Explain images of which no maps are kept."""
    own = {name: setup.explainers[name] for name in methods(setup)}
    alone = setup._replace(explainers=own, scorers=())
    batches = scoring.read(alone, np.asarray(indices)) if indices else ()
    return [_of(alone, scoring.score(alone, batch)) for batch in batches]
