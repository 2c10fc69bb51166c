"""The variables of a network: drawn at random, or out of the arrays of a file."""

import functools
import os
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import tree
from unlir_jax.models import channels, layers, part_network, zoo
from unlir_jax.weights import (
    exported,
    hub,
    layouts,
    packages,
    preparation,
    readers,
    selection,
)

RANDOM = "random"


class Begun(NamedTuple):
    """A network and its variables, whole, and where they come from."""

    network: zoo.Network
    module: Any
    variables: dict[str, Any]
    made_for: exported.Purpose
    prepared_by: str
    source: str
    key: str
    sha256: str
    trained: int


def draw(
    name: str,
    network: zoo.Network,
    num_classes: int | None,
    dtype: Any,
    seed: int,
    decision: Mapping[str, Any] | None,
) -> Begun:
    """Draw an untrained network."""
    classes = network.classes if num_classes is None else num_classes
    module = _build(network, classes, dtype, decision or {})
    variables = random_variables(module, network, seed)
    usual = exported.Purpose(name, (), network.image_size, network.crop)
    hashed = tree.sha256(variables)
    by = preparation.USUAL
    return Begun(network, module, variables, usual, by, RANDOM, "", hashed, 0)


def read(
    asked: str,
    weights: str | os.PathLike[str] | None,
    key: str,
    num_classes: int | None,
    dtype: Any,
    seed: int,
    decision: Mapping[str, Any] | None,
    new_head: bool,
) -> Begun:
    """Read a network's weights out of a file; see `pretrained.load`."""
    name, network = zoo.find(asked)
    path = _find(name, weights)
    source, sha256 = str(weights or path), readers.sha256(path)
    exported.check_hash(path, sha256)
    contents, purpose = readers.open_weights(path), exported.purpose(path)
    _check_origin(path, name)
    known = purpose.decision if purpose else {}
    pooling = exported.pooling(path)
    expected = shapes(
        _build(network, _classes_seen(contents.shapes, network), dtype, known, pooling),
        network.image_size,
    )
    chosen = selection.select(
        contents, expected, network.layouts, key=key, source=source
    )
    arrays = selection.take(contents, chosen, source)
    if _is_timm_lite(asked, name, str(weights), arrays):
        name, network = zoo.find(f"timm_{name}")
    made_for, by = _prepared(name, network, purpose, weights, path, sha256)
    colours = {"mean": made_for.mean, "deviation": made_for.deviation}
    colours = {word: values for word, values in colours.items() if values}
    classes = classes_in(arrays, network) if num_classes is None else num_classes
    if num_classes is None and chosen.head:
        _check_names(made_for.class_names, classes, source)
    module = _build(network, classes, dtype, known, pooling, colours)
    module = channels.as_wide_as(module, arrays)
    front = "" if chosen.key == selection.ROOT else chosen.key
    variables = fill(
        module, network, arrays, name, source, seed, new_head=new_head, after=front
    )
    trained = classes_in(arrays, network) if chosen.head else 0
    if decision and decision != part_network.specification(module):
        module, variables = _decide(module, variables, network, decision, seed)
        trained = 0  # Its classifier is new.
    source += chosen.remark
    return Begun(
        network, module, variables, made_for, by, source, front, sha256, trained
    )


def _classes_seen(names: Mapping[str, tuple[int, ...]], network: zoo.Network) -> int:
    """Count the classes that a file seems to have, before its network is found."""
    ends = tuple(f"{table['classifier']}.bias" for table in network.layouts.values())
    ends += ("params/classifier/bias",)
    for name, shape in names.items():
        if name.endswith(ends) and len(shape) == 1 and shape[0]:
            return shape[0]
    return network.classes


def _check_names(names: Sequence[str], classes: int, source: str) -> None:
    """Refuse names that would be those of other classes."""
    if names and len(names) != classes:
        raise ValueError(
            f"The header of {source!r} names {len(names)} classes, and its classifier "
            f"has {classes}; expected a name for each class."
        )


def _prepared(
    name: str,
    network: zoo.Network,
    purpose: exported.Purpose | None,
    weights: str | os.PathLike[str] | None,
    path: Path,
    sha256: str,
) -> tuple[exported.Purpose, str]:
    """Say how pictures are prepared for a file's weights, and who says so."""
    if purpose is not None:
        return purpose, f"the header of {path.name}"
    usual = exported.Purpose(name, (), network.image_size, network.crop)
    if weights is None:
        return usual, preparation.USUAL

    def is_other(architecture: str) -> bool:
        ours = zoo.SYNONYMS.get(architecture, architecture)
        return ours in zoo.networks() and ours not in (name, name.removeprefix("timm_"))

    said = preparation.find(weights, path, sha256, is_other)
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


def _find(name: str, weights: str | os.PathLike[str] | None) -> Path:
    if weights is not None:
        return hub.resolve(weights)
    path = packages.find(name)
    if path is None:
        raise ValueError(
            f"`weights`=None, but no weights of {name} are at hand: "
            f"{packages.advice(name)}, or weights='random' for an untrained network."
        )
    packages.verify(name, path)
    return path


def _check_origin(path: Path, name: str) -> None:
    """Refuse a file of ours that says it belongs to another network.

    Two networks can have the same names and shapes, as the EfficientNet-Lites do.
    """
    if path.suffix != ".safetensors":
        return
    metadata = readers.read_metadata(path)
    network = metadata.get("network", name)
    if metadata.get("format") == "unlir_jax" and network != name:
        raise ValueError(
            f"`weights`={str(path)!r} holds weights of {network}, not of {name}; load "
            f"them by that name."
        )


def _is_timm_lite(
    asked: str, name: str, weights: str, arrays: Mapping[str, np.ndarray]
) -> bool:
    """Tell timm's own EfficientNet-Lite from TensorFlow's in timm's names.

    The tensors have the same names and shapes, but padding, epsilon and the colours'
    scale differ. timm calls the one `efficientnet_lite0` and the other
    `tf_efficientnet_lite0`: so does whoever names the network or the file.
    """
    return (
        asked == name
        and name.startswith("efficientnet_lite")
        and "conv_stem.weight" in arrays
        and "tf_efficientnet" not in weights
    )


def _build(
    network: zoo.Network,
    classes: int,
    dtype: Any,
    decision: Mapping[str, Any],
    pooling: str = "",
    colours: Mapping[str, tuple[float, ...]] = types.MappingProxyType({}),
) -> Any:
    if classes < 1:
        raise ValueError(f"`num_classes`={classes}; expected at least 1.")
    built = network.build(num_classes=classes, **colours)
    module = layers.with_pooling(built, pooling)
    if dtype is not None:
        module = module.clone(style=module.style._replace(dtype=dtype))
    if not decision:
        return module
    return part_network.assemble(module, decision, classes, network.image_size)


def _decide(
    module: Any,
    variables: Mapping[str, Any],
    network: zoo.Network,
    decision: Mapping[str, Any],
    seed: int,
) -> tuple[Any, dict[str, Any]]:
    """Put a new decision by parts on the trunk of a network."""
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


def example(network: zoo.Network) -> jax.ShapeDtypeStruct:
    """Give the shape of one picture of the size that a network is made for."""
    size = network.image_size
    return jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)


def random_variables(
    module: Any, network: zoo.Network, seed: int = 0
) -> dict[str, Any]:
    """Draw the variables of an untrained backbone, normal with He's deviation.

    The same distribution as the module's own `init`, whose compilation takes from
    twenty seconds to minutes on CPU; kernels are drawn by NumPy instead.
    """
    generator = np.random.default_rng(seed)
    drawn = {
        path: _draw(generator, path, leaf)
        for path, leaf in shapes(module, network.image_size).items()
    }
    return tree.unflatten(drawn)


def _draw(generator: np.random.Generator, path: str, leaf: Any) -> np.ndarray:
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


def classes_in(arrays: Mapping[str, np.ndarray], network: zoo.Network) -> int:
    """Count the classes of a file's classifier; those of the network without one."""
    for table in network.layouts.values():
        bias = arrays.get(f"{table['classifier']}.bias")
        if bias is not None and np.ndim(bias) == 1:
            return len(bias)
    own = arrays.get("params/classifier/bias")
    return network.classes if own is None else len(own)


@functools.lru_cache(maxsize=16)
def shapes(module: Any, image_size: int) -> Mapping[str, Any]:
    """Give the shapes of a module's variables by path."""
    one = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    return tree.flatten(jax.eval_shape(module.init, jax.random.key(0), one))


def fill(
    module: Any,
    network: zoo.Network,
    arrays: Mapping[str, np.ndarray],
    name: str,
    source: str,
    seed: int = 0,
    *,
    new_head: bool = False,
    after: str = "",
) -> dict[str, Any]:
    """Put a file's arrays into a network's variables, or say what does not fit.

    Args:
        module: The network.
        network: Its entry in the zoo.
        arrays: By their names in the file, without what stands before all of them.
        name: Of the network.
        source: Of the file.
        seed: Of a new classifier.
        new_head: Whether a classifier that is missing, or has another number of
            classes, is drawn anew.
        after: What stands before the names in the file.

    Raises:
        ValueError: Names that are missing, unexpected or mis-shaped, every one listed,
            or values that are not finite floating point numbers.
    """
    expected = shapes(module, network.image_size)
    leaves, fit = layouts.translate(arrays, expected, network.layouts, source)
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
