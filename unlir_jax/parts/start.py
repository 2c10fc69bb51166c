"""Starting values of parts and of their class weights, from a frozen network.

Whitening and k-means find what cells are alike, without labels; a ridge regression then
says in closed form what each part's descriptor means for each class. Gradient descent
may continue from there, and has to where there are too many images.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import jax
import numpy as np

from unlir_jax import tree
from unlir_jax.models import pooling
from unlir_jax.models.part_network.cells import unpack
from unlir_jax.parts import clustering, encoding, groups, products, projection, ridge
from unlir_jax.parts.products import chunks
from unlir_jax.types import Array, Module, RandomKey, Variables

CELLS = 60_000
# The inner products of all pairs of so many images still fit into memory.
MOST_PICTURES = 12_000
SOLVERS = {
    "lda": None,
    "assignment": "hungarian",
    "ipfp": "ipfp",
    "soft_assign": "soft_assign",
    "groups": "hungarian",
}
"""Of `groups.learn`, for the parts of classes or of groups of images."""

PARTS = ("kmeans", *SOLVERS, "class_kmeans", "project", "random")
CLASSIFIERS = ("ridge", "random")
# Parts of each group of images that are alike.
PER_GROUP = 4
WHITENINGS = ("none", "neighbours")
AT = "params/classifier/"


class Start(NamedTuple):
    """Hold variables to start from, and what became known on the way.

    Attributes:
        variables: Variables of the part network.
        notes: Numbers by name, such as the accuracy of leaving one image out.
    """

    variables: Variables
    notes: dict[str, float]


def start(
    module: Module,
    variables: Variables,
    maps: Array,
    labels: Array,
    *,
    key: RandomKey,
    parts: str = "kmeans",
    classifier: str = "ridge",
    whitening: str = "none",
    labels_per_class: int = 0,
    restarts: int = 3,
    progress: Callable[[str], None] = lambda text: None,
) -> Start:
    """Fit a part network to the maps of its frozen backbone.

    Args:
        module: A `models.parts.PartNet`.
        variables: Its variables, to be filled in.
        maps: What its `features` gave of the training images, `[images, rows,
            columns, channels]`; may lie on the disk, and is read by chunks.
        labels: int `[images]`.
        key: Key of the sampled locations and of the clustering.
        parts: `kmeans`: white spaces from the cells' covariance, parts from spherical
            k-means in them; `lda` and `assignment`: in those spaces, parts of classes
            by discriminant analysis or quadratic assignment (by Hungarian alternation,
            or `ipfp` or `soft_assign`, see `assignment.solve`); `groups`: the same
            for groups of images that are alike, without labels, see `groups.learn`;
            `class_kmeans`: prototypes from k-means of each class, see
            `projection.seed`; `project`: each prototype becomes a cell of a training
            image, see `projection.project`; `random`: as they are.
        classifier: `ridge`: in closed form, see `ridge.solve`; `random`: as it is.
        whitening: Whitening of descriptors before the ridge regression, from all images
            without their labels: `none`, or `neighbours`, see `encoding.whiten`.
        labels_per_class: How many labels of each class the ridge regression may know,
            drawn by the key; 0: all. Parts by k-means use none in any case.
        restarts: Number of restarts of k-means.
        progress: Told what is being done.

    Raises:
        ValueError: A way to start that does not exist, or does not suit the decision
            or the number of images.
    """
    labels = np.asarray(labels)
    check(
        module,
        len(labels),
        parts=parts,
        classifier=classifier,
        whitening=whitening,
        labels_per_class=labels_per_class,
    )
    leaves = {path: np.asarray(leaf) for path, leaf in tree.flatten(variables).items()}
    first, second, third = jax.random.split(key, 3)
    if parts not in ("project", "random"):
        progress("whitening")
        leaves |= _whiten(module, leaves, maps, first)
    progress("parts")
    leaves, notes = _find(
        module, leaves, maps, labels, parts, restarts, (second, third)
    )
    if classifier == "ridge":
        progress("classifier")
        known = draw_labels(labels, labels_per_class, key)
        gathered = products.gather(module, tree.unflatten(leaves), maps)
        fitted, solved = decide(module, gathered, labels, known, whitening)
        leaves |= fitted
        notes["start/left_out_accuracy"] = solved.accuracy
        notes["start/penalty"] = solved.penalty
    return Start(tree.unflatten(leaves), notes)


def _find(
    module: Module,
    leaves: dict[str, np.ndarray],
    maps: Array,
    labels: np.ndarray,
    parts: str,
    restarts: int,
    keys: tuple[RandomKey, RandomKey],
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Fill in the parts; see `start`."""
    variables = tree.unflatten(leaves)
    if parts == "kmeans":
        cells = _embed(module, variables, maps, keys[0])
        found = clustering.kmeans(
            cells,
            module.classifier.parts,
            key=keys[1],
            restarts=restarts,
            spherical=True,
        )
        leaves[f"{AT}parts/kernel"] = np.asarray(found.centres).T
        return leaves, {"start/inertia": float(found.inertia[-1]) / len(cells)}
    if parts in SOLVERS:
        kernel = _by_group(module, variables, maps, labels, parts, keys[1])
        leaves[f"{AT}parts/kernel"] = kernel
    elif parts == "class_kmeans":
        seeded = projection.seed(module, variables, maps, labels, key=keys[1])
        leaves = tree.flatten(seeded)
    elif parts == "project":
        moved = projection.project(module, variables, maps, labels)
        distance = float(moved.distance.mean())
        return tree.flatten(moved.variables), {"start/projection_distance": distance}
    return leaves, {}


def check(
    module: Module,
    pictures: int,
    *,
    parts: str,
    classifier: str,
    whitening: str = "none",
    labels_per_class: int = 0,
) -> None:
    """Refuse ways to start that do not exist or do not fit; see `start`."""
    for name, value, known in (
        ("parts", parts, PARTS),
        ("classifier", classifier, CLASSIFIERS),
        ("whitening", whitening, WHITENINGS),
    ):
        if value not in known:
            raise ValueError(
                f"`start.{name}`={value!r}; expected one of {', '.join(known)}."
            )
    own, head = ("class_kmeans", "project", "random"), module.classifier
    if parts not in own and head.parts_of_classes:
        raise ValueError(
            f"`start.parts`={parts!r} gives parts of no class each, but each has to be "
            "a class's here; expected 'class_kmeans', 'project' or 'random'."
        )
    if labels_per_class < 0:
        raise ValueError(
            f"`start.labels_per_class`={labels_per_class}; expected 0 for all, or more."
        )
    if classifier != "ridge" and (whitening != "none" or labels_per_class):
        raise ValueError(
            f"`start.whitening`={whitening!r} and `start.labels_per_class`="
            f"{labels_per_class} are for start.classifier='ridge'; expected 'none' and "
            "0, or that."
        )
    if classifier == "ridge" and not head.solvable:
        raise ValueError(
            "`start.classifier`='ridge' needs parts that carry descriptors; expected "
            "decision.name='descriptors', or 'random'."
        )
    if classifier == "ridge" and pictures > MOST_PICTURES:
        raise ValueError(
            f"`start.classifier`='ridge' compares all pairs of {pictures} images; "
            f"expected at most {MOST_PICTURES}, or 'random' and more steps."
        )


def sample(
    compute: Callable[[np.ndarray], Array], maps: Array, key: RandomKey
) -> np.ndarray:
    """Draw cells evenly from all images: `[cells, width]`, at most about `CELLS`."""
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    kept = []
    for first, rows in chunks(maps):
        cells = np.asarray(compute(rows))[: len(maps) - first]
        cells = cells.reshape(-1, cells.shape[-1])
        share = min(1.0, CELLS * len(rows) / len(maps) / max(len(cells), 1))
        kept.append(cells[random.random(len(cells)) < share])
    return np.concatenate(kept)


def _whiten(
    module: Module, leaves: Mapping[str, Array], maps: Array, key: RandomKey
) -> dict[str, np.ndarray]:
    """Fit the white space of each layer that has one."""
    head = module.classifier
    fitted = {}
    for layer, dimensions in zip(("last", "finer"), head.dimensions, strict=True):
        if f"{AT}regions/{layer}/kernel" not in leaves:
            continue

        def compute(rows: np.ndarray, layer: str = layer) -> Array:
            grid = unpack(rows, module.channels, module.others)
            # What has a kernel has maps.
            return grid.maps if layer == "last" else cast(jax.Array, grid.finer)

        regions = sample(compute, maps, key)
        white = clustering.whitening(regions, dimensions)
        missing = dimensions - white.matrix.shape[1]
        kernel = np.pad(np.asarray(white.matrix), ((0, 0), (0, missing)))
        fitted[f"{AT}regions/{layer}/mean"] = np.asarray(white.mean)
        fitted[f"{AT}regions/{layer}/kernel"] = kernel
    return fitted


def _embed(
    module: Module, variables: Variables, maps: Array, key: RandomKey
) -> np.ndarray:
    embed = jax.jit(functools.partial(module.apply, method="describe_cells"))
    return sample(functools.partial(embed, variables), maps, key)


def _by_group(
    module: Module,
    variables: Variables,
    maps: Array,
    labels: np.ndarray,
    how: str,
    key: RandomKey,
) -> np.ndarray:
    """Learn parts of classes, or of groups of images that are alike."""

    @jax.jit
    def look(variables: Variables, rows: Array) -> tuple[jax.Array, jax.Array]:
        grid = unpack(rows, module.channels, module.others)
        cells = module.apply(variables, rows, method="describe_cells")
        return cells.reshape((len(rows), -1, cells.shape[-1])), pooling.average(
            grid.maps
        )

    # As many images of each class as a group may learn from.
    place = np.zeros(len(labels), int)
    for label in np.unique(labels):
        own = labels == label
        place[own] = np.arange(own.sum())
    kept = np.flatnonzero(place < groups.MOST)
    found = [look(variables, rows) for _, rows in chunks(maps[kept])]
    regions, pooled = (
        np.concatenate([np.asarray(each[entry]) for each in found])[: len(kept)]
        for entry in (0, 1)
    )
    named, count = labels[kept], module.classifier.parts
    if how == "groups":
        first, key = jax.random.split(key)
        named = groups.alike(pooled, max(1, count // PER_GROUP), key=first)
    return groups.learn(regions, named, count, key=key, solver=SOLVERS[how]).T


def decide(
    module: Module,
    found: products.Products,
    labels: np.ndarray,
    known: np.ndarray,
    whitening: str = "none",
) -> tuple[dict[str, np.ndarray], ridge.Ridge]:
    """Fit the classifier to the descriptors of all parts.

    Args:
        module: The part network.
        found: Descriptors of all images.
        labels: Labels of all images.
        known: Places of the images whose labels count.
        whitening: See `start`.

    Returns:
        The decision's parameters that this makes, by path, and the regression.
    """
    classes = module.classifier.classes
    dual = np.zeros((len(labels), classes))
    if whitening == "neighbours":
        white = encoding.whiten(found.values)
        usual = white.encodings[known].mean(0)
        rows = white.encodings[known] - usual
        solved = ridge.solve(rows @ rows.T, labels[known], classes)
        weights = rows.T @ solved.dual
        dual = white.combinations @ weights
        bias = solved.bias - usual @ weights
    else:
        some = found.values[np.ix_(known, known)]
        # Less the mean of those whose labels are known.
        some = some - some.mean(0) - some.mean(1)[:, None] + some.mean()
        solved = ridge.solve(some, labels[known], classes)
        dual[known] = solved.dual - solved.dual.mean(0)
        bias = solved.bias - found.values[known].mean(0) @ dual
    fitted = {"mean": found.mean, "scale": found.scale, "bias": bias}
    fitted |= _factors(found.combine(dual), module.classifier.rank)
    named = {AT + name: np.asarray(leaf, np.float32) for name, leaf in fitted.items()}
    return named, solved


def draw_labels(labels: np.ndarray, per_class: int, key: RandomKey) -> np.ndarray:
    """Draw the images whose labels are known, in order.

    Args:
        labels: Labels of all images.
        per_class: Number of each class; 0: all.
        key: Key given to `start`.

    Raises:
        ValueError: A class has fewer.
    """
    if not per_class:
        return np.arange(len(labels))
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    drawn = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        if len(own) < per_class:
            raise ValueError(
                f"`start.labels_per_class`={per_class}, but class {label} has "
                f"{len(own)} images; expected at most as many as the smallest class."
            )
        drawn.append(random.permutation(own)[:per_class])
    return np.sort(np.concatenate(drawn))


def _factors(kernel: np.ndarray, rank: int) -> dict[str, np.ndarray]:
    """Give a kernel, or its best approximation by a basis that all parts share."""
    if not rank:
        return {"kernel": kernel}
    parts, channels, classes = kernel.shape
    wide = kernel.transpose(1, 0, 2).reshape(channels, -1)
    basis = np.linalg.eigh(wide @ wide.T)[1][:, ::-1][:, :rank]
    small = np.einsum("pcy,cr->pry", kernel, basis)
    return {"basis": basis, "kernel": small.astype(np.float32)}
