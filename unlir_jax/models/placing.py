"""The arrays of a file, placed in the variables of a network."""

from collections.abc import Mapping

import numpy as np

from unlir_jax import tree
from unlir_jax.models import channels, drawing, positions
from unlir_jax.models.backbone import Network
from unlir_jax.models.shapes import shapes
from unlir_jax.types import Module, PyTree, Variables
from unlir_jax.weights import layouts, selection


def classes_seen(names: Mapping[str, tuple[int, ...]], network: Network) -> int:
    """Count the classes that a file seems to have, before its network is found."""
    heads = [table["classifier"] for table in network.layouts.values()]
    ends = tuple(f"{head}.bias" for head in heads) + ("params/classifier/bias",)
    for name, shape in names.items():
        if name.endswith(ends) and len(shape) == 1 and shape[0]:
            return shape[0]
    for name, shape in names.items():
        # Of a classifier without a bias; a name alone would also end another's.
        if len(shape) == 2 and name in [f"{head}.weight" for head in heads]:
            return shape[0]
    return network.classes


def classes_in(arrays: Mapping[str, np.ndarray], network: Network) -> int:
    """Count the classes of a file's classifier; the network's without one."""
    for table in network.layouts.values():
        for leaf, axes in (("bias", 1), ("weight", 2)):
            found = arrays.get(f"{table['classifier']}.{leaf}")
            if found is not None and np.ndim(found) == axes:
                return len(found)
    own = arrays.get("params/classifier/kernel")
    return network.classes if own is None else own.shape[-1]


def resize_positions(
    arrays: dict[str, np.ndarray],
    names: Mapping[str, str],
    expected: Mapping[str, PyTree],
    rule: str,
) -> bool:
    """Bring the positions of a file to the size of a network's grid, in place.

    Returns:
        Whether they had another.

    Raises:
        ValueError: They are of a grid that is no square.
    """
    name = names.get(positions.PATH, "")
    if name not in arrays or arrays[name].ndim != 3:
        return False
    places = expected[positions.PATH].shape[1]
    own = arrays[name]
    arrays[name] = positions.resize(own, places, rule)
    return arrays[name] is not own


def fill(
    module: Module,
    network: Network,
    arrays: Mapping[str, np.ndarray],
    name: str,
    source: str,
    seed: int = 0,
    *,
    new_head: bool = False,
    after: str = "",
) -> Variables:
    """Put a file's arrays into a network's variables, or say what does not fit.

    Args:
        module: The network.
        network: Entry of the network in the zoo.
        arrays: By their names in the file, without what stands before all of them.
        name: Name of the network.
        source: Source of the file.
        seed: Seed of a new classifier.
        new_head: Whether a classifier that is missing, or has another number of
            classes, is drawn anew.
        after: What stands before the names in the file.

    Raises:
        ValueError: Names that are missing, unexpected or mis-shaped, every one listed,
            or values that are not finite floating point numbers.
    """
    expected = shapes(module, network.image_size)
    leaves, fit = layouts.translate(
        arrays, expected, network.layouts, source, channels.flattened(module)
    )
    classifier = {path for path in expected if path.startswith(selection.HEAD)}
    lacks_head = bool(classifier) and not fit.unexpected
    lacks_head &= set(expected) - set(leaves) == classifier
    if new_head and lacks_head:
        generator = np.random.default_rng(seed)
        for path in sorted(classifier):
            leaves[path] = drawing.leaf_of(generator, path, expected[path])
        fit = fit._replace(missing=[], misshaped=[])
    elif lacks_head and not fit.misshaped:
        raise ValueError(
            f"`weights`={source!r} has no classifier of {name} "
            f"({', '.join(fit.missing)}); expected num_classes=N for a new, untrained "
            "one, or weights with a classifier."
        )
    if fit.missing or fit.unexpected or fit.misshaped:
        raise ValueError(fit.sentence(source, name, after))
    broken = [path for path, leaf in leaves.items() if not np.isfinite(leaf).all()]
    if broken:
        raise ValueError(
            f"`weights`={source!r} holds values that are not finite in "
            f"{', '.join(broken)}; expected numbers."
        )
    return tree.unflatten({path: leaves[path] for path in expected})
