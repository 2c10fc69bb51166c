"""The variables of a network: drawn at random, or out of the arrays of a file."""

import os
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from unlir_jax import tree
from unlir_jax.core.document_types import Document
from unlir_jax.models import channels, layers, part_network, positions, zoo
from unlir_jax.models.backbone import Network
from unlir_jax.models.shapes import shapes
from unlir_jax.storage import paths as places
from unlir_jax.types import Module, PyTree, Variables
from unlir_jax.weights import (
    exported,
    hub,
    layouts,
    packages,
    preparation,
    readers,
    selection,
)
from unlir_jax.weights.contents import WeightFile

RANDOM = "random"


class Begun(NamedTuple):
    """A network and its variables, whole, and where they come from.

    `source` says where for people, `told` for records, see `paths.told`.
    """

    network: Network
    module: Module
    variables: Variables
    made_for: exported.Purpose
    prepared_by: str
    source: str
    key: str
    sha256: str
    trained: int
    told: str


class Wanted(NamedTuple):
    """What is asked of `pretrained.load`; a `name` of "": the one that a file says."""

    name: str
    weights: str | os.PathLike[str] | None
    key: str
    num_classes: int | None
    dtype: DTypeLike | None
    seed: int
    decision: Document
    new_head: bool
    image_size: int | None = None
    positions: str | None = None


def draw(wanted: Wanted) -> Begun:
    """Draw an untrained network."""
    name, network = _sized(zoo.find(wanted.name), wanted.image_size)
    classes = network.classes if wanted.num_classes is None else wanted.num_classes
    module = _build(network, classes, wanted.dtype, wanted.decision)
    variables = random_variables(module, network, wanted.seed)
    usual = _usual(name, network)
    hashed = tree.sha256(variables)
    by = preparation.USUAL
    begun = network, module, variables, usual, by, RANDOM, ""
    return Begun(*begun, hashed, 0, RANDOM)


def _usual(name: str, network: Network) -> exported.Purpose:
    size, crop, mode = network.image_size, network.crop, network.interpolation
    return exported.Purpose(name, (), size, crop, interpolation=mode)


def _sized(found: tuple[str, Network], image_size: int | None) -> tuple[str, Network]:
    """Make a network for images of another size.

    Raises:
        ValueError: A size that is none.
    """
    name, network = found
    if image_size is None:
        return name, network
    if image_size < 1:
        raise ValueError(f"`image_size`={image_size}; expected at least 1 pixel.")
    return name, network._replace(image_size=image_size)


def read(wanted: Wanted) -> Begun:
    """Read a network's weights out of a file, which is opened once."""
    path = _locate(wanted.name, wanted.weights)
    with readers.open_file(path) as file:
        exported.check_hash(path, file.sha256)
        name = wanted.name or file.metadata.get("network", "")
        return _read(wanted._replace(name=name), file, path)


def _read(wanted: Wanted, file: WeightFile, path: Path) -> Begun:
    name, network = _sized(zoo.find(wanted.name), wanted.image_size)
    contents = network.spelt(file.arrays)
    source, seed = str(wanted.weights or path), wanted.seed
    if wanted.weights is None and network.package:
        packages.verify(network.package, path, file.sha256)
    purpose = exported.understand(file.metadata, path)
    _check_origin(file, path, name)
    known = purpose.decision if purpose else {}
    style = wanted.dtype, known, exported.pooling(file.metadata)
    seen = _classes_seen(contents.shapes, network)
    expected = shapes(_build(network, seen, *style), network.image_size)
    chosen = selection.select(
        contents, expected, network.layouts, key=wanted.key, source=source
    )
    arrays = selection.take(contents, chosen, source)
    if wanted.name == name:
        name, network = _namesake(name, network, str(wanted.weights), arrays)
    made_for, by = _prepared(name, network, purpose, wanted.weights, path, file)
    colours = {"mean": made_for.mean, "deviation": made_for.deviation}
    colours = {word: values for word, values in colours.items() if values}
    classes = wanted.num_classes
    if classes is None:
        classes = classes_in(arrays, network)
        if chosen.head:
            _check_names(made_for.class_names, classes, source)
    layout, names = layouts.closest(arrays, expected, network.layouts)
    colours |= network.attributes.get(layout, {})
    rule = wanted.positions or network.positions.get(layout, "")
    _resize_positions(arrays, names, expected, rule)
    module = channels.as_wide_as(_build(network, classes, *style, colours), arrays)
    front = "" if chosen.key == selection.ROOT else chosen.key
    new = {"new_head": wanted.new_head, "after": front}
    variables = fill(module, network, arrays, name, source, seed, **new)
    trained = classes_in(arrays, network) if chosen.head else 0
    if wanted.decision and wanted.decision != part_network.specification(module):
        module, variables = _decide(module, variables, network, wanted.decision, seed)
        trained = 0  # Its classifier is new.
    told = places.told(source) + chosen.remark
    source += chosen.remark
    loaded = network, module, variables, made_for, by, source, front
    return Begun(*loaded, file.sha256, trained, told)


def _locate(name: str, weights: str | os.PathLike[str] | None) -> Path:
    """Find a network's file of weights, downloaded first where it is on the Hub."""
    if weights is not None:
        return hub.resolve(weights)
    name, network = zoo.find(name)
    path = packages.find(network.package)
    if path is None:
        raise ValueError(
            f"`weights`=None, but no weights of {name} are at hand: "
            f"{packages.advice(network.package)}, or weights='random' for an untrained "
            "network."
        )
    return path


def _classes_seen(names: Mapping[str, tuple[int, ...]], network: Network) -> int:
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


def _check_names(names: Sequence[str], classes: int, source: str) -> None:
    """Refuse names that would belong to other classes."""
    if names and len(names) != classes:
        raise ValueError(
            f"The header of {source!r} names {len(names)} classes, and its classifier "
            f"has {classes}; expected a name for each class."
        )


def _prepared(
    name: str,
    network: Network,
    purpose: exported.Purpose | None,
    weights: str | os.PathLike[str] | None,
    path: Path,
    file: WeightFile,
) -> tuple[exported.Purpose, str]:
    """Say how images are prepared for a file's weights, and who says so."""
    if purpose is not None:
        return purpose, f"the header of {path.name}"
    usual = _usual(name, network)
    if weights is None:
        return usual, preparation.USUAL

    def is_other(architecture: str) -> bool:
        ours = zoo.synonyms().get(architecture, architecture)
        return zoo.is_known(ours) and ours not in (name, network.timm)

    said = preparation.find(weights, path, file, is_other, network.prepared)
    module = network.build()
    colours = {
        word: values
        for word in ("mean", "deviation")
        if (values := getattr(said, word)) and values != tuple(getattr(module, word))
    }
    frame = {
        word: value
        for word in ("image_size", "crop", "interpolation")
        if (value := getattr(said, word)) is not None
    }
    return usual._replace(**frame, **colours), said.origin


def _resize_positions(
    arrays: dict[str, np.ndarray],
    names: Mapping[str, str],
    expected: Mapping[str, PyTree],
    rule: str,
) -> None:
    """Bring the positions of a file to the size of a network's grid, in place."""
    name = names.get(positions.PATH, "")
    if name in arrays and rule:
        places = expected[positions.PATH].shape[1]
        arrays[name] = positions.resize(arrays[name], places, rule)


def _check_origin(file: WeightFile, path: Path, name: str) -> None:
    """Refuse a file of ours that says it belongs to another network.

    Two networks can have the same names and shapes, as the EfficientNet-Lites do.
    """
    network = file.metadata.get("network", name)
    if file.metadata.get("format") == exported.FORMAT and network != name:
        raise ValueError(
            f"`weights`={str(path)!r} holds weights of {network}, not of {name}; load "
            f"them by that name."
        )


def _namesake(
    name: str, network: Network, weights: str, arrays: Mapping[str, np.ndarray]
) -> tuple[str, Network]:
    """Tell timm's own network of this name from ours in timm's names.

    Tensors of TensorFlow's EfficientNet-Lite and timm's own have the same names and
    shapes, but padding, epsilon and the colours' scale differ. timm calls the one
    `tf_efficientnet_lite0` and the other `efficientnet_lite0`: so does whoever names
    the network or the file.
    """
    stem = layouts.their_name(
        "params/stem/conv/kernel", network.layouts.get("timm", {})
    )
    for other, known in zoo.networks().items():
        ours = any(word in weights for word in network.synonyms)
        if known.timm == name and stem in arrays and not ours:
            return other, known
    return name, network


def _build(
    network: Network,
    classes: int,
    dtype: DTypeLike | None,
    decision: Document,
    pooling: str = "",
    colours: Mapping[str, tuple[float, ...]] = types.MappingProxyType({}),
) -> Module:
    if classes < 1 and network.classes:
        raise ValueError(f"`num_classes`={classes}; expected at least 1.")
    built = network.build(num_classes=classes, **colours)
    module = layers.with_pooling(built, pooling)
    if dtype is not None:
        module = module.clone(style=module.style._replace(dtype=dtype))
    if not decision:
        return module
    return part_network.assemble(module, decision, classes, network.image_size)


def _decide(
    module: Module,
    variables: Variables,
    network: Network,
    decision: Document,
    seed: int,
) -> tuple[Module, Variables]:
    """Put a new decision by parts on the backbone of a network."""
    backbone = getattr(module, "backbone", module)
    new = part_network.assemble(
        backbone, decision, module.num_classes, network.image_size
    )
    drawn = tree.flatten(random_variables(new, network, seed))
    ours = tree.flatten(variables)
    if not hasattr(module, "backbone"):
        ours = {path.replace("/", "/backbone/", 1): leaf for path, leaf in ours.items()}
    taken = {
        path: ours[path] if "/backbone/" in path else leaf
        for path, leaf in drawn.items()
    }
    return new, tree.unflatten(taken)


def example(network: Network) -> jax.ShapeDtypeStruct:
    """Give the shape of one image of the size that a network is made for."""
    size = network.image_size
    return jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)


def random_variables(module: Module, network: Network, seed: int = 0) -> Variables:
    """Draw the variables of an untrained backbone, normal as He et al.

    The same distribution as the module's own `init`, whose compilation takes from
    twenty seconds to minutes on CPU; kernels are drawn by NumPy instead.
    """
    generator = np.random.default_rng(seed)
    drawn = {
        path: _draw(generator, path, leaf)
        for path, leaf in shapes(module, network.image_size).items()
    }
    return tree.unflatten(drawn)


def _draw(generator: np.random.Generator, path: str, leaf: PyTree) -> np.ndarray:
    name = path.rpartition("/")[2]
    if name != "kernel":
        ones = name in ("scale", "var")
        return (np.ones if ones else np.zeros)(leaf.shape, np.float32)
    *space, incoming, outgoing = leaf.shape
    # Convolutions by what they feed, dense layers by what feeds them.
    fan = np.prod(space) * outgoing / 2 if space else incoming
    if space and incoming == 1:  # Depthwise: each filter feeds one channel.
        fan = np.prod(space) / 2
    return generator.normal(0, fan**-0.5, leaf.shape).astype(np.float32)


def classes_in(arrays: Mapping[str, np.ndarray], network: Network) -> int:
    """Count the classes of a file's classifier; the network's without one."""
    for table in network.layouts.values():
        for leaf, axes in (("bias", 1), ("weight", 2)):
            found = arrays.get(f"{table['classifier']}.{leaf}")
            if found is not None and np.ndim(found) == axes:
                return len(found)
    own = arrays.get("params/classifier/kernel")
    return network.classes if own is None else own.shape[-1]


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
    lacks_head = set(expected) - set(leaves) == classifier and not fit.unexpected
    if new_head and lacks_head:
        generator = np.random.default_rng(seed)
        for path in sorted(classifier):
            leaves[path] = _draw(generator, path, expected[path])
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
