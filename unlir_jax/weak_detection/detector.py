"""A trained detector: its arrays in a file, and what it finds in images."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import detection
from unlir_jax.parts import clustering
from unlir_jax.storage import files
from unlir_jax.types import PyTree
from unlir_jax.weak_detection import class_maps, heads
from unlir_jax.weak_detection.regions import SIDE, Regions
from unlir_jax.weights import readers

FILE = "detector.npz"
BATCH = 16


class Detector(NamedTuple):
    """Hold a trained detector.

    Attributes:
        whitening: Map of the network's cells to whitened space.
        variables: What was learned.
    """

    whitening: clustering.Whitening
    variables: PyTree


def write(path: Path, found: Detector) -> None:
    """Write a detector, complete or not at all."""
    arrays = {
        f"whitening/{name}": np.asarray(value)
        for name, value in found.whitening._asdict().items()
    }
    arrays |= {
        f"variables/{name}": np.asarray(leaf)
        for name, leaf in flat(found.variables).items()
    }
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    files.write_bytes(path, stream.getvalue())


def flat(variables: PyTree) -> dict[str, Any]:
    """Name the arrays of a detector by their paths."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
    }


def read(path: Path, template: PyTree) -> Detector:
    """Read a detector that has the shapes of a template.

    Raises:
        ValueError: The file is damaged or missing, or has other arrays.
    """
    try:
        arrays = readers.read(path)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"Detector {str(path)!r} cannot be read ({error}); expected what `unlir "
            "train --config configs/weak_detection.py` wrote."
        ) from error
    parts: Any = (_array(arrays, f"whitening/{name}", path) for name in _WHITENING)
    whitening = clustering.Whitening(*parts)
    mean, matrix = whitening.mean, whitening.matrix
    sound = matrix.ndim == 2 and mean.shape == matrix.shape[:1]
    if not sound or not all(np.isfinite(part).all() for part in whitening):
        raise ValueError(
            f"Detector {str(path)!r} has a whitening with shapes {mean.shape} and "
            f"{matrix.shape}, or numbers that are not finite; expected [channels] and "
            "[channels, dimensions]."
        )
    wanted = flat(template)
    for name, leaf in wanted.items():
        found = _array(arrays, f"variables/{name}", path)
        if found.shape != leaf.shape or not np.isfinite(found).all():
            raise ValueError(
                f"Detector {str(path)!r} has {name!r} of shape {found.shape}, or "
                f"numbers that are not finite; expected shape {leaf.shape}."
            )
    leaves = [jnp.asarray(arrays[f"variables/{name}"]) for name in wanted]
    structure = jax.tree_util.tree_structure(template)
    return Detector(whitening, jax.tree_util.tree_unflatten(structure, leaves))


_WHITENING = clustering.Whitening._fields


def _array(arrays: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    if name not in arrays:
        raise ValueError(
            f"Detector {str(path)!r} lacks {name!r}; expected what `unlir train` wrote."
        )
    return arrays[name]


def detect(
    made: heads.Heads | None,
    regions: Regions,
    variables: PyTree,
    cells: np.ndarray,
    sizes: np.ndarray,
    *,
    nms: float,
    voting: float = 1.0,
) -> list[detection.Detections]:
    """Find boxes in images, the best first; all that NMS keeps.

    Args:
        made: Heads that score regions; None for boxes around class maps.
        regions: Regions of all images.
        variables: What was learned.
        cells: Whitened maps, `[images, rows, columns, dimensions]`.
        sizes: Width and height of the images in pixels, `[images, 2]`.
        nms: Largest overlap of two boxes of a class.
        voting: Least overlap of the boxes that vote for the place of one, see
            `detection.vote`; 1 for none.
    """
    if made is None:
        return class_maps.detect(variables, cells, sizes)
    scores = jax.jit(jax.vmap(made.scores, (None, 0)))
    windows = jnp.asarray(regions.windows)
    # Overlaps are those in the square: NMS sees what training saw.
    found: list[detection.Detections] = []
    for start in range(0, len(cells), BATCH):
        some = cells[start : start + BATCH]
        more = [(0, BATCH - len(some))] + [(0, 0)] * 3
        values = np.asarray(scores(variables, np.pad(some, more, mode="edge")))
        for row, size in zip(values, sizes[start : start + BATCH], strict=False):
            kept = np.asarray(detection.nms(windows, row, threshold=nms).mask)
            places, labels = np.nonzero(kept)
            best = np.argsort(-row[places, labels], kind="stable")
            places, labels = places[best], labels[best]
            found_boxes = regions.windows[places]
            if voting < 1:
                voted = detection.vote(windows, row, threshold=voting)
                found_boxes = np.asarray(voted)[places, labels]
            boxes = in_pixels(found_boxes, size)
            found.append(detection.Detections(boxes, row[places, labels], labels))
    return found


def in_pixels(windows: np.ndarray, size: Sequence[int] | np.ndarray) -> np.ndarray:
    """Turn places in the square into pixels of an image of some width and height."""
    return windows * (np.tile(np.asarray(size, np.float32), 2) / SIDE)
