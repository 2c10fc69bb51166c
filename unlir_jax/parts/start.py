"""Where parts and their say start from: statistics of what a frozen trunk sees.

Whitening and k-means find what cells are alike, without labels; a ridge regression then
says in closed form what each part's descriptor means for each class. Gradient descent
may go on from there, and has to where there are too many pictures.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from unlir_jax import tree
from unlir_jax.models.cells import unpack
from unlir_jax.models.decisions import Descriptors
from unlir_jax.models.prototypes import Prototypes
from unlir_jax.parts import clustering, projection, ridge
from unlir_jax.types import Array, RandomKey, Variables

CHUNK = 64
CELLS = 60_000
# Of what is held of descriptors at once; with more, pictures are gone through again.
BYTES = 2**30
# What the finer maps count for beside the last ones, which count for one.
FINER = 0.2
# The inner products of all pairs of so many pictures still fit into memory.
MOST_PICTURES = 12_000
PARTS = ("kmeans", "class_kmeans", "project", "random")
CLASSIFIERS = ("ridge", "random")
AT = "params/classifier/"


class Start(NamedTuple):
    """Hold variables to start from, and what became known on the way.

    Attributes:
        variables: Of the part network.
        notes: Numbers by name, such as the accuracy of leaving one picture out.
    """

    variables: dict[str, Any]
    notes: dict[str, float]


def start(
    module: Any,
    variables: Variables,
    maps: Array,
    labels: Array,
    *,
    key: RandomKey,
    parts: str = "kmeans",
    classifier: str = "ridge",
    restarts: int = 3,
    progress: Callable[[str], None] = lambda text: None,
) -> Start:
    """Fit a part network to the maps of its frozen trunk.

    Args:
        module: A `models.parts.PartNet`.
        variables: Its variables, to be filled in.
        maps: What its `features` gave of the training pictures, `[pictures, rows,
            columns, channels]`; may lie on the disk, and is read by chunks.
        labels: int `[pictures]`.
        key: Of the cells that are looked at, and of the clustering.
        parts: `kmeans`: white spaces from the cells' covariance, parts from spherical
            k-means in them; `class_kmeans`: prototypes from k-means of each class, see
            `projection.seed`; `project`: each prototype becomes a cell of a training
            picture, see `projection.project`; `random`: as they are.
        classifier: `ridge`: in closed form, see `ridge.solve`; `random`: as it is.
        restarts: Of k-means.
        progress: Told what is being done.

    Raises:
        ValueError: A way to start that does not exist, or does not suit the decision
            or the number of pictures.
    """
    check(module, parts, classifier, len(labels))
    leaves = {path: np.asarray(leaf) for path, leaf in tree.flatten(variables).items()}
    notes: dict[str, float] = {}
    first, second, third = jax.random.split(key, 3)
    if parts in ("kmeans", "class_kmeans"):
        progress("whitening")
        leaves |= _whiten(module, leaves, maps, first)
    progress("parts")
    if parts == "kmeans":
        cells = _embed(module, tree.unflatten(leaves), maps, second)
        count = module.classifier.parts
        found = clustering.kmeans(
            cells, count, key=third, restarts=restarts, spherical=True
        )
        leaves[f"{AT}parts/kernel"] = np.asarray(found.centres).T
        notes["start/inertia"] = float(found.inertia[-1]) / len(cells)
    elif parts == "class_kmeans":
        seeded = projection.seed(
            module, tree.unflatten(leaves), maps, labels, key=third
        )
        leaves = tree.flatten(seeded)
    elif parts == "project":
        moved = projection.project(module, tree.unflatten(leaves), maps, labels)
        leaves = tree.flatten(moved.variables)
        notes["start/projection_distance"] = float(moved.distance.mean())
    if classifier == "ridge":
        progress("classifier")
        fitted, solved = _decide(module, tree.unflatten(leaves), maps, labels)
        leaves |= fitted
        notes["start/left_out_accuracy"] = solved.accuracy
        notes["start/penalty"] = solved.penalty
    return Start(tree.unflatten(leaves), notes)


def check(module: Any, parts: str, classifier: str, pictures: int) -> None:
    """Refuse ways to start that do not exist or do not fit; see `start`."""
    for name, value, known in (
        ("parts", parts, PARTS),
        ("classifier", classifier, CLASSIFIERS),
    ):
        if value not in known:
            raise ValueError(
                f"`start.{name}`={value!r}; expected one of {', '.join(known)}."
            )
    if parts == "kmeans" and isinstance(module.classifier, Prototypes):
        raise ValueError(
            "`start.parts`='kmeans' gives parts of no class, which prototypes have to "
            "have; expected 'class_kmeans', 'project' or 'random'."
        )
    if classifier == "ridge" and not isinstance(module.classifier, Descriptors):
        raise ValueError(
            "`start.classifier`='ridge' needs parts that carry descriptors; expected "
            "decision.name='descriptors', or 'random'."
        )
    if classifier == "ridge" and pictures > MOST_PICTURES:
        raise ValueError(
            f"`start.classifier`='ridge' compares all pairs of {pictures} pictures; "
            f"expected at most {MOST_PICTURES}, or 'random' and more steps."
        )


def _chunks(maps: Array) -> Iterator[tuple[int, np.ndarray]]:
    """Read pictures by chunks of one size, the last one filled up."""
    for first in range(0, len(maps), CHUNK):
        rows = np.asarray(maps[first : first + CHUNK], np.float32)
        missing = CHUNK - len(rows)
        yield first, np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1))


def _sample(
    compute: Callable[[np.ndarray], Array], maps: Array, key: RandomKey
) -> np.ndarray:
    """Draw cells evenly from all pictures: `[cells, width]`, at most about `CELLS`."""
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    kept = []
    for first, rows in _chunks(maps):
        cells = np.asarray(compute(rows))[: len(maps) - first]
        cells = cells.reshape(-1, cells.shape[-1])
        share = min(1.0, CELLS * len(rows) / len(maps) / max(len(cells), 1))
        kept.append(cells[random.random(len(cells)) < share])
    return np.concatenate(kept)


def _whiten(
    module: Any, leaves: Mapping[str, Any], maps: Array, key: RandomKey
) -> dict[str, np.ndarray]:
    """Fit the white space of each layer that has one."""
    head = module.classifier
    fitted = {}
    for layer, dimensions in zip(("last", "finer"), head.dimensions, strict=True):
        if f"{AT}regions/{layer}/kernel" not in leaves:
            continue

        def compute(rows: np.ndarray, layer: str = layer) -> Array:
            grid = unpack(rows, module.channels, module.others)
            return grid.maps if layer == "last" else grid.finer

        regions = _sample(compute, maps, key)
        white = clustering.whitening(regions, dimensions)
        missing = dimensions - white.matrix.shape[1]
        kernel = np.pad(np.asarray(white.matrix), ((0, 0), (0, missing)))
        fitted[f"{AT}regions/{layer}/mean"] = np.asarray(white.mean)
        fitted[f"{AT}regions/{layer}/kernel"] = kernel
    return fitted


def _embed(
    module: Any, variables: Variables, maps: Array, key: RandomKey
) -> np.ndarray:
    embed = jax.jit(functools.partial(module.apply, variables, method="describe_cells"))
    return _sample(embed, maps, key)


def _decide(
    module: Any, variables: Variables, maps: Array, labels: Array
) -> tuple[dict[str, np.ndarray], ridge.Ridge]:
    """Fit the classifier to the descriptors of all parts, a block of parts at a time.

    With all of them at once, memory would grow with pictures times parts.
    """
    head, pictures = module.classifier, len(labels)
    block = max(1, min(head.parts, BYTES // (4 * pictures * head.length)))
    starts = [min(first, head.parts - block) for first in range(0, head.parts, block)]

    @jax.jit
    def describe(rows: Array, first: Array) -> Array:
        return module.apply(variables, rows, first, block, method="describe")

    @functools.lru_cache(maxsize=1)
    def gather(first: int) -> tuple[np.ndarray, np.ndarray]:
        found = np.empty((pictures, block, head.length), np.float32)
        for place, rows in _chunks(maps):
            end = min(place + CHUNK, pictures)
            found[place:end] = np.asarray(describe(rows, first))[: end - place]
        usual = found.mean(0, dtype=np.float64).astype(np.float32)
        found -= usual
        return found, usual

    shape, channels = (head.parts, head.length), head.channels
    mean, products = np.zeros(shape, np.float32), np.zeros((2, pictures, pictures))
    for number, first in enumerate(starts):
        found, mean[first : first + block] = gather(first)
        new = found[:, max(0, number * block - first) :]
        for layer, values in enumerate((new[..., :channels], new[..., channels:])):
            flat = values.reshape(pictures, -1)
            products[layer] += flat @ flat.T
    scale, products = _scale(head, products)
    solved = ridge.solve(products, labels, head.classes)
    kernel = np.zeros((*shape, head.classes), np.float32)
    for first in reversed(starts):
        found, _ = gather(first)
        flat = (found / scale).reshape(pictures, -1).T @ solved.dual
        kernel[first : first + block] = flat.reshape(block, -1, head.classes)
    fitted = {"mean": mean, "scale": scale, "bias": solved.bias}
    fitted |= _factors(kernel, head.rank)
    return {AT + name: np.asarray(leaf) for name, leaf in fitted.items()}, solved


def _scale(head: Any, products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each layer its due in the inner products.

    Args:
        head: The decision.
        products: Of the last and of the finer maps' part of descriptors, `[2, pictures,
            pictures]`.

    Returns:
        What to divide descriptors by, `[length]`, so that entries of the last maps have
        deviation one and the finer maps together count `FINER` of them, however many
        channels they have; and the inner products of descriptors divided so.
    """
    pictures, others = products.shape[1], head.length - head.channels
    entries = pictures * head.parts * head.channels
    last, finer = np.sqrt(np.trace(products, axis1=1, axis2=2) / entries)
    least = np.finfo(np.float32).tiny
    last, finer = max(last, least), max(finer / np.sqrt(FINER), least)
    scale = np.repeat([last, finer], [head.channels, others]).astype(np.float32)
    # Twice each, as the square of the least number is zero.
    return scale, products[0] / last / last + products[1] / finer / finer


def _factors(kernel: np.ndarray, rank: int) -> dict[str, np.ndarray]:
    """Give a kernel, or its best approximation by a basis that all parts share."""
    if not rank:
        return {"kernel": kernel}
    parts, channels, classes = kernel.shape
    wide = kernel.transpose(1, 0, 2).reshape(channels, -1)
    basis = np.linalg.eigh(wide @ wide.T)[1][:, ::-1][:, :rank]
    small = np.einsum("pcy,cr->pry", kernel, basis)
    return {"basis": basis, "kernel": small.astype(np.float32)}
